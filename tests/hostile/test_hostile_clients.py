"""Who is slow is cut off; who comes by way of a page in a browser is a stranger."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from http_fakes import CATS, FakeEncoder, FakeMatrices, FakeSource, FakeSyncs, filled_store

from daemon.service import listening
from handlers.app import create_app
from handlers.auth import Access
from handlers.parts import Limits, Ports
from handlers.routes import ROUTES, Reach, Route

TOKEN = "the-operator's"
SHORT, LONG = 0.3, 5.0
MUCH = 20_000_000
"""Bytes, more than sockets hold for a reader who does not read."""

SEARCH = orjson.dumps({"project_id": CATS, "prompt": "red"})


@dataclass
class Asked:
    """An application over a small world, asked byte by byte."""

    url: str
    syncs: FakeSyncs

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))

    async def post(self, *pieces: bytes, promised: int | None = None) -> bytes:
        """Send a search in pieces, a moment apart; return the answer."""
        length = sum(map(len, pieces)) if promised is None else promised
        head = b"POST /search HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
        return await self.said(head + pieces[0], *pieces[1:], end=b"}")

    async def said(self, *pieces: bytes, end: bytes = b"") -> bytes:
        """Send bytes a moment apart; return what comes, up to the end of the connection, or to `end`."""
        reader, writer = await self.connected()
        heard = bytearray()
        try:
            async with asyncio.timeout(LONG):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(SHORT / 10)
                while (more := await reader.read(2**16)) and not (end and more.endswith(end)):
                    heard += more
                return bytes(heard + more)
        except ConnectionError:
            return bytes(heard)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def asked(limits: Limits, access: Access | None = None, version: str = "0") -> AsyncIterator[Asked]:
    store = await filled_store()
    syncs = FakeSyncs(store)
    ports = Ports(FakeSource(), store, FakeMatrices(store), FakeEncoder(), syncs)
    app = create_app(ports, limits=limits, access=access, version=version)
    async with listening(app, "127.0.0.1", 0) as url:
        yield Asked(url, syncs)


@pytest.mark.parametrize(
    "pieces",
    [[b""], [b"POST /search HTT"], [b"POST /search HTTP/1.1\r\n", *[b"X-More: 1\r\n"] * 50]],
    ids=["silent", "stuck", "dribbling"],
)
async def test_a_connection_without_a_whole_request_is_closed(pieces: Sequence[bytes]) -> None:
    async with asked(Limits(idle_seconds=SHORT)) as one:
        started = asyncio.get_running_loop().time()
        assert await one.said(*pieces) == b""
        assert asyncio.get_running_loop().time() - started < LONG


async def test_a_connection_is_kept_for_the_next_request_and_then_closed() -> None:
    async with asked(Limits(idle_seconds=SHORT)) as one:
        request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await one.said(request, request)).count(b"200 OK") == 2


async def test_a_body_that_does_not_arrive_is_408_and_the_end() -> None:
    async with asked(Limits(transfer_seconds=SHORT, linger_seconds=SHORT)) as one:
        answer = await one.post(SEARCH[:5], promised=len(SEARCH))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.3 s" in answer


async def test_a_body_that_dribbles_is_not_given_more_time_for_each_byte() -> None:
    async with asked(Limits(transfer_seconds=SHORT, linger_seconds=SHORT)) as one:
        answer = await one.post(*[SEARCH[:1]] * 13, promised=1_000)
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_who_dribbles_takes_no_place_from_whose_request_is_whole() -> None:
    async with asked(Limits(concurrent_requests=1, transfer_seconds=2 * SHORT, linger_seconds=SHORT)) as one:
        dribbling = [asyncio.create_task(one.post(SEARCH[:5], promised=len(SEARCH))) for _ in range(3)]
        await asyncio.sleep(SHORT / 2)
        assert (await one.post(SEARCH)).startswith(b"HTTP/1.1 200 ")
        statuses = sorted([answer[9:12] for answer in await asyncio.gather(*dribbling)])
        assert statuses == [b"408", b"429", b"429"]


async def test_who_does_not_read_the_answer_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(transfer_seconds=SHORT, linger_seconds=SHORT)
    async with asked(limits, version="x" * MUCH) as one:
        with socket.socket() as idle, structlog.testing.capture_logs() as events:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            idle.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(idle, ("127.0.0.1", int(one.url.rpartition(":")[2])))
            with caplog.at_level(logging.ERROR):
                await loop.sock_sendall(idle, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
                await asyncio.sleep(3 * SHORT)
                assert await _rest(idle) < MUCH
        assert [event["event"] for event in events].count("request.cut_off") == 1
        assert caplog.records == []
        async with aiohttp.ClientSession() as session, session.get(f"{one.url}/openapi.json") as response:
            assert len(await response.read()) > MUCH


async def _rest(connection: socket.socket) -> int:
    """Return how many bytes still come."""
    loop, count = asyncio.get_running_loop(), 0
    try:
        async with asyncio.timeout(LONG):
            while more := await loop.sock_recv(connection, 2**20):
                count += len(more)
    except ConnectionError:
        pass
    return count


OURS = ["127.0.0.1:8000", "localhost", "LOCALHOST.:80", "[::1]:8000", "embeddings-generator", "nas.local", ""]
OTHERS = ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "["]


@pytest.mark.parametrize(("host", "status"), [*((one, 200) for one in OURS), *((one, 401) for one in OTHERS)])
async def test_a_name_that_somebody_made_lead_here_opens_nothing(host: str, status: int) -> None:
    async with asked(Limits()) as one, aiohttp.ClientSession(one.url) as session:
        for method, path in (("GET", "/metrics"), ("POST", "/task_status"), ("POST", "/events")):
            body: dict[str, Any] = {"json": {"project_id": CATS, "project_ids": [CATS]}}
            more = body if method == "POST" else {}
            async with session.request(method, path, headers={"Host": host}, **more) as response:
                assert response.status in {200: (200, 202), 401: (401,)}[status], path


async def test_a_token_opens_under_any_name() -> None:
    headers = {"Host": "embedsync.example", "Authorization": f"Bearer {TOKEN}"}
    async with asked(Limits(), Access(TOKEN)) as one, aiohttp.ClientSession(one.url) as session:
        response = await session.get("/metrics", headers=headers)
        assert response.status == 200


@pytest.mark.parametrize("access", [Access(), Access(TOKEN)], ids=["auth-off", "auth-on"])
@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.reach is not Reach.ANYONE], ids=lambda route: route.path
)
async def test_a_page_in_a_browser_is_a_stranger(route: Route, access: Access) -> None:
    async with asked(Limits(), access) as one, aiohttp.ClientSession(one.url) as session:
        for origin in ("http://evil.example", "null", one.url):
            body: dict[str, Any] = {"data": b'{"project_id":1,"task_id":1,"project_ids":[1]}'}
            headers = {"Origin": origin, "Content-Type": "text/plain"}
            path = route.path.replace("{project_id}", "1")
            more = body if route.method == "POST" else {}
            async with session.request(route.method, path, headers=headers, **more) as response:
                assert response.status == 401
        assert (one.syncs.marked, one.syncs.started, one.syncs.retried) == ({}, [], [])


async def test_no_browser_is_told_that_it_may_ask() -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    async with asked(Limits()) as one, aiohttp.ClientSession(one.url) as session:
        response = await session.options("/search", headers=headers)
        assert response.status == 405
        assert not [name for name in response.headers if name.startswith("Access-Control")]
