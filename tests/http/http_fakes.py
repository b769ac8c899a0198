"""A world for the handlers to live in: fakes that behave, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from state.errors import Inconsistent, Invisible, NotInPlan, Rejected, Unavailable, UnknownCaller
from state.model import (
    Action,
    AtWork,
    Change,
    Embedding,
    EncoderAddress,
    EncoderRecord,
    EncoderStatus,
    Hit,
    ImageRef,
    Matrix,
    Plan,
    Progress,
    Project,
    ProjectStatus,
    Quarantined,
    Reason,
    Scope,
    Start,
    StoredImage,
    TaskStatus,
    TextEmbeddings,
    Vectors,
    Within,
)
from state.ports import Store
from state.stores.memory import MemoryStore

CATS, DOGS, EMPTY, DISABLED, SECRET = 1, 2, 3, 4, 5
AXES = {"red": 0, "green": 1, "blue": 2, "white": 3}
DIMENSION = 8
CHECKS = ("qdrant", "clip", "generator", "scheduler", "source")


def unit(*weights: float) -> Vectors:
    """Return the unit vector with these leading components."""
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(weights)] = weights
    return vector / np.linalg.norm(vector)


def embedding(image_id: int, vector: Vectors, project_id: int = CATS, dataset_id: int = 10) -> Embedding:
    name = f"{image_id}.jpg"
    return Embedding(
        StoredImage(image_id, project_id, dataset_id, name, f"hash-{image_id}", f"cats/{name}", "monday"),
        vector,
    )


class FakeSource:
    identity = "fake"
    proves_absence = True
    delivers_whole = True
    fallback_routes: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.projects = {
            CATS: Project(CATS, "cats"),
            DOGS: Project(DOGS, "2024"),
            EMPTY: Project(EMPTY, "empty"),
            DISABLED: Project(DISABLED, "disabled", enabled=False),
            SECRET: Project(SECRET, "secret"),
        }
        self.images: dict[int, set[int]] = {CATS: {101, 102, 103, 104}, DOGS: {201}, SECRET: {501}}
        self.failure: Exception | None = None

    async def project(self, ref: int | str) -> Project | None:
        if self.failure:
            raise self.failure
        return next((p for p in self.projects.values() if ref in (p.id, p.name)), None)

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        found = {number: frozenset(held & set(image_ids)) for number, held in self.images.items()}
        return {number: held for number, held in found.items() if held}

    async def count(self, project_id: int) -> int:
        return len(self.images.get(project_id, ()))


class FakeEncoder:
    """Knows four words; the others it ignores, and a text of only others it rejects."""

    kind = "fake"
    dimension: int | None = DIMENSION
    batch_size = 4
    picture_side = 8

    def __init__(self) -> None:
        self.id: str | None = "fake_8_1"
        self.asked: list[str] = []
        self.images_encoded = 0
        self.failure: Exception | None = None

    async def encode_texts_as(self, encoder_id: str, texts: Sequence[str]) -> TextEmbeddings:
        if self.failure:
            raise self.failure
        if encoder_id != self.id:
            raise Unavailable("clip", f"the encoder {encoder_id} cannot be asked now")
        self.asked += texts
        rows, ignored = [], []
        for text in texts:
            known = [word for word in text.split() if word in AXES]
            if not known:
                raise Rejected(f"no word of {text!r} is known; known are {', '.join(AXES)}")
            # Like a real model's, a text's cosines with pictures are small: most of it is elsewhere.
            row = np.zeros(DIMENSION, np.float32)
            row[[AXES[word] for word in known]] = 1.0
            row[-1] = 3.0
            rows.append(row / np.linalg.norm(row))
            ignored.append(tuple(word for word in text.split() if word not in AXES))
        return TextEmbeddings(np.array(rows, np.float32), tuple(ignored))

    async def encode_images(self, pictures: Sequence[object]) -> Vectors:
        self.images_encoded += len(pictures)
        raise AssertionError("a handler encoded a picture")

    async def close(self) -> None:
        return None


class FakeMatrices:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked = 0

    async def matrix(self, collection: str, within: Within) -> Matrix:
        self.asked += 1
        blocks = [block async for block in self.store.vectors(collection, within)]
        if not blocks:
            none = np.empty(0, np.int64)
            return Matrix(none, none, np.empty((0, DIMENSION), np.float32))
        return Matrix(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


class FakePlatform:
    """Tokens and what their owners may see."""

    def __init__(self) -> None:
        self.rights = {"alice": {CATS, DOGS, EMPTY, DISABLED}, "bob": {DOGS}, "poor": {CATS}}
        self.published: list[tuple[str, int, str, list[int]]] = []
        self.failure: Exception | None = None

    async def recognise(self, token: str) -> None:
        if self.failure:
            raise self.failure
        if token not in self.rights:
            raise UnknownCaller("never heard of it")

    async def authorise(self, token: str, project_id: int) -> None:
        await self.recognise(token)
        if project_id not in self.rights[token]:
            raise Invisible("not theirs")
        if token == "poor":
            raise NotInPlan("Team 7 with 'free' plan cannot use AI features.")

    async def projects_of(self, token: str, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        await self.recognise(token)
        found = await FakeSource().projects_of(image_ids)
        return {number: held for number, held in found.items() if number in self.rights[token]}

    async def publish(self, kind: str, project_id: int, token: str, items: Sequence[Hit]) -> int | None:
        self.published.append((kind, project_id, token, [hit.image.id for hit in items]))
        return 77


@dataclass
class FakeSyncs:
    """A daemon that does what it is told at once."""

    store: MemoryStore
    outcome: Start = Start.STARTED
    ends: TaskStatus = TaskStatus.COMPLETED
    started: list[tuple[int, Collection[int] | None, bool]] = field(default_factory=list)
    marked: dict[int, Scope] = field(default_factory=dict)
    board: dict[int, Progress] = field(default_factory=dict)
    statuses: list[ProjectStatus] = field(default_factory=list)
    aside: list[Quarantined] = field(default_factory=list)
    held: dict[int, set[int]] = field(default_factory=dict)
    retried: list[tuple[int | None, Collection[int] | None]] = field(default_factory=list)
    checks: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(
            ("qdrant", "clip", "generator", "scheduler", "source"), "healthy"
        )
    )
    failure: Exception | None = None
    hang: bool = False
    working: str = "fake_8_1"
    pinned: str | None = None
    favoured: list[int] = field(default_factory=list)

    async def start(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Start:
        if self.failure:
            raise self.failure
        self.started.append((project_id, image_ids, force))
        return self.outcome

    async def wait(self, project_id: int) -> TaskStatus:
        if self.hang:
            await asyncio.Event().wait()
        return self.ends

    async def cancel(self, project_id: int) -> bool:
        if self.failure:
            raise self.failure
        return self.running(project_id)

    def running(self, project_id: int) -> bool:
        progress = self.board.get(project_id)
        return progress is not None and progress.status is TaskStatus.RUNNING

    async def plan(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Plan:
        if self.failure:
            raise self.failure
        plan = Plan(project_id, held=1)
        plan.keep(2)
        image = ImageRef(104, project_id, 10, "104.jpg", "new")
        plan.add([Change(Action.ENCODE, Reason.CHANGED, image, None)])
        return plan

    def progress(self) -> Mapping[int, Progress]:
        return self.board

    async def up_to_date(self, project_id: int) -> bool | None:
        return {CATS: True, DOGS: False}.get(project_id)

    async def status(self, project_id: int | None = None) -> list[ProjectStatus]:
        if self.failure:
            raise self.failure
        return [s for s in self.statuses if project_id in (None, s.project.id)]

    def searched(self, project_id: int, encoder_id: str) -> Progress | None:
        self.favoured.append(project_id)
        return self.board.get(project_id) if encoder_id != self.working else None

    def at_work(self) -> AtWork:
        return AtWork(self.working, "a better one: buy it")

    async def encoders(self) -> list[EncoderStatus]:
        return [EncoderStatus(self.working, "fake", DIMENSION, True, self.pinned == self.working, 2, 5)]

    def encoder_addresses(self) -> list[EncoderAddress]:
        return [EncoderAddress("grpc://clip:51000", self.working, None)]

    async def use_encoder(self, encoder_id: str | None) -> int:
        if encoder_id not in (None, self.working):
            raise Rejected("there is no such encoder")
        self.pinned = encoder_id
        return 2

    def mark(self, project_id: int, scope: Scope) -> None:
        self.marked[project_id] = scope

    async def quarantined(self, project_id: int | None, limit: int) -> list[Quarantined]:
        return [item for item in self.aside if project_id in (None, item.project_id)][:limit]

    async def retry(self, project_id: int | None, image_ids: Collection[int] | None) -> int:
        self.retried.append((project_id, image_ids))
        return 3

    async def confirm_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        return self._settle(project_id, image_ids)

    async def cancel_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        return self._settle(project_id, image_ids)

    def _settle(self, project_id: int, image_ids: Collection[int] | None) -> int:
        held = self.held.get(project_id, set())
        settled = held if image_ids is None else held & set(image_ids)
        self.held[project_id] = held - settled
        return len(settled)

    async def health(self) -> Mapping[str, str]:
        if self.failure:
            raise self.failure
        return self.checks


class FaultyStore(MemoryStore):
    """The reference store, with a failure to switch on and a count of engine queries."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.queries = 0

    async def query(
        self, collection: str, vectors: Vectors, within: Within, limit: int, exact: bool = False
    ) -> list[list[Hit]]:
        if self.failure:
            raise self.failure
        self.queries += 1
        return await super().query(collection, vectors, within, limit, exact)

    async def healthy(self) -> None:
        if self.failure:
            raise self.failure


