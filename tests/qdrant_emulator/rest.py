"""The REST door."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import orjson
from aiohttp import web

from .conditions import Json

BODY_BYTES = 32 * 2**20
"""What the server takes at most."""

ROUTES = {
    ("GET", "/exists"): "exists",
    ("GET", ""): "info",
    ("PUT", ""): "create",
    ("PATCH", ""): "update_collection",
    ("DELETE", ""): "delete_collection",
    ("PUT", "/index"): "create_index",
    ("PUT", "/points"): "upsert",
    ("POST", "/points"): "retrieve",
    ("POST", "/points/delete"): "delete",
    ("POST", "/points/batch"): "batch",
    ("POST", "/points/scroll"): "scroll",
    ("POST", "/points/count"): "count",
    ("POST", "/points/query"): "query_one",
    ("POST", "/points/query/batch"): "query",
    ("POST", "/facet"): "facet",
}
PAGE = "<!DOCTYPE html><html><body><h1>Welcome to nginx</h1></body></html>"

Serve = Callable[[str, str | None, str, Json], Awaitable[Any]]


class Rest:
    """Listens on a port, the same one every time."""

    def __init__(self, serve: Serve, port: int, certificate: Any) -> None:
        self._serve = serve
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(self._tls)
        self.scheme = "https" if certificate else "http"
        self._runner: web.AppRunner
        self.port = port

    async def start(self) -> None:
        app = web.Application(client_max_size=BODY_BYTES)
        for (method, tail), operation in ROUTES.items():
            app.router.add_route(method, "/collections/{name}" + tail, self._answering(operation))
        app.router.add_get("/", self._version)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _version(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(await self._serve("version", None, "", {})))

    def _answering(self, operation: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        from .emulator import Broken
        from .engine import Refused

        async def answer(request: web.Request) -> web.StreamResponse:
            body = orjson.loads(await request.read() or b"{}")
            if "wait" in request.query:
                body["wait"] = request.query["wait"] == "true"
            key = request.headers.get("api-key")
            try:
                result = await self._serve(operation, key, request.match_info["name"], body)
            except Refused as refusal:
                headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
                error = {"status": {"error": refusal.message}, "time": 0.0}
                return web.json_response(error, status=refusal.status, headers=headers)
            except Broken as broken:
                return await _broken(broken.fault.kind, request, _dumped(broken.answer))
            return web.Response(body=_dumped(result), content_type="application/json")

        return answer


def _dumped(result: Any) -> bytes:
    return orjson.dumps({"result": result, "status": "ok", "time": 0.0})


async def _broken(kind: str, request: web.Request, body: bytes) -> web.StreamResponse:
    if kind == "html":
        return web.Response(text=PAGE, content_type="text/html")
    assert request.transport
    if kind == "cut":
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        request.transport.close()
        return response
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()
