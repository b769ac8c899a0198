"""Encoding batches: what fails is halved until the culprit stands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from state.errors import Rejected, Unavailable
from state.model import Pixels, Vectors
from state.ports import Encoder


class Busy:
    """How much of the time somebody worked.

    :param clock: monotonic seconds
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._workers = 0
        self._changed = self._asked = clock()
        self._seconds = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count one more worker while the context lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def ratio(self) -> float:
        """Return the share of the time since it was last asked for, 0 to 1."""
        self._count(0)
        asked, self._asked = self._asked, self._clock()
        seconds, self._seconds = self._seconds, 0.0
        return min(1.0, seconds / (self._asked - asked)) if self._asked > asked else 0.0

    def _count(self, change: int) -> None:
        now = self._clock()
        self._seconds += now - self._changed if self._workers else 0.0
        self._changed = now
        self._workers += change


class Encoding:
    """An encoder that is given smaller batches where it fails.

    :param clock: monotonic seconds
    :param on_batch: told what became of each call: ``encoded``, ``rejected`` or ``unavailable``
    """

    def __init__(self, encoder: Encoder, clock: Callable[[], float], on_batch: Callable[[str], None]) -> None:
        self._encoder = encoder
        self._on_batch = on_batch
        self.busy = Busy(clock)

    async def encode(self, pictures: list[Pixels]) -> list[Vectors | Rejected]:
        """Encode a batch; one that fails is halved until the culprit stands alone.

        :raises Unavailable: when the encoder is away, or itself to blame
        """
        try:
            with self.busy.working():
                vectors = await self._encoder.encode_images(pictures)
        except Rejected as problem:
            self._on_batch("rejected")
            if len(pictures) == 1:
                return [problem]
            half = len(pictures) // 2
            return await self.encode(pictures[:half]) + await self.encode(pictures[half:])
        except Unavailable:
            self._on_batch("unavailable")
            raise
        self._on_batch("encoded")
        return list(vectors)
