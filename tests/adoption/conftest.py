from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from adoption_world import World
from platform_emulator.fixtures import emulator, sly
from qdrant_emulator import QdrantEmulator

from state.stores.qdrant_incumbent import QdrantIncumbent

__all__ = ["emulator", "sly"]


@pytest.fixture
async def qdrant(tmp_path: Path) -> AsyncIterator[QdrantEmulator]:
    (tmp_path / "qdrant").mkdir()
    async with QdrantEmulator(tmp_path / "qdrant") as running:
        yield running


@pytest.fixture(params=["rest"])
def by(request: pytest.FixtureRequest) -> str:
    """How the server is spoken to."""
    return request.param


@pytest.fixture
def dimension() -> int:
    """Of the vectors."""
    return 32


@pytest.fixture
async def world(qdrant: QdrantEmulator, by: str, dimension: int) -> AsyncIterator[World]:
    """A platform and a server; the key that the server is read with may do nothing else."""
    qdrant.keys.writing, qdrant.keys.reading = "all", "read"
    port = qdrant.grpc_port if by == "grpc" else None
    incumbent = await QdrantIncumbent.open(qdrant.url, api_key="read", grpc_port=port)
    with ThreadPoolExecutor(2) as threads:
        made = World(qdrant, incumbent, threads, dimension)
        await made.open()
        yield made
    await incumbent.close()
