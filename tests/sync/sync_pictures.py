"""Tiny real pictures, and an encoder whose vectors depend on their pixels alone."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cache
from hashlib import blake2b

import numpy as np
from PIL import Image

from daemon.encoders.soundness import encode_soundly
from daemon.pictures import content_hash, decode
from state.errors import Rejected, Unavailable
from state.model import Pixels, TextEmbeddings, Vectors

DIMENSION = 8
SIDE = 8
POISONOUS = 65_536


@cache
def picture(number: int) -> bytes:
    """A picture of its own colour for each number below 65,536."""
    colour = (number % 256, number // 256 % 256, number // POISONOUS)
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(buffer, "PNG")
    return buffer.getvalue()


def poison(number: int) -> bytes:
    """A picture that decodes well and that the encoder refuses."""
    return picture(POISONOUS + number)


def broken(number: int) -> bytes:
    """Bytes that say they are a picture and cannot be decoded."""
    return picture(0)[:40] + b"broken %d" % number


@cache
def vector_of(data: bytes) -> Vectors | None:
    """The vector this picture must have; ``None`` when it can have none."""
    try:
        pixels = decode(data, SIDE)
    except Rejected:
        return None
    return None if _number(pixels) >= POISONOUS else _embed(pixels)


@cache
def content_of(data: bytes) -> str:
    return content_hash(data)


def _number(pixels: Pixels) -> int:
    if pixels.shape != (2, 2, 3):
        return -1
    red, green, blue = (int(value) for value in pixels[0, 0])
    return red + 256 * green + POISONOUS * blue


def _embed(pixels: Pixels) -> Vectors:
    seed = int.from_bytes(blake2b(pixels.tobytes(), digest_size=8).digest())
    row = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return row / np.linalg.norm(row)


Distortion = Callable[[Vectors], Vectors]
"""What a sick encoder does to its answer."""


class FakeEncoder:
    """Encodes, slowly if told to, and fails as told.

    :ivar faults: what befalls the next calls, one each: an error, or what becomes of the answer
    :ivar sickness: what befalls every call until it is cured
    :ivar batches: the numbers of the pictures of every call, canaries left out
    :ivar encoded: how often each content was encoded well
    :ivar most_at_once: how many calls it had to answer at the same time
    """

    kind = "fake"
    id: str | None = f"fake-{DIMENSION}"
    dimension: int | None = DIMENSION
    picture_side = SIDE

    def __init__(self, batch_size: int = 4) -> None:
        self.batch_size = batch_size
        self.seconds = 0.0
        self.faults: list[Distortion | Exception] = []
        self.sickness: Distortion | Exception | None = None
        self.batches: list[list[int]] = []
        self.encoded: Counter[str] = Counter()
        self.most_at_once = self._at_once = 0
        self.on_encode: Callable[[Collection[str]], None] = lambda contents: None

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        numbers = [_number(one) for one in pictures]
        contents = [content_of(picture(number)) for number in numbers if number >= 0]
        if contents:
            self.batches.append(numbers)
            self.on_encode(contents)
        fault = self.faults.pop(0) if self.faults else self.sickness
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self._at_once -= 1
        if isinstance(fault, Exception):
            raise fault
        if any(number >= POISONOUS for number in numbers):
            raise Rejected("one of the pictures is poison")
        vectors = np.stack([_embed(one) for one in pictures])
        if fault is not None:
            return fault(vectors)
        self.encoded.update(contents)
        return vectors

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        raise Rejected("knows no words")

    async def close(self) -> None:
        pass


class Sound:
    """The encoder as the pool has it: every answer is looked at."""

    def __init__(self, encoder: FakeEncoder) -> None:
        self.kind, self.dimension = encoder.kind, encoder.dimension
        self.batch_size, self.picture_side = encoder.batch_size, encoder.picture_side
        self.encode_texts, self.close = encoder.encode_texts, encoder.close
        self._encoder = encoder

    @property
    def id(self) -> str | None:
        return self._encoder.id

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        return await encode_soundly(self._encoder, pictures, self.dimension)


def not_finite(vectors: Vectors) -> Vectors:
    return np.full_like(vectors, np.nan)


def zeroed(vectors: Vectors) -> Vectors:
    return np.zeros_like(vectors)


def too_short(vectors: Vectors) -> Vectors:
    return vectors[:, :-1]


def too_few(vectors: Vectors) -> Vectors:
    return vectors[:-1]


DISTORTIONS = (not_finite, zeroed, too_short, too_few)


def away() -> Unavailable:
    return Unavailable("clip", "connection refused")