def status_of(project: Project, **changes: object) -> ProjectStatus:
    status = ProjectStatus(
        project, 4, 1, 12.5, 2, 3, TaskStatus.RUNNING, "fake_8_1", "fake_8_2", 3.0, "clip: away"
    )
    return replace(status, **changes)


async def filled_store() -> FaultyStore:
    """Return a store of four cats, a dog, a secret, and a project that has a pointer but no images.

    101 and 102 are red, 103 is green, 104 blue; 103 and 104 are of another dataset.
    """
    store = FaultyStore()
    await store.add_encoder(EncoderRecord("fake_8_1", "fake", DIMENSION, unit(1)[np.newaxis]))
    await store.upsert(
        "fake_8_1",
        [
            embedding(101, unit(1, 0.1)),
            embedding(102, unit(1, 0.3)),
            embedding(103, unit(0.2, 1), dataset_id=11),
            embedding(104, unit(0, 0.1, 1), dataset_id=11),
            embedding(201, unit(0, 0, 0, 1), DOGS),
            embedding(501, unit(1), SECRET),
        ],
    )
    for project_id in (CATS, DOGS, EMPTY, SECRET, DISABLED):
        await store.set_pointer(project_id, "fake_8_1")
    return store


FAILURES = {
    "unavailable": (Unavailable("qdrant", "http://10.0.0.7:6333 refused", 2.5), 503),
    "inconsistent": (Inconsistent("the count does not add up"), 503),
    "rejected": (Rejected("this picture is none"), 422),
    "bug": (ZeroDivisionError("in /srv/secret/path.py"), 500),
}
