"""What can go wrong with an answer, on command: so many times, or as often as a seeded die says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random
from socket import SO_LINGER, SOL_SOCKET
from threading import Lock
from typing import Literal

import orjson
from aiohttp import web

Kind = Literal["status", "html", "reset", "latency", "call", "truncated", "cut", "early_end", "empty"]


@dataclass
class Fault:
    """One thing that goes wrong.

    :ivar match: which methods (``images.list``) or picture routes (``storage``, ``previews``,
        ``imgproxy``, ``remote``, ``net``) it strikes; may be a pattern, such as ``images.*``
    :ivar kind: ``status`` answers with `status`, and `retry_after` if given; ``html`` with a page and
        `status`; ``reset`` resets the connection; ``latency`` waits for `seconds`; ``call`` runs `action`
        before the answer is made; ``truncated`` ends a whole answer early, ``cut`` the connection in its
        midst; ``early_end`` leaves the share `keep` of a listing's rows and its total; ``empty`` none
    :ivar times: how often it strikes; ``None``: until it is taken away
    :ivar skip: how many requests pass before it begins
    """

    match: str
    kind: Kind
    times: int | None = 1
    probability: float = 1.0
    skip: int = 0
    status: int = 500
    retry_after: int | None = None
    seconds: float = 0.0
    keep: float = 0.5
    action: Callable[[], object] | None = None


class Faults:
    """The faults that wait for a request."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)
        self._waiting: list[Fault] = []
        self._lock = Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def striking(self, name: str) -> list[Fault]:
        """Return what strikes this request, and count it."""
        with self._lock:
            struck = [fault for fault in self._waiting if self._strikes(fault, name)]
            self._waiting = [fault for fault in self._waiting if fault.times != 0]
        return struck

    def _strikes(self, fault: Fault, name: str) -> bool:
        if not fnmatchcase(name, fault.match):
            return False
        if fault.skip:
            fault.skip -= 1
            return False
        if self._random.random() >= fault.probability:
            return False
        if fault.times is not None:
            fault.times -= 1
        return True


_PAGE = "<!DOCTYPE html><html><body><h1>{0} Bad Gateway</h1><hr>nginx</body></html>"


async def instead(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    """Do what a fault does before an answer is made; return what is answered instead, if anything."""
    if fault.kind == "latency":
        await asyncio.sleep(fault.seconds)
    elif fault.kind == "call" and fault.action is not None:
        fault.action()
    elif fault.kind == "html":
        page = _PAGE.format(fault.status)
        return web.Response(status=fault.status, text=page, content_type="text/html")
    elif fault.kind == "status":
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        error = {"error": "Fault on command", "details": {"message": f"status {fault.status}"}}
        return web.json_response(error, status=fault.status, headers=headers)
    elif fault.kind == "reset" and request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
        return web.Response()
    return None


async def spoilt(fault: Fault, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Do what a fault does to an answer."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    body = response.body
    if fault.kind == "truncated":
        return web.Response(body=body[: len(body) // 2], content_type=response.content_type)
    if fault.kind == "cut":
        return await _cut(request, body)
    if fault.kind in {"early_end", "empty"} and response.content_type == "application/json":
        answer = orjson.loads(body)
        if "entities" in answer:
            kept = int(len(answer["entities"]) * fault.keep) if fault.kind == "early_end" else 0
            total = answer["total"] if fault.kind == "early_end" else 0
            answer |= {"entities": answer["entities"][:kept], "total": total}
            if "after" in answer:
                answer["after"] = None
            return web.Response(body=orjson.dumps(answer), content_type="application/json")
    return response


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
