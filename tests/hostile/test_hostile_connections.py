"""Only so many connections are open at once, and one address gets no more than its share of them."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import structlog
from http_fakes import FakeEncoder, FakeMatrices, FakeSource, FakeSyncs, filled_store

from daemon.service import listening
from handlers.app import create_app
from handlers.connections import KEPT, Connections
from handlers.parts import Limits, Ports

MOST, SHARE = 8, 4
PATIENCE = 5.0
ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Door:
    """An application, and connections to it from any address of loopback."""

    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def knock(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        self.writers.append(writer)
        return reader, writer

    async def status(self, source: str = "127.0.0.1") -> int:
        return await self.ask(*await self.knock(source))

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(ASK)
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            assert b"message" in await reader.readexactly(length) or head[9:12] == b"200"
        return int(head[9:12])


@asynccontextmanager
async def opened(limits: Limits) -> AsyncIterator[Door]:
    store = await filled_store()
    ports = Ports(FakeSource(), store, FakeMatrices(store), FakeEncoder(), FakeSyncs(store))
    async with listening(create_app(ports, limits=limits), "127.0.0.1", 0) as url:
        door = Door(int(url.rpartition(":")[2]))
        try:
            yield door
        finally:
            for writer in door.writers:
                writer.transport.abort()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with opened(Limits(connections=MOST)) as one:
        yield one


async def test_one_address_gets_its_share_and_leaves_the_rest_to_others(door: Door) -> None:
    with structlog.testing.capture_logs() as events:
        assert [await door.status() for _ in range(SHARE + 2)] == [200] * SHARE + [503] * 2
        assert await door.status("127.0.0.2") == 200
    assert [one["peer"] for one in events if one["event"] == "connections.full"] == ["127.0.0.1"] * 2


async def test_beyond_the_limit_nobody_is_let_in_until_somebody_goes(door: Door) -> None:
    sources = [f"127.0.0.{2 + number}" for number in range(MOST + 1)]
    assert [await door.status(source) for source in sources] == [200] * MOST + [503]
    door.writers[0].transport.abort()
    await _until_let_in(door, "127.0.0.99")
    assert await door.status("127.0.0.98") == 503


async def _until_let_in(door: Door, source: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await door.status(source) != 200:
            pass


async def test_who_is_turned_away_is_told_and_the_connection_closed(door: Door) -> None:
    for _ in range(SHARE):
        await door.status()
    reader, _ = await door.knock()
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer
    assert answer.endswith(b'{"message":"Too many connections are open; try again."}')


async def test_those_that_are_in_are_kept_while_others_are_turned_away(door: Door) -> None:
    inside = [await door.knock() for _ in range(SHARE)]
    for _ in range(5):
        assert [await door.ask(*one) for one in inside] == [200] * SHARE
        assert await door.status() == 503


async def test_hundreds_that_come_and_go_use_up_nothing(door: Door) -> None:
    for _ in range(250):
        _, writer = await door.knock()
        writer.transport.abort()
    await _until_let_in(door, "127.0.0.1")
    assert [await door.status() for _ in range(SHARE)] == [200] * (SHARE - 1) + [503]


async def test_a_limit_beyond_the_descriptors_is_brought_down_to_half_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * MOST, 10_000))
    async with opened(Limits(connections=1_000)) as door:
        sources = [f"127.0.0.{2 + number}" for number in range(MOST + 1)]
        assert [await door.status(source) for source in sources] == [200] * MOST + [503]


async def test_the_last_places_are_for_this_machine() -> None:
    connections = Connections(asyncio.Protocol, 20)
    strangers = [connections.enter(f"10.0.0.{number % 3}", of_this_machine=False) for number in range(15)]
    assert strangers == [True] * (20 - KEPT) + [False] * 3
    assert [connections.enter("127.0.0.1", of_this_machine=True) for _ in range(9)] == [True] * KEPT + [False]
