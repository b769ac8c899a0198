"""CLIP over Jina's HTTP wire, spoken directly: the HTTP mode of its own client does not work here.

What a proxy, a restart or a sick model may answer is told apart: `Unavailable` is waited for, `Rejected`
makes the caller halve the batch.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import numpy as np

from daemon.encoders import jina_json
from daemon.encoders.clip_connections import ConnectedClip, retry_after
from daemon.encoders.clip_documents import unit_vectors
from daemon.encoders.clip_service import READY_SECONDS, connection_problem
from state.errors import Rejected, Unavailable
from state.model import Pixels, Vectors

_BYTES, _BYTES_PER_DOCUMENT = 2**20, 2**18
"""Bounds of an answer: an embedding of 4,096 numbers takes 90 kB, a picture sent back 50 kB."""

_Document = TypeVar("_Document")

_JSON = {"Content-Type": "application/json"}
_REFUSED_INPUT = frozenset({400, 413, 422})
_RESET = (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError, aiohttp.ClientOSError)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClip(ConnectedClip):
    """The `Encoder` port over a CLIP service at an ``http://`` or ``https://`` address."""

    schemes = ("http", "https")

    async def ready(self) -> None:
        """Return if the service could encode now.

        :raises Unavailable: when not
        """
        reply = await self._exchange("GET", "dry_run", None, _BYTES, READY_SECONDS)
        if reply.status != 200:
            raise self._unavailable(reply)
        try:
            answer = jina_json.parsed(reply.body)
        except ValueError as problem:
            raise self.unavailable(str(problem)) from None
        if answer.get("code") != 0:
            raise self.unavailable(f"it is not ready: {answer.get('description') or 'no reason given'}")

    async def _encode_pictures(self, pictures: Sequence[Pixels]) -> Vectors:
        return await self._encode(jina_json.picture_request, list(pictures))

    async def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        return await self._encode(jina_json.text_request, list(texts))

    async def _encode(
        self, request: Callable[[list[_Document]], bytes], documents: list[_Document]
    ) -> Vectors:
        if not documents:
            return np.zeros((0, self.dimension or 0), np.float32)
        body = await self._in_thread(request, documents)
        limit = _BYTES + len(documents) * _BYTES_PER_DOCUMENT
        reply = await self._exchange("POST", "post", body, limit, self._timeout)
        if reply.status != 200:
            raise self._failure(reply)
        vectors = await self._in_thread(self._vectors, reply.body, len(documents))
        self.dimension = vectors.shape[1]
        return vectors

    def _vectors(self, body: bytes, count: int) -> Vectors:
        try:
            rows = jina_json.embeddings(body, count, self.said)
        except ValueError as problem:
            raise self.unavailable(str(problem)) from None
        return unit_vectors(rows, count)

    async def _exchange(
        self, method: str, path: str, body: bytes | None, limit: int, seconds: float
    ) -> _Reply:
        """Ask; and once more where the connection was reset, as an idle one may be while we send."""
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._once(method, path, body, limit)
                except aiohttp.ClientConnectorError:
                    raise
                except _RESET:
                    pass
                return await self._once(method, path, body, limit)
        except TimeoutError:
            raise self.late(seconds) from None
        except aiohttp.ClientError as error:
            raise self.unavailable(connection_problem(error)) from None

    async def _once(self, method: str, path: str, body: bytes | None, limit: int) -> _Reply:
        self.check_open()
        url = self._address._replace(path=f"{self._address.path.rstrip('/')}/{path}").geturl()
        # A stream is sent piece by piece, where megabytes in one would hold up the loop.
        data = None if body is None else io.BytesIO(body)
        async with self._connected().request(
            method, url, data=data, headers=_JSON, allow_redirects=False
        ) as response:
            received = bytearray()
            async for chunk in response.content.iter_any():
                received += chunk
                if len(received) > limit:
                    raise self.unavailable(f"it answers with more than {limit} bytes")
            return _Reply(response.status, response.headers, bytes(received))

    def _failure(self, reply: _Reply) -> Unavailable | Rejected:
        """Say what an error status means for the batch that was sent."""
        # 500 is what Jina says when it cannot write down an answer with a NaN in it. Only a halved batch
        # gets past that picture; and no healthy one suffers if the service is sick, for the canaries are
        # tried before a picture is set aside.
        nan = reply.status == 500 and not jina_json.is_page(reply.body)
        if nan or reply.status in _REFUSED_INPUT:
            return Rejected(f"status {reply.status}: {self.said(jina_json.reason(reply.body))}")
        return self._unavailable(reply)

    def _unavailable(self, reply: _Reply) -> Unavailable:
        match reply.status:
            case 401 | 403:
                problem = "it refuses us: is CLIP_AUTH_TOKEN right?"
            case 404 | 405:
                problem = "it has no such path: is CLIP_HOST right?"
            case status if status < 400:
                problem = "no answer, and we follow nowhere else: is CLIP_HOST right?"
            case _:
                problem = str(jina_json.reason(reply.body) or "no reason given")
        wait = retry_after(reply.headers.get("Retry-After"), self._now())
        return self.unavailable(f"status {reply.status}: {problem}", wait)
