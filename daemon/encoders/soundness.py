"""What an encoder answers is looked at, and who is to blame for what is no answer is found out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from daemon.encoders import canary
from state.errors import Rejected, Unavailable
from state.model import Pixels, Vectors

SERVICE = "clip"
"""Who is away, in the words of ``/health``, when an encoder is."""

UNIT_TOLERANCE = 1e-3
"""How far the length of a vector may be from one."""


class EncodesImages(Protocol):
    """The part of an encoder that this needs."""

    batch_size: int

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures."""


async def encode_soundly(
    encoder: EncodesImages,
    pictures: Sequence[Pixels],
    dimension: int | None,
    shown: Vectors | None = None,
) -> Vectors:
    """Return an encoder's vectors of pictures; a single one it refuses is to blame only if the canaries pass.

    :param shown: vectors of the canaries that it gave before, if that is known
    :raises Rejected: when this batch cannot be encoded, or the answer is no vectors of that dimension
    :raises Unavailable: when the encoder rejects its canaries too, or is another by now
    """
    try:
        vectors = await encoder.encode_images(pictures)
        check_vectors(vectors, len(pictures), dimension)
    except Rejected as problem:
        if len(pictures) == 1:
            await _blame(encoder, dimension, shown, problem)
        raise
    return vectors


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


async def _blame(
    encoder: EncodesImages, dimension: int | None, shown: Vectors | None, problem: Rejected
) -> None:
    canaries = canary.pictures()[: encoder.batch_size]
    try:
        vectors = await encoder.encode_images(canaries)
        check_vectors(vectors, len(canaries), dimension)
    except Rejected:
        raise Unavailable(SERVICE, f"rejects its canaries too: {problem}") from problem
    if shown is not None and not canary.agree(shown[: len(canaries)], vectors):
        raise Unavailable(SERVICE, "its canaries are not what they were: it runs another model")
