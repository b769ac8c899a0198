"""The world together, and a client that checks every answer against the schema."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from http_fakes import (
    FakeEncoder,
    FakeMatrices,
    FakePlatform,
    FakeSource,
    FakeSyncs,
    FaultyStore,
)
from pydantic import TypeAdapter

from handlers.answers import Failure
from handlers.parts import Ports
from handlers.routes import ROUTES

TABLE = {(route.method, route.path): route for route in ROUTES}
FAILURE = TypeAdapter(Failure)
ANSWERS = {route.path: TypeAdapter(route.answers) for route in ROUTES if route.answers is not None}


@dataclass
class Client:
    """Asks, and checks that every answer is what the schema says it is."""

    http: TestClient[Any, Any]
    status: int = 0
    headers: Any = field(default_factory=dict)

    async def post(self, path: str, body: object = None, **more: Any) -> Any:
        return await self._take("POST", path, await self.http.post(path, json=body, **more))

    async def get(self, path: str, **more: Any) -> Any:
        return await self._take("GET", path, await self.http.get(path, **more))

    async def raw(self, path: str, data: bytes, **more: Any) -> Any:
        return await self._take("POST", path, await self.http.post(path, data=io.BytesIO(data), **more))

    async def _take(self, method: str, path: str, response: ClientResponse) -> Any:
        self.status, self.headers = response.status, response.headers
        assert response.headers["X-Request-Id"]
        if response.content_type != "application/json":
            return await response.text()
        answer = await response.json()
        route = TABLE.get((method, path.partition("?")[0]))
        if route is not None:
            right = response.status in (route.success, *route.also)
            (ANSWERS[route.path] if right else FAILURE).validate_python(answer)
        if self.status >= 400 and path != "/health":
            assert answer["message"]
        return answer


@dataclass
class World:
    source: FakeSource
    store: FaultyStore
    matrices: FakeMatrices
    encoder: FakeEncoder
    syncs: FakeSyncs
    platform: FakePlatform

    def ports(self, with_platform: bool) -> Ports:
        platform = self.platform if with_platform else None
        return Ports(self.source, self.store, self.matrices, self.encoder, self.syncs, platform)


Opener = Callable[..., Awaitable[Client]]
