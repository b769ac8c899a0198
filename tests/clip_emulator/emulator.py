"""The service: its two routes, its one processor, and the doors through which a test works it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray

from .faults import Faults, cut, instead, spoil
from .model import Model, decoded

_BODY_BYTES = 64 * 2**20
_AWAY = "failed to connect to all addresses"


class _ExecutorError(Exception):
    """What a real executor would have raised."""


class _CrashError(Exception):
    """What makes the gateway say 500: bad base64, a NaN."""


class ClipEmulator:
    """A gateway with one executor, in the loop of whoever starts it.

    :param model: seed of the model it runs; another seed is another model
    :param seconds: that a batch takes, whatever its size
    :param at_once: batches worked on at the same time: one, as on a GPU, or several
    :param token: wanted verbatim in ``Authorization``
    :param prefix: of the path, such as ``/net/a-token``
    :param keepalive: seconds after which an idle connection is closed
    :ivar refuses: whether a picture, as pixels, is one that the model cannot cope with
    :ivar refusal: what comes of that: ``error`` fails the request as a corrupt picture does, ``nan`` as
        a NaN does, ``null`` leaves that picture without an embedding
    :ivar executor: whether there is one; without, the gateway answers 503 and is not ready
    :ivar batches: requests that were encoded; `pictures` and `texts` count their documents
    :ivar requests: all of them, those that went wrong too
    :ivar busy: seconds in which batches were worked on
    :ivar peers: ports from which it was asked, one for each connection
    """

    def __init__(
        self,
        model: int = 0,
        *,
        dimension: int = 512,
        seconds: float = 0.0,
        at_once: int = 1,
        token: str | None = None,
        prefix: str = "",
        keepalive: float = 5.0,
    ) -> None:
        self.model, self.dimension = model, dimension
        self.seconds = seconds
        self.token = token
        self.faults = Faults()
        self.refuses: Callable[[NDArray[np.uint8]], bool] = lambda pixels: False
        self.refusal: Literal["error", "nan", "null"] = "error"
        self.executor = True
        self.batches = self.pictures = self.texts = self.requests = 0
        self.busy = 0.0
        self.peers: set[int] = set()
        self._prefix = prefix
        self._keepalive = keepalive
        self._port = 0
        self._at_once = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="clip-emulator")
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._prefix}"

    async def start(self) -> None:
        """Listen; on the port it had, if it was stopped."""
        app = web.Application(client_max_size=_BODY_BYTES)
        app.add_routes(
            [web.post(f"{self._prefix}/post", self._post), web.get(f"{self._prefix}/dry_run", self._dry_run)]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=self._keepalive,
            shutdown_timeout=0.1,
            handler_cancellation=True,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no more; whoever is being answered is cut off."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self._threads.shutdown()

    async def _dry_run(self, request: web.Request) -> web.Response:
        self._authorise(request)
        if self.executor:
            return web.json_response({"code": 0, "description": "", "exception": None})
        problem = {"name": "InternalNetworkError", "args": [], "stacks": [], "executor": ""}
        return web.json_response({"code": 1, "description": _AWAY, "exception": problem})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self._authorise(request)
        body = orjson.loads(await request.read())
        struck = self.faults.striking()
        self.requests += 1
        assert request.transport
        self.peers.add(request.transport.get_extra_info("peername")[1])
        for fault in struck:
            if (answer := await instead(fault, request)) is not None:
                return answer
        if not self.executor:
            return _answer({"code": 1, "description": _AWAY, "exception": None}, body["data"], 503)
        try:
            if any(fault.kind == "error" for fault in struck):
                raise _ExecutorError("on command")
            documents = await self._encode(body["data"])
        except _CrashError:
            return web.Response(status=500, text="Internal Server Error")
        except _ExecutorError as error:
            return _answer({"code": 1, "description": repr(error), "exception": None}, body["data"])
        for fault in struck:
            spoil(fault, documents)
        whole = _answer(None, documents)
        for fault in struck:
            if fault.kind in ("truncated", "cut"):
                assert isinstance(whole.body, bytes)
                return await cut(fault, request, whole.body)
        return whole

    def _authorise(self, request: web.Request) -> None:
        if self.token and request.headers.get("Authorization") != self.token:
            raise web.HTTPUnauthorized

    async def _encode(self, documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        async with self._at_once:
            started = time.perf_counter()
            await asyncio.sleep(self.seconds)
            model = Model(self.model, self.dimension)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, self._embed, model, documents)
            self.busy += time.perf_counter() - started
        self.batches += 1
        self.pictures += sum("blob" in one for one in documents)
        self.texts += sum("text" in one for one in documents)
        return answer

    def _embed(self, model: Model, documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        unique = len({one["id"] for one in documents}) == len(documents)
        return [
            {"id": one["id"], "embedding": self._embedding(model, one) if unique else None}
            for one in documents
        ]

    def _embedding(self, model: Model, document: dict[str, Any]) -> list[float] | None:
        if document.get("text"):
            return model.of_text(document["text"]).tolist()
        if not document.get("blob"):
            return None
        try:
            pixels = decoded(base64.b64decode(document["blob"]))
        except binascii.Error as error:
            raise _CrashError from error
        except OSError as error:
            raise _ExecutorError(str(error)) from error
        if self.refuses(pixels):
            if self.refusal == "null":
                return None
            raise _CrashError if self.refusal == "nan" else _ExecutorError("cannot identify image file")
        return model.of_picture(pixels).tolist()


def _answer(
    status: dict[str, Any] | None, documents: Sequence[dict[str, Any]], http: int = 200
) -> web.Response:
    header = {"requestId": "0" * 32, "status": status, "execEndpoint": "/", "targetExecutor": ""}
    body = orjson.dumps({"header": header, "parameters": {}, "routes": [], "data": documents})
    return web.Response(body=body, status=http, content_type="application/json")
