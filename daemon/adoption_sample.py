"""Whether vectors somebody else made are those the encoder at work makes: a random sample tells.

Each picture of the sample is fetched by the route it was fetched by then, encoded again, and compared.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from math import isfinite

import numpy as np

from daemon.encoders.canary import AGREEMENT
from daemon.encoding import Encoding
from daemon.pictures import decode
from daemon.room import Room
from state.errors import Inconsistent, Rejected, Unavailable
from state.model import ImageRef, Pixels, Vectors
from state.ports import Encoder, Source

SAMPLE = 20
"""Pictures encoded again."""

DRAWN = 3 * SAMPLE
"""Pictures drawn for it, since some cannot be had."""

FETCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison showed.

    :param pictures: encoded again
    :param lowest: cosine of an old vector with its picture's new one
    :param route: how most of the pictures were fetched
    :param problem: why the vectors are not the encoder's; ``None`` where they are
    """

    pictures: int
    lowest: float | None
    route: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Picture:
    image: ImageRef
    pixels: Pixels
    route: str


class Sampling:
    """Compares old vectors with new ones.

    :param encoding: by the encoder at work
    :param threads: where pictures are decoded
    :param max_pixels: largest picture that is decoded, by its header
    """

    def __init__(
        self, source: Source, encoder: Encoder, encoding: Encoding, threads: Executor, max_pixels: int
    ) -> None:
        self._source, self._encoder, self._encoding = source, encoder, encoding
        self._threads = threads
        self._max_pixels = max_pixels
        self._room = Room(FETCH_BYTES)

    async def compare(self, drawn: Sequence[ImageRef], old: Mapping[int, Vectors]) -> Compared:
        """Encode up to :data:`SAMPLE` of the pictures drawn, all of which have an old vector.

        :raises Unavailable: when the pictures cannot be had now, or the encoder is away
        """
        pictures = await self._pictures(drawn)
        new: list[Vectors | Rejected] = []
        size = self._encoder.batch_size
        for start in range(0, len(pictures), size):
            new += await self._encoding.encode([one.pixels for one in pictures[start : start + size]])
        cosines = [
            _cosine(old[one.image.id], vector)
            for one, vector in zip(pictures, new, strict=True)
            if not isinstance(vector, Rejected)
        ]
        wanted = max(1, min(SAMPLE, len(drawn) // 2))
        if len(cosines) < wanted:
            problem = f"only {len(cosines)} of {len(drawn)} pictures could be had and encoded to compare"
            return Compared(len(cosines), None, "", problem)
        bad = [cosine for cosine in cosines if cosine < AGREEMENT]
        return Compared(
            len(cosines),
            min(cosines),
            Counter(one.route for one in pictures).most_common(1)[0][0],
            f"{len(bad)} of a sample of {len(cosines)} vectors are not those that {self._encoder.id} makes"
            f" (lowest cosine {min(cosines):.3f}): another model made them, or they are damaged"
            if bad
            else None,
        )

    async def _pictures(self, drawn: Sequence[ImageRef]) -> list[_Picture]:
        """Fetch as many as are wanted, one in place of each that cannot be had."""
        left, found, problem = iter(drawn), list[_Picture](), None
        while some := list(islice(left, SAMPLE - len(found))):
            for one in await asyncio.gather(*(self._picture(image) for image in some)):
                if isinstance(one, _Picture):
                    found.append(one)
                else:
                    problem = one or problem
        if problem and not found:
            raise problem
        return found

    async def _picture(self, image: ImageRef) -> _Picture | Unavailable | None:
        """Return the picture, or why it cannot be had now; ``None`` where it is no picture to compare."""
        try:
            with self._room.claim() as reserve:
                picture = await self._source.fetch(image, reserve)
                pixels = await asyncio.get_running_loop().run_in_executor(
                    self._threads, decode, picture.data, self._encoder.picture_side, self._max_pixels
                )
        except (Inconsistent, Rejected):
            return None
        except Unavailable as problem:
            return problem
        if picture.route in self._source.fallback_routes or picture.content != image.content:
            return None
        return _Picture(image, pixels, picture.route)


def _cosine(old: Vectors, new: Vectors) -> float:
    """Return the cosine of two vectors; 0 where one is none."""
    with np.errstate(all="ignore"):
        cosine = float(old @ new / (np.linalg.norm(old) * np.linalg.norm(new)))
    return cosine if isfinite(cosine) else 0.0
