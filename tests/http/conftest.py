from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from http_fakes import FakeEncoder, FakeMatrices, FakePlatform, FakeSource, FakeSyncs, filled_store
from http_world import Client, Opener, World
from still_clock import Clock

from handlers.app import create_app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world() -> World:
    store = await filled_store()
    return World(FakeSource(), store, FakeMatrices(store), FakeEncoder(), FakeSyncs(store), FakePlatform())


@pytest.fixture
async def opened(world: World) -> AsyncIterator[Opener]:
    """Start an application of the world; ``platform=True`` makes callers have rights."""
    clients: list[TestClient[Any, Any]] = []

    async def start(platform: bool = False, **settings: Any) -> Client:
        client = TestClient(TestServer(create_app(world.ports(platform), **settings)))
        clients.append(client)
        await client.start_server()
        return Client(client)

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def client(opened: Opener) -> Client:
    return await opened()
