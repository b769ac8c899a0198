import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_emulator import QdrantEmulator

from state.stores.qdrant import QdrantStore
from state.stores.qdrant_collections import Layout


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Opener:
    """Opens stores on the emulator, and closes them again."""

    def __init__(self, emulator: QdrantEmulator, time: Time, by_grpc: bool) -> None:
        self.emulator = emulator
        self.time = time
        self.by_grpc = by_grpc
        self.opened: list[QdrantStore] = []

    async def __call__(self, name: str = "first", prefix: str = "embedsync_1", **wanted: Any) -> QdrantStore:
        wanted = {"layout": Layout(), "instance": name, **wanted}
        store = await QdrantStore.open(
            self.emulator.url,
            prefix,
            name=name,
            clock=self.time.clock,
            sleep=self.time.sleep,
            grpc_port=self.emulator.grpc_port if self.by_grpc else None,
            **wanted,
        )
        self.opened.append(store)
        return store


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[QdrantEmulator]:
    async with QdrantEmulator(tmp_path) as running:
        yield running


@pytest.fixture
def time_passing() -> Time:
    return Time()


@pytest.fixture(params=["rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def open_store(emulator: QdrantEmulator, time_passing: Time, transport: str) -> AsyncIterator[Opener]:
    opener = Opener(emulator, time_passing, transport == "grpc")
    yield opener
    emulator.faults.clear()
    for store in opener.opened:
        await store.close()


@pytest.fixture
async def store(open_store: Opener) -> QdrantStore:
    return await open_store()
