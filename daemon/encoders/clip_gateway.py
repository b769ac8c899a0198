"""What CLIP over gRPC and over websocket have in common: a message goes there, and one comes back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import ClassVar, TypeVar

import numpy as np

from daemon.encoders.clip_documents import blobs, unit_vectors
from daemon.encoders.clip_messages import read_answer, read_failure, request
from daemon.encoders.clip_service import READY_SECONDS, ClipService
from state.errors import Misconfigured, Rejected
from state.model import Pixels, Vectors

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest request or answer; a batch of 32 pictures is 1.2 MB."""

_Read = TypeVar("_Read")


class Gateway(ClipService):
    """The `Encoder` port over a Jina gateway that takes protobuf.

    :raises Misconfigured: also when the extra is not installed
    """

    encode_path: ClassVar[str]
    ready_path: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]

    def __init__(self, base: str, token: str | None = None, timeout: float = 60.0) -> None:
        super().__init__(base, token, timeout)
        try:
            missing = any(find_spec(module) is None for module in self.needs)
        except ModuleNotFoundError:  # a parent of one, such as google
            missing = True
        if missing:
            raise Misconfigured("CLIP_HOST", f"{self.name} needs the extra `clip`")

    async def ready(self) -> None:
        """Return if the service, and the model behind it, could encode now.

        :raises Unavailable: when not
        """
        failure = await self._exchange(self.ready_path, lambda: b"", read_failure, READY_SECONDS)
        if failure is not None:
            raise self.unavailable(f"it is not ready: {failure}")

    @abstractmethod
    async def _call(self, path: str, message: bytes, seconds: float) -> bytes:
        """Send a message and return what comes back."""

    async def _encode_pictures(self, pictures: Sequence[Pixels]) -> Vectors:
        return await self._encode(lambda: request("blob", blobs(pictures)), len(pictures))

    async def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        return await self._encode(lambda: request("text", texts), len(texts))

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


def _in_order(embeddings: Sequence[tuple[str, object]], count: int) -> list[object]:
    """Return the embeddings in the order in which their documents were sent.

    :raises Rejected: when a document is missing, doubled or not ours
    """
    wanted = [str(place) for place in range(count)]
    if sorted(wanted) != sorted(name for name, _ in embeddings):
        raise Rejected(f"{len(embeddings)} documents answered, and not the {count} that were sent")
    found = dict(embeddings)
    return [found[name] for name in wanted]
