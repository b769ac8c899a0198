"""What can go wrong with an answer of the service, on command."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal

from aiohttp import web

Kind = Literal[
    "status", "html", "reset", "latency", "truncated", "cut", "error",
    "nan", "zero", "null", "empty", "dimension", "missing", "doubled", "unknown", "shuffled",
]  # fmt: skip


@dataclass
class Fault:
    """One thing that goes wrong.

    :ivar kind: instead of an answer: ``status`` with `status` and `retry_after`; ``html``, a page with
        `status`; ``reset`` of the connection; ``error``, the executor's own. To the answer: ``truncated``
        ends its JSON early, ``cut`` the connection in its midst; the others spoil its embeddings
        (``nan`` is answered as Jina does, by a plain 500) or its ids. ``latency`` waits for `seconds`
    :ivar every: strikes each so many-th request
    :ivar times: how often it strikes; ``None``: until it is taken away
    """

    kind: Kind
    every: int = 1
    times: int | None = None
    status: int = 503
    retry_after: str | None = None
    seconds: float = 0.0
    seen: int = 0


class Faults:
    """The faults that wait for a request."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def clear(self) -> None:
        self._waiting.clear()

    def striking(self) -> list[Fault]:
        """Return what strikes this request, and count it."""
        struck = []
        for fault in self._waiting:
            fault.seen += 1
            if fault.seen % fault.every == 0 and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                struck.append(fault)
        return struck


async def instead(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    """Do what a fault does before an answer is made; return what is answered instead, if anything."""
    match fault.kind:
        case "latency":
            await asyncio.sleep(fault.seconds)
        case "status":
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            return web.json_response({"detail": "on command"}, status=fault.status, headers=headers)
        case "html":
            page = "<!DOCTYPE html><html><body>Bad Gateway</body></html>"
            return web.Response(status=fault.status, text=page, content_type="text/html")
        case "nan":
            return web.Response(status=500, text="Internal Server Error")
        case "reset":
            assert request.transport
            connection = request.transport.get_extra_info("socket")
            connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
            return web.Response()
    return None


def spoil(fault: Fault, documents: list[dict[str, Any]]) -> None:
    """Do what a fault does to the documents of an answer: to one in their midst, or to all."""
    one = documents[len(documents) // 2]
    match fault.kind:
        case "zero":
            one["embedding"] = [0.0] * len(one["embedding"])
        case "null":
            one["embedding"] = None
        case "empty":
            one["embedding"] = []
        case "dimension":
            for document in documents:
                document["embedding"] = document["embedding"][:-1]
        case "missing":
            documents.remove(one)
        case "doubled":
            documents.append(one)
        case "unknown":
            one["id"] = "somebody else's"
        case "shuffled":
            documents.reverse()


async def cut(fault: Fault, request: web.Request, body: bytes) -> web.StreamResponse:
    """Send half an answer: as if it were whole, or with the connection cut in its midst."""
    half = body[: len(body) // 2]
    if fault.kind == "truncated":
        return web.Response(body=half, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(half)
    assert request.transport
    request.transport.close()
    return response
