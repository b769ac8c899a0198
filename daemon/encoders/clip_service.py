"""What CLIP as a service has in common over all transports: an address, secrets, threads, and its words.

The address may carry a token in its path, so neither it nor an exception of a library's, which could quote
it, is ever passed on: what went wrong is said in our own words.
"""

from __future__ import annotations

import asyncio
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, TypeVar
from urllib.parse import SplitResult, urlsplit

import aiohttp

from daemon.encoders.soundness import SERVICE
from state.errors import Misconfigured, Rejected, Unavailable
from state.model import Pixels, TextEmbeddings, Vectors

READY_SECONDS = 10.0
"""Longest the service may take to say whether it is ready."""

_Result = TypeVar("_Result")

_THREADS = 4
_LONGEST_WORDS = 200
_SHORTEST_SECRET = 6
_ERRORS = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.ECONNRESET: "it closed the connection amid a call",
    errno.EPIPE: "it closed the connection amid a call",
    errno.ETIMEDOUT: "it cannot be reached",
    errno.EHOSTUNREACH: "it cannot be reached",
    errno.ENETUNREACH: "it cannot be reached",
}


class ClipService(ABC):
    """The `Encoder` port over a CLIP service somewhere.

    :param base: where it is, as ``CLIP_HOST`` has it
    :param token: goes with every call as it is
    :param timeout: seconds a batch may take
    :ivar name: scheme, host and port, for people
    :raises Misconfigured: when the address or the token cannot be used
    """

    kind = "clip"
    picture_side = 224

    schemes: ClassVar[tuple[str, ...]]

    def __init__(self, base: str, token: str | None, timeout: float) -> None:
        self._address = self._parsed(base)
        if token and not (token.isascii() and token.isprintable()):
            raise Misconfigured("CLIP_AUTH_TOKEN", "has characters that no header can carry")
        secrets = (token, self._address.query, *self._address.path.split("/"))
        self.id: str | None = None
        self.dimension: int | None = None
        self.batch_size = 32
        self.name = f"{self._address.scheme}://{self._address.netloc}"
        self._timeout = timeout
        self._secrets = [one for one in secrets if one and len(one) >= _SHORTEST_SECRET]
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="clip")
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures.

        :raises Rejected: when one is no RGB picture, the service refuses the batch, or answers no vectors
        """
        return await self._encode_pictures(pictures)

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts.

        :raises Rejected: when one is blank, or no text
        """
        for index, text in enumerate(texts):
            if not text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise Rejected(f"text {index} is blank, or no text")
        try:
            return TextEmbeddings(await self._encode_texts(texts))
        except Rejected as problem:
            # CLIP embeds any text. Believed, a refusal would make a sick service look like another
            # model, for want of a canary, and tell whoever searches that the prompt is to blame.
            raise self.unavailable(f"it embeds no texts: {problem}") from problem

    async def close(self) -> None:
        """Close the connections, and let the threads end; who waits for an answer gets `Unavailable`."""
        self._closed = True
        await self._disconnect()
        await asyncio.to_thread(self._threads.shutdown)

    def check_open(self) -> None:
        """Return unless it was closed meanwhile.

        :raises Unavailable: if so
        """
        if self._closed:
            raise self.unavailable("closed")

    def unavailable(self, problem: str, retry_after: float | None = None) -> Unavailable:
        """Return the failure to raise when the service does not answer, or not as it should."""
        return Unavailable(SERVICE, f"{self.name}: {self.said(problem)}", retry_after)

    def late(self, seconds: float) -> Unavailable:
        """Return the failure to raise when it did not answer in time."""
        return self.unavailable(f"it did not answer within {seconds:g} s")

    def said(self, words: object) -> str:
        """Return what a server says of itself as one short line without our secrets."""
        line = " ".join(str(words or "no reason given").split())
        for secret in self._secrets:
            line = line.replace(secret, "…")
        return line if len(line) <= _LONGEST_WORDS else line[: _LONGEST_WORDS - 1] + "…"

    @abstractmethod
    async def _encode_pictures(self, pictures: Sequence[Pixels]) -> Vectors:
        """Return the vectors of pictures."""

    @abstractmethod
    async def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts, none of which is blank."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close the connections."""

    async def _in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Do what takes long: pack pictures, read answers, import protobuf the first time."""
        self.check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    @classmethod
    def _parsed(cls, base: str) -> SplitResult:
        try:
            address = urlsplit(base.strip())
            valid = address.scheme in cls.schemes and address.hostname and address.port != 0
        except ValueError:
            valid = False
        if not valid or "@" in address.netloc:
            # Not even in part: what is misspelt may hold a token anywhere.
            raise Misconfigured("CLIP_HOST", f"is no {cls.schemes[0]}:// address, or has a user in it")
        return address._replace(fragment="")


def connection_problem(error: aiohttp.ClientError | OSError) -> str:
    """Say what became of a connection, in words that quote nothing."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known here"
        case aiohttp.ClientSSLError():
            return "its certificate cannot be trusted, or it speaks no TLS"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "it closed the connection amid a call"
        case OSError():
            return _ERRORS.get(error.errno or 0, "it cannot be reached")
    return "what it answers is no HTTP"
