"""Stores to move vectors between, and what is in them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from qdrant_emulator import QdrantEmulator

from state.errors import Unavailable
from state.model import Embedding, EncoderRecord, Hit, StoredImage, Vectors, Within
from state.ports import Store
from state.stores.edge import EdgeStore
from state.stores.memory import MemoryStore
from state.stores.qdrant import QdrantStore

DIMENSION = 64
OTHER = "other-8-1"


def unit_vectors(number: int, seed: int = 0, dimension: int = DIMENSION) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((number, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


ENCODER = EncoderRecord("test-64-1", "test", DIMENSION, unit_vectors(12, 99))


def points(ids: Sequence[int], project_id: int = 1, epoch: int = 1) -> list[Embedding]:
    return [
        Embedding(
            StoredImage(
                i, project_id, 10 + i % 2, f"bild {i} ü\u2028.jpg", f"hash {i}", f"a/{i}", "now", "", epoch
            ),
            row,
        )
        for i, row in zip(ids, unit_vectors(len(ids), project_id), strict=True)
    ]


async def fill(store: Store) -> None:
    """Two projects by one encoder and part of one by another; all but project 2 is vouched for."""
    await store.add_encoder(ENCODER)
    await store.add_encoder(EncoderRecord(OTHER, "other", 8, unit_vectors(12, 98, 8)))
    await store.next_epoch()
    await store.upsert(ENCODER.id, points(range(1, 121), 1))
    await store.confirm(ENCODER.id, 1)
    await store.upsert(ENCODER.id, points(range(1001, 1031), 2, epoch=2))
    rows = zip(points(range(1, 8), 1), unit_vectors(7, 5, 8), strict=True)
    await store.upsert(OTHER, [Embedding(point.image, row) for point, row in rows])
    await store.confirm(OTHER, 1)
    await store.set_pointer(1, ENCODER.id)
    await store.set_pointer(2, ENCODER.id)
    await store.pin(ENCODER.id)


async def all_in(store: Store, collection: str = ENCODER.id) -> list[Embedding]:
    """Everything in a collection, by project and id."""
    ids = [
        image.id
        for project in sorted(await store.projects(collection))
        async for page in store.scroll(collection, project)
        for image in page
    ]
    return await store.embeddings(collection, ids)


async def found(store: Store, number: int = 20) -> list[list[Hit]]:
    return await store.query(ENCODER.id, unit_vectors(number, 7), Within(1), 30, exact=True)


class Stumbling(MemoryStore):
    """A store that is away after so many of the calls that read or write vectors.

    :ivar calls: how many there were
    :ivar most: after how many it is away
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__(page_size=7)
        self.calls, self.most = 0, most
        self.written = 0

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        self._stumble()
        self.written += len(points)
        await super().upsert(collection, points)

    async def embeddings(self, collection: str, ids: Sequence[int]) -> list[Embedding]:
        self._stumble()
        return await super().embeddings(collection, ids)

    def _stumble(self) -> None:
        if self.most is not None and self.calls >= self.most:
            raise Unavailable("qdrant", "away")
        self.calls += 1


class Opener:
    """Opens empty stores of any kind, and closes them."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory, self._stack, self._opened = directory, stack, 0

    async def __call__(self, kind: str) -> Store:
        self._opened += 1
        directory = self._directory / str(self._opened)
        store: Store
        if kind == "memory":
            return MemoryStore(page_size=50)
        if kind == "embedded":
            store = await EdgeStore.open(directory, "embedsync_1", floor=lambda total: 0)
        else:
            directory.mkdir()
            qdrant = await self._stack.enter_async_context(QdrantEmulator(directory))
            port = qdrant.grpc_port if kind == "server by gRPC" else None
            store = await QdrantStore.open(
                qdrant.url, "embedsync_1", name="test", instance="test", clock=time.monotonic, grpc_port=port
            )
        self._stack.push_async_callback(store.close)
        return store


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Opener]:
    (tmp_path / "stores").mkdir()
    async with AsyncExitStack() as stack:
        yield Opener(tmp_path / "stores", stack)


@pytest.fixture
async def source() -> Stumbling:
    """A store with something in it."""
    store = Stumbling()
    await fill(store)
    store.written = 0
    return store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where to export to."""
    return tmp_path / "export"
