"""The daemon's HTTP application over the emulated platform, with as little behind it as will do."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from platform_emulator import World

from state.model import (
    Embedding,
    EncoderRecord,
    Matrix,
    Progress,
    Project,
    Scope,
    Start,
    StoredImage,
    TaskStatus,
    TextEmbeddings,
    Within,
)
from state.stores.memory import MemoryStore

ENCODER = "tiny_4_1"
DIMENSION = 4


class TinySource:
    """Knows the projects of a world, as the daemon does by its own token; counts who asks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0

    async def project(self, ref: int | str) -> Project | None:
        self.asked += 1
        known = self.world.projects.get(ref) if isinstance(ref, int) else None
        return known and Project(known.id, known.name, known.embeddings_enabled is not False)

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        self.asked += 1
        return {number: frozenset(image_ids) for number in self.world.projects}


class TinyEncoder:
    """Every text means the same: the first axis."""

    kind, id, dimension = "tiny", ENCODER, DIMENSION

    async def encode_texts_as(self, encoder_id: str, texts: Sequence[str]) -> TextEmbeddings:
        return TextEmbeddings(np.eye(1, DIMENSION, dtype=np.float32).repeat(len(texts), axis=0))


class TinyMatrices:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def matrix(self, collection: str, within: Within) -> Matrix:
        blocks = [block async for block in self.store.vectors(collection, within)]
        return Matrix(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


class TinySyncs:
    """Says that everything is running."""

    def __init__(self, project_ids: Collection[int]) -> None:
        self.project_ids = project_ids
        self.started: list[tuple[int, Collection[int] | None]] = []
        self.marked: dict[int, Scope] = {}

    async def start(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Start:
        self.started.append((project_id, image_ids))
        return Start.STARTED

    async def cancel(self, project_id: int) -> bool:
        return True

    def progress(self) -> Mapping[int, Progress]:
        return {number: Progress(number, 2, 1, TaskStatus.RUNNING) for number in self.project_ids}

    def searched(self, project_id: int, encoder_id: str) -> Progress | None:
        return None

    async def up_to_date(self, project_id: int) -> bool | None:
        return True

    async def quarantined(self, project_id: int | None, limit: int) -> list[Any]:
        return []

    async def status(self, project_id: int | None = None) -> list[Any]:
        return []

    async def retry(self, project_id: int | None, image_ids: Collection[int] | None) -> int:
        return 0

    async def confirm_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        return 0

    async def cancel_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        return 0

    def mark(self, project_id: int, scope: Scope) -> None:
        self.marked[project_id] = scope


async def filled_store(world: World, project_ids: Collection[int]) -> MemoryStore:
    """Return a store of every image of these projects, those of lower ids nearer to the first axis."""
    store = MemoryStore()
    await store.add_encoder(EncoderRecord(ENCODER, "tiny", DIMENSION, np.eye(1, DIMENSION, dtype=np.float32)))
    for number in project_ids:
        await store.upsert(
            ENCODER,
            [_embedding(image_id, number, place) for place, image_id in enumerate(world.image_ids(number))],
        )
        await store.set_pointer(number, ENCODER)
    return store


def _embedding(image_id: int, project_id: int, place: int) -> Embedding:
    angle = place / 10
    vector = np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32)
    return Embedding(StoredImage(image_id, project_id, 1, f"{image_id}.jpg", f"hash {image_id}"), vector)


class Listener:
    """Listens on this machine and counts who connects."""

    def __init__(self) -> None:
        self.connections = 0

    async def __aenter__(self) -> Listener:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = "http://{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()
