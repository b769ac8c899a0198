"""What an image, a stored vector, a change and a plan are.

A stored vector is a cache of ``f(picture, encoder)``. ``content`` (the hash of the picture's bytes)
and the encoder's id together say whether the cache is right; no time is ever consulted for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Rows of unit length, shape ``(n, dimension)``; a single one has shape ``(dimension,)``."""

Pixels = NDArray[np.uint8]
"""One upright picture in sRGB, shape ``(height, width, 3)``."""

MAX_SCOPE_IDS = 10_000
"""Above so many ids a listing of the whole project is cheaper than asking for each."""

SAMPLES_PER_ACTION = 100
"""How many images of each action a plan names one by one."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as its source lists it."""

    id: int
    name: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as its source lists it.

    :param content: hash of its bytes; ``None`` where only fetching the picture tells
    :param updated_at: the source's own mark of change, compared for equality only
    :param shown: whether the source's users see that it has an embedding; decides nothing else
    """

    id: int
    project_id: int
    dataset_id: int
    name: str
    content: str | None
    path: str = ""
    updated_at: str = ""
    shown: bool = True


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What a point's payload says: which image it stands for and what it was made from.

    :param content: hash of the very bytes that were encoded
    :param route: how the picture was fetched, as its source names it
    :param epoch: the span between two good canaries, or the forced pass, it was written in
    """

    id: int
    project_id: int
    dataset_id: int
    name: str
    content: str
    path: str = ""
    updated_at: str = ""
    route: str = ""
    epoch: int = 0

    @classmethod
    def of(cls, image: ImageRef, content: str, route: str, epoch: int) -> StoredImage:
        """Return the proof of a vector that was made of `content`, the bytes `image` had then."""
        return cls(
            id=image.id,
            project_id=image.project_id,
            dataset_id=image.dataset_id,
            name=image.name,
            content=content,
            path=image.path,
            updated_at=image.updated_at,
            route=route,
            epoch=epoch,
        )

    def tagged_as(self, image: ImageRef) -> StoredImage:
        """Return the same vector's proof under the name and place `image` has now."""
        return replace(
            self,
            id=image.id,
            project_id=image.project_id,
            dataset_id=image.dataset_id,
            name=image.name,
            path=image.path,
            updated_at=image.updated_at,
        )


@dataclass(frozen=True, slots=True)
class Embedding:
    """One point of a store: a vector and the proof of what it was made from."""

    image: StoredImage
    vector: Vectors


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a nearest-neighbour query; ``score`` is the cosine."""

    image: StoredImage
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Vectors of many images at once: row i belongs to ``ids[i]`` in ``dataset_ids[i]``."""

    ids: NDArray[np.int64]
    dataset_ids: NDArray[np.int64]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Within:
    """Which points of a collection a question is about; every given part must match."""

    project_id: int
    dataset_id: int | None = None
    ids: frozenset[int] | None = None
    exclude: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's bytes as fetched, their hash, and the route they came by."""

    data: bytes
    content: str
    route: str


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """Vectors of texts, shape ``(n, dimension)``, and the words of each that the encoder ignored."""

    vectors: Vectors
    ignored: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EncoderRecord:
    """An encoder as the store's catalogue knows it.

    :param canaries: its vectors of the canary set, shape ``(n, dimension)``: what the encoder *is*
    :param confirmed: the last epoch that good canaries vouch for
    """

    id: str
    kind: str
    dimension: int
    canaries: Vectors
    confirmed: int = 0


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of a project needs a look: some ids, everything since a watermark, or all of it."""

    full: bool = False
    ids: frozenset[int] = frozenset()
    since: str | None = None

    def merge(self, other: Scope) -> Scope:
        """Return the smallest scope that covers both."""
        ids = self.ids | other.ids
        if self.full or other.full or len(ids) > MAX_SCOPE_IDS:
            return FULL
        marks = [mark for mark in (self.since, other.since) if mark is not None]
        return Scope(ids=ids, since=min(marks, default=None))


FULL = Scope(full=True)
NOTHING = Scope()


class Action(StrEnum):
    """What is to be done about one image."""

    ENCODE = "encode"
    REUSE = "reuse"
    RETAG = "retag"
    REMOVE = "remove"
    KEEP = "keep"


class Reason(StrEnum):
    """Why a change is needed, in words a person reads in a plan."""

    NEW = "not embedded yet"
    CHANGED = "its bytes changed"
    UNKNOWN = "it changed and carries no hash: the picture will tell"
    FALLBACK = "made from a fallback picture"
    FORCED = "asked for again"
    SAME_BYTES = "the same bytes are embedded already"
    RENAMED = "its name or place changed"
    GONE = "gone from the source"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do about one image.

    :param image: what the source says; ``None`` for a removal
    :param stored: what the store says; ``None`` for an image it does not have
    """

    action: Action
    reason: Reason
    image: ImageRef | None
    stored: StoredImage | None

    @property
    def image_id(self) -> int:
        """The image's id, whichever side knows it."""
        known = self.image or self.stored
        assert known is not None
        return known.id

    @property
    def wanted(self) -> ImageRef:
        """What the source says of an image that is not to be removed."""
        assert self.image is not None
        return self.image


