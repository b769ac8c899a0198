"""Encoding batches: what fails is halved, what is no vector is refused, and a sick encoder is blamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from daemon.encoders import canary
from state.errors import Rejected, Unavailable
from state.model import Pixels, Vectors
from state.ports import Encoder

UNIT_TOLERANCE = 1e-3
"""How far the length of a vector may be from one."""


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
    """An encoder whose every answer is looked at.

    :param clock: monotonic seconds
    :param on_batch: told what became of each call: ``encoded``, ``rejected`` or ``unavailable``
    """

    def __init__(self, encoder: Encoder, clock: Callable[[], float], on_batch: Callable[[str], None]) -> None:
        self._encoder = encoder
        self._on_batch = on_batch
        self.busy = Busy(clock)

    async def encode(self, pictures: list[Pixels]) -> list[Vectors | Rejected]:
        """Encode a batch; one that fails is halved until the culprit stands alone.

        :raises Unavailable: when the encoder rejects the canaries too: then it is to blame
        """
        try:
            with self.busy.working():
                vectors = await self._encoder.encode_images(pictures)
            check_vectors(vectors, len(pictures), self._encoder.dimension)
        except Rejected as problem:
            self._on_batch("rejected")
            if len(pictures) == 1:
                await self._blame_encoder(problem)
                return [problem]
            half = len(pictures) // 2
            return await self.encode(pictures[:half]) + await self.encode(pictures[half:])
        except Unavailable:
            self._on_batch("unavailable")
            raise
        self._on_batch("encoded")
        return list(vectors)

    async def _blame_encoder(self, problem: Rejected) -> None:
        try:
            canaries = canary.pictures()
            vectors = await self._encoder.encode_images(canaries)
            check_vectors(vectors, len(canaries), self._encoder.dimension)
        except Rejected:
            raise Unavailable("clip", f"rejects its canaries too: {problem}") from problem


def check_vectors(vectors: Vectors, count: int, dimension: int | None) -> None:
    """Return if these are `count` finite unit vectors of the dimension.

    :raises Rejected: when they are anything else
    """
    if vectors.shape != (count, dimension):
        raise Rejected(f"the encoder answered shape {vectors.shape}, not {(count, dimension)}")
    if not np.isfinite(vectors).all():
        raise Rejected("the encoder answered a vector that is not finite")
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max(initial=0) > UNIT_TOLERANCE:
        raise Rejected("the encoder answered a vector that is not of unit length")
