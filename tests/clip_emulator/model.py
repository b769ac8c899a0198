"""A model without weights: its vectors depend on what is seen or said, and on its seed."""

from __future__ import annotations

import io
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 8
_LENGTH = 9.5

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Model:
    """Random projections of small thumbnails, and sums of random vectors of words.

    Two seeds are two models, which agree on no picture and no text. Vectors are about as long as those
    of CLIP, not of unit length; JPEG's noise leaves them at a cosine above 0.9995.
    """

    def __init__(self, seed: int = 0, dimension: int = 512) -> None:
        self.seed = seed
        self.dimension = dimension

    def of_picture(self, pixels: Pixels) -> Floats:
        thumbnail = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        features = np.append(np.asarray(thumbnail, np.float32).ravel() / 127.5 - 1, np.float32(1))
        return _scaled(features @ _projection(self.seed, self.dimension))

    def of_text(self, text: str) -> Floats:
        words = text.lower().split() or [""]
        return _scaled(np.sum([_word(self.seed, self.dimension, word) for word in words], axis=0))


def decoded(blob: bytes) -> Pixels:
    """The pixels of an encoded picture; ``OSError`` when it is none."""
    with Image.open(io.BytesIO(blob)) as image:
        return np.asarray(image.convert("RGB"))


def _scaled(vector: Floats) -> Floats:
    return (vector * (_LENGTH / np.linalg.norm(vector))).astype(np.float32)


@cache
def _projection(seed: int, dimension: int) -> Floats:
    shape = (3 * _SIDE**2 + 1, dimension)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _word(seed: int, dimension: int, word: str) -> Floats:
    number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
    return np.random.default_rng([seed, number]).standard_normal(dimension, np.float32)