@dataclass(slots=True)
class Plan:
    """What a sync of a project would do: counts, and a sample of images with the reason of each."""

    project_id: int
    counts: Counter[Action] = field(default_factory=Counter)
    samples: dict[Action, list[tuple[int, Reason]]] = field(default_factory=dict)
    quarantined: int = 0
    held: int = 0

    def keep(self, count: int) -> None:
        """Count images that need nothing."""
        self.counts[Action.KEEP] += count

    def add(self, changes: Iterable[Change]) -> None:
        """Count `changes` and remember the first of each action."""
        for change in changes:
            self.counts[change.action] += 1
            sample = self.samples.setdefault(change.action, [])
            if len(sample) < SAMPLES_PER_ACTION:
                sample.append((change.image_id, change.reason))

    @property
    def nothing_to_do(self) -> bool:
        """Whether every image is fresh."""
        return not any(count for action, count in self.counts.items() if action is not Action.KEEP)


class TaskStatus(StrEnum):
    """The state of a project's latest sync, as ``/task_status`` spells it."""

    NO_TASK = "no_task"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a project's latest sync is: `current` of `total` images are fresh or dealt with.

    :param remaining_seconds: how long the rest takes at the pace so far; ``None`` while that is unknown
    """

    project_id: int
    total: int
    current: int
    status: TaskStatus
    remaining_seconds: float | None = None


class Start(StrEnum):
    """What became of a wish to sync a project."""

    STARTED = "started"
    RUNNING = "already running"
    NOTHING = "nothing to update"


@dataclass(frozen=True, slots=True)
class ProjectStatus:
    """Where a project stands, derived from the store and the latest pass.

    :param oldest_stale_seconds: age of the oldest image known to be stale; 0 when none is
    :param encoder_id: the encoder that answers for it
    :param encoder_at_work: the one its fresh vectors are of; it takes over when it is complete
    :param waiting_seconds: how long the project has waited for a retry; ``None`` when it is not waiting
    :param waiting_for: why it waits
    """

    project: Project
    fresh: int
    stale: int
    oldest_stale_seconds: float
    quarantined: int
    held_removals: int
    task: TaskStatus
    encoder_id: str
    encoder_at_work: str
    waiting_seconds: float | None = None
    waiting_for: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class EncoderStatus:
    """An encoder of the catalogue.

    :param at_work: whether vectors are made by it now
    :param pinned: whether a person wants it to answer, whoever is at work
    :param projects: how many it answers for
    :param images: how many it has a vector of
    """

    id: str
    kind: str
    dimension: int
    at_work: bool
    pinned: bool
    projects: int
    images: int


@dataclass(frozen=True, slots=True)
class AtWork:
    """The encoder that vectors are made by now.

    :param id: ``None`` while nobody has been recognised
    :param hint: how to get a better one, where there is one
    """

    id: str | None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderAddress:
    """Where an encoder is asked.

    :param name: without secrets
    :param encoder_id: who answers there; ``None`` while nobody knows
    :param problem: why nothing is asked there; ``None`` when it works
    """

    name: str
    encoder_id: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A picture set aside because its bytes cannot be encoded.

    :param since: seconds since the epoch, of this machine, shown only
    """

    image_id: int
    project_id: int
    name: str
    path: str
    content: str
    reason: str
    since: float
