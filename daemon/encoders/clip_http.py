"""CLIP over Jina's HTTP wire, spoken directly: the HTTP mode of its own client does not work here.

What a proxy, a restart or a sick model may answer is told apart: `Unavailable` is waited for, `Rejected`
makes the caller halve the batch. The address may carry a token in its path, so neither it nor an
exception of the library's, which could quote it, is ever passed on.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import aiohttp
import numpy as np

from daemon.encoders import jina_json
from daemon.encoders.clip_documents import unit_vectors
from state.errors import Misconfigured, Rejected, Unavailable
from state.model import Pixels, TextEmbeddings, Vectors

IDLE_SECONDS = 4.0
"""How long an unused connection is kept; the server closes it after 5, perhaps as we send."""

READY_SECONDS = CONNECT_SECONDS = 10.0

LONGEST_RETRY_AFTER = 3600.0
"""Most seconds a server may ask us to wait: what asks for more is more likely wrong than away so long."""

_BYTES, _BYTES_PER_DOCUMENT = 2**20, 2**18
"""Bounds of an answer: an embedding of 4,096 numbers takes 90 kB, a picture sent back 50 kB."""

_Document = TypeVar("_Document")
_Result = TypeVar("_Result")

_THREADS = 4
_LONGEST_WORDS = 200
_SHORTEST_SECRET = 6
_REFUSED_INPUT = frozenset({400, 413, 422})
_RESET = (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError, aiohttp.ClientOSError)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClip:
    """The `Encoder` port over a CLIP service at an ``http://`` or ``https://`` address.

    :param base: its address, any path prefix included
    :param token: sent verbatim in ``Authorization``
    :param connections: requests under way at once; further ones wait, within their `timeout`
    :param timeout: seconds a batch may take, from asking to the last byte
    :param now: seconds since the epoch, for a ``Retry-After`` that is a date
    :ivar name: scheme, host and port, for people
    :raises Misconfigured: when the address is none, or no header can carry the token
    """

    kind = "clip"
    picture_side = 224

    def __init__(
        self,
        base: str,
        token: str | None = None,
        connections: int = 4,
        timeout: float = 60.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        address = _address(base)
        if token and not (token.isascii() and token.isprintable()):
            raise Misconfigured("CLIP_AUTH_TOKEN", "has characters that no header can carry")
        place = address.netloc.rpartition("@")[2]
        secrets = (token, address.username, address.password, address.query, *address.path.split("/"))
        self.id: str | None = None
        self.dimension: int | None = None
        self.batch_size = 32
        self.name = f"{address.scheme}://{place}"
        self._address = address._replace(netloc=place) if token else address
        self._headers = {"Authorization": token} if token else {}
        self._secrets = [one for one in secrets if one and len(one) >= _SHORTEST_SECRET]
        self._connections = connections
        self._timeout = timeout
        self._now = now
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="clip-http")
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"HttpClip({self.name})"

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures.

        :raises Rejected: when one is no RGB picture, the service refuses the batch, or answers no vectors
        """
        return await self._encode(jina_json.picture_request, list(pictures))

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts.

        :raises Rejected: when one is blank, or cannot be written down
        """
        for index, text in enumerate(texts):
            if not text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise Rejected(f"text {index} is blank, or cannot be written down")
        try:
            return TextEmbeddings(await self._encode(jina_json.text_request, list(texts)))
        except Rejected as problem:
            # CLIP embeds any text. Believed, a refusal would make a sick service look like another
            # model, for want of a canary, and tell whoever searches that the prompt is to blame.
            raise Unavailable("clip", f"{self.name}: {problem}") from problem

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
            raise Unavailable("clip", f"{self.name}: {problem}") from None
        if answer.get("code") != 0:
            raise Unavailable("clip", f"{self.name} is not ready: {self._said(answer.get('description'))}")

    async def close(self) -> None:
        """Close the connections, and let the threads end; who waits for an answer gets `Unavailable`."""
        self._closed = True
        if self._session:
            await self._session.close()
        await asyncio.to_thread(self._threads.shutdown)

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

    async def _in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        self._refuse_when_closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Unavailable("clip", f"{self.name}: closed")

    def _vectors(self, body: bytes, count: int) -> Vectors:
        try:
            rows = jina_json.embeddings(body, count, self._said)
        except ValueError as problem:
            raise Unavailable("clip", f"{self.name}: {problem}") from None
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
            raise Unavailable("clip", f"{self.name} did not answer in time ({seconds:g} s)") from None
        except aiohttp.ClientError as error:
            refused = isinstance(error, aiohttp.ClientConnectorError) and error.strerror
            raise Unavailable("clip", f"{self.name}: {refused or type(error).__name__}") from None

    async def _once(self, method: str, path: str, body: bytes | None, limit: int) -> _Reply:
        self._refuse_when_closed()
        url = self._address._replace(path=f"{self._address.path.rstrip('/')}/{path}").geturl()
        # A stream is sent piece by piece, where megabytes in one would hold up the loop.
        data = None if body is None else io.BytesIO(body)
        async with self._connected().request(method, url, data=data, allow_redirects=False) as response:
            received = bytearray()
            async for chunk in response.content.iter_any():
                received += chunk
                if len(received) > limit:
                    raise Unavailable("clip", f"{self.name} answers with more than {limit} bytes")
            return _Reply(response.status, response.headers, bytes(received))

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers={"Content-Type": "application/json", **self._headers},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _failure(self, reply: _Reply) -> Unavailable | Rejected:
        """Say what an error status means for the batch that was sent."""
        # 500 is what Jina says when it cannot write down an answer with a NaN in it. Only a halved batch
        # gets past that picture; and no healthy one suffers if the service is sick, for the canaries are
        # tried before a picture is set aside.
        nan = reply.status == 500 and not jina_json.is_page(reply.body)
        if nan or reply.status in _REFUSED_INPUT:
            return Rejected(f"status {reply.status}: {self._said(jina_json.reason(reply.body))}")
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
                problem = self._said(jina_json.reason(reply.body))
        wait = retry_after(reply.headers.get("Retry-After"), self._now())
        return Unavailable("clip", f"{self.name}: status {reply.status}: {problem}", wait)

    def _said(self, words: object) -> str:
        """Return what a server says of itself as one short line without our secrets."""
        line = " ".join(str(words or "no reason given").split())
        for secret in self._secrets:
            line = line.replace(secret, "…")
        return line if len(line) <= _LONGEST_WORDS else line[: _LONGEST_WORDS - 1] + "…"


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, be it a number or a date (RFC 9110)."""
    if not header:
        return None
    try:
        seconds = float(header) if header.isdecimal() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def _address(base: str) -> SplitResult:
    try:
        address = urlsplit(base.strip())
        valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        valid = False
    if not valid:
        # It is not quoted: what is misspelt may hold a token anywhere.
        raise Misconfigured("CLIP_HOST", "is no http:// or https:// address") from None
    return address._replace(fragment="")
