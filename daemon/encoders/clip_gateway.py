"""What CLIP over gRPC and over websocket have in common: a message goes there, and one comes back."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import ClassVar, TypeVar
from urllib.parse import SplitResult, urlsplit

import numpy as np

from daemon.encoders.clip_documents import blobs, unit_vectors
from daemon.encoders.clip_messages import read_answer, read_failure, request
from state.errors import Misconfigured, Rejected, Unavailable
from state.model import Pixels, TextEmbeddings, Vectors

SERVICE = "clip"

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest request or answer; a batch of 32 pictures is 1.2 MB."""

READY_SECONDS = 10.0
"""Longest the service may take to say whether it is ready."""

_Read = TypeVar("_Read")

_THREADS = 4
_SAID = 200
_SHORTEST_SECRET = 6


class Gateway(ABC):
    """The `Encoder` port over a Jina gateway that takes protobuf.

    :param base: where it is, as ``CLIP_HOST`` has it
    :param token: goes with every call as it is
    :param timeout: seconds a batch may take
    :ivar name: scheme, host and port, for people
    :raises Misconfigured: when the address or the token cannot be used, or the extra is not installed
    """

    kind = "clip"
    picture_side = 224

    schemes: ClassVar[tuple[str, ...]]
    encode_path: ClassVar[str]
    ready_path: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]

    def __init__(self, base: str, token: str | None = None, timeout: float = 60.0) -> None:
        self._address = self._parsed(base)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise Misconfigured("CLIP_AUTH_TOKEN", "has characters that no header can carry")
        self.id: str | None = None
        self.dimension: int | None = None
        self.batch_size = 32
        self.name = f"{self._address.scheme}://{self._address.netloc}"
        try:
            missing = any(find_spec(module) is None for module in self.needs)
        except ModuleNotFoundError:  # a parent of one, such as google
            missing = True
        if missing:
            raise Misconfigured("CLIP_HOST", f"{self.name} needs the extra `clip`")
        self._timeout = timeout
        self._secrets = [
            secret
            for secret in (token, *self._address.path.split("/"))
            if secret and len(secret) >= _SHORTEST_SECRET
        ]
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="clip")
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures.

        :raises Rejected: when one is no RGB picture, the service refuses the batch, or answers no vectors
        """
        return await self._encode(lambda: request("blob", blobs(pictures)), len(pictures))

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts.

        :raises Rejected: when one is blank, or no text
        """
        for index, text in enumerate(texts):
            if not text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise Rejected(f"text {index} is blank, or no text")
        try:
            return TextEmbeddings(await self._encode(lambda: request("text", texts), len(texts)))
        except Rejected as problem:
            # CLIP embeds any text: it is the service that is sick, not the prompt.
            raise self.unavailable(f"embeds no texts: {problem}") from problem

    async def ready(self) -> None:
        """Return if the service, and the model behind it, could encode now.

        :raises Unavailable: when not
        """
        failure = await self._exchange(self.ready_path, lambda: b"", read_failure, READY_SECONDS)
        if failure is not None:
            raise self.unavailable(f"not ready: {failure}")

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
        """Return the failure to raise when the service does not answer, or not as a gateway does."""
        return Unavailable(SERVICE, f"{self.name}: {self.said(problem)}", retry_after)

    def said(self, words: str) -> str:
        """Return what a server says of itself as one short line without our secrets."""
        line = " ".join(words.split())
        for secret in self._secrets:
            line = line.replace(secret, "…")
        return line if len(line) <= _SAID else line[: _SAID - 1] + "…"

    @abstractmethod
    async def _call(self, path: str, message: bytes, seconds: float) -> bytes:
        """Send a message and return what comes back."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close the connections."""

    async def _encode(self, message: Callable[[], bytes], count: int) -> Vectors:
        if not count:
            return np.zeros((0, self.dimension or 0), np.float32)
        answer = await self._exchange(self.encode_path, message, read_answer, self._timeout)
        if answer.failure is not None:
            raise Rejected(f"the executor failed: {self.said(answer.failure)}")
        vectors = unit_vectors(_in_order(answer.embeddings, count), count)
        self.dimension = vectors.shape[1]
        return vectors

    async def _exchange(
        self, path: str, write: Callable[[], bytes], read: Callable[[bytes], _Read], seconds: float
    ) -> _Read:
        """Send what `write` makes and return what `read` makes of the answer, both in threads."""
        message = await self._in_thread(write)
        answer = await self._call(path, message, seconds)
        try:
            return await self._in_thread(read, answer)
        except ValueError as error:
            raise self.unavailable(f"the answer is {error}") from error

    async def _in_thread(self, work: Callable[..., _Read], *arguments: object) -> _Read:
        """Do what takes long: pack pictures, and import protobuf the first time."""
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
        return address


def _in_order(embeddings: Sequence[tuple[str, object]], count: int) -> list[object]:
    """Return the embeddings in the order in which their documents were sent.

    :raises Rejected: when a document is missing, doubled or not ours
    """
    wanted = [str(place) for place in range(count)]
    if sorted(wanted) != sorted(name for name, _ in embeddings):
        raise Rejected(f"{len(embeddings)} documents answered, and not the {count} that were sent")
    found = dict(embeddings)
    return [found[name] for name in wanted]
