"""A proxy that really listens between the daemon and one service, and lets answers go wrong on command.

Until a fault is switched on everything passes. What a service can do wrong by itself, such as vectors that
are none, is not done here again: `Fault.theirs` is told to the emulator behind the proxy.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal, Self

from aiohttp import ClientConnectionError, ClientSession, TCPConnector, web

BODY_BYTES = 64 * 2**20
DRIBBLE_SECONDS = 0.05
"""Between two bytes of an answer that dribbles."""

PASSED_ON = ("authorization", "x-api-key", "api-key", "content-type", "retry-after")

Kind = Literal["refuse", "close", "slow", "answer", "reset", "cut", "truncate", "dribble", "lose", "theirs"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    :param kind: ``refuse`` listens no more; ``close`` resets the connection in place of an answer, ``lose``
        after the work was done; ``slow`` keeps silent for `seconds`; ``answer`` says `body` with `status` and
        nothing is passed on; ``reset`` and ``cut`` break off in the midst of an answer, ``truncate`` ends it
        there as if it were whole; ``dribble`` gives it byte by byte; ``theirs`` is left to the emulator
    :param every: strikes each so many-th request
    :param theirs: the emulator's own name of what goes wrong there
    """

    kind: Kind
    status: int = 200
    retry_after: int | None = None
    body: bytes = b""
    content_type: str = "application/json"
    seconds: float = 5.0
    every: int = 1
    theirs: str = ""


class FaultProxy:
    """A proxy before the service at `upstream`, such as ``http://127.0.0.1:6333``.

    :ivar requests: how many came
    :ivar struck: how many of them went wrong
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._fault: Fault | None = None
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._session: ClientSession
        self.requests = self.struck = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(force_close=True, limit=0), auto_decompress=False
        )
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        await self._session.close()

    async def strike(self, fault: Fault) -> None:
        """Switch a fault on."""
        self._fault = fault
        self.requests = self.struck = 0
        if fault.kind == "refuse":
            await self._stop()

    async def relent(self) -> None:
        """Let everything pass again; who is kept waiting goes on waiting."""
        self._fault = None
        if self._runner is None:
            await self._listen()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True, keepalive_timeout=30.0
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fault = self._fault
        if fault is None or self.requests % fault.every:
            return await self._passed_on(request)
        self.struck += 1
        match fault.kind:
            case "close":
                return _reset(request)
            case "slow":
                await asyncio.sleep(fault.seconds)
                return _reset(request)
            case "answer":
                return _instead(fault)
        answer = await self._passed_on(request)
        match fault.kind:
            case "lose":
                return _reset(request)
            case "truncate":
                assert isinstance(answer.body, bytes)
                answer.body = answer.body[: len(answer.body) // 2]
            case "reset" | "cut" | "dribble":
                return await _broken(fault.kind, request, answer)
        return answer

    async def _passed_on(self, request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        body = await request.read()
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.raw_path,
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                kept = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except ClientConnectionError:
            return _reset(request)


def _instead(fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.Response(
        status=fault.status, body=fault.body, headers=headers, content_type=fault.content_type
    )


async def _broken(kind: Kind, request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Send part of an answer under its full length; byte by byte, all of it, for whoever waits so long."""
    body: Any = answer.body
    whole = web.StreamResponse(status=answer.status, headers={"Content-Length": str(len(body))})
    whole.content_type = answer.content_type
    await whole.prepare(request)
    if kind == "dribble":
        for place in range(len(body)):
            await whole.write(body[place : place + 1])
            await asyncio.sleep(DRIBBLE_SECONDS)
        return whole
    await whole.write(body[: len(body) // 2])
    if kind == "reset":
        return _reset(request)
    assert request.transport
    request.transport.close()
    return whole


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()
