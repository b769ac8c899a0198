"""Which encoder is this? A fixed set of pictures and texts tells.

A model server does not say which model it runs, and noise of 1e-5 between two runs of one model
spoils any digest of its vectors. Cosines of canaries do not care: one model agrees with itself at
0.999 and more, and two models do not agree on all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from state.errors import Inconsistent, Rejected
from state.model import EncoderRecord, Pixels, TextEmbeddings, Vectors
from state.ports import Encoder, Store

AGREEMENT = 0.999
"""Cosine that every canary must reach for two encoders to be one."""

TEXTS = ("a dark red picture", "a photo of a dog", "blue sky above green grass", "black and white")

_SIDE = 224


def pictures() -> list[Pixels]:
    """Return the canary pictures, each ``(224, 224, 3)``, the same for ever.

    They are whole-number arithmetic from first to last, so no platform draws them differently.
    """
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.int64)
    ramp_x, ramp_y = x * 255 // (_SIDE - 1), y * 255 // (_SIDE - 1)
    checks = (x // 28 + y // 28) % 2 * 255
    stripes = (x + y) // 8 % 2 * 255
    distance = (x - 112) ** 2 + (y - 112) ** 2
    rings = distance // 392 % 2 * 255
    disc = np.where(distance < 64**2, 255, 0)
    noise = _noise(x // 4 * 7919 + y // 4 * 104_729)
    layers = (
        (ramp_x, ramp_y, 255 - ramp_x),
        (ramp_y, ramp_y, ramp_y),
        (checks, checks, checks),
        (stripes, ramp_x, 255 - stripes),
        (rings, ramp_y, 40 + 0 * x),
        (200 + 0 * x, 40 + disc // 2, 30 + 0 * x),
        (noise, _noise(noise + x // 4), _noise(noise + 2 * (y // 4))),
        (30 + disc // 8, np.where(y > 140, 130, 160), np.where(y > 140, 40, 235)),
    )
    return [np.stack(channels, axis=-1).astype(np.uint8) for channels in layers]


def match(live: Vectors, known: Iterable[EncoderRecord]) -> EncoderRecord | None:
    """Return the encoder that has these vectors of the canaries; ``None`` when none has."""
    return next((record for record in known if agree(record.canaries, live)), None)


async def enter(encoder: Encoder, live: Vectors, store: Store) -> EncoderRecord:
    """Enter an encoder that matches none into the catalogue, under the name it declares or the next free.

    :raises Inconsistent: when it declares a name that the catalogue knows for other vectors
    """
    taken = {record.id for record in await store.encoders()}
    if encoder.id in taken:
        raise Inconsistent(
            f"the encoder calls itself {encoder.id}, but its vectors of the canaries are not those the"
            " catalogue has under that name; nothing may be mixed under one name"
        )
    dimension = live.shape[1]
    prefix = f"{encoder.kind}-{dimension}"
    name = encoder.id or next(
        name for name in (f"{prefix}-{number}" for number in count(1)) if name not in taken
    )
    record = EncoderRecord(name, encoder.kind, dimension, live)
    await store.add_encoder(record)
    return record


class Encodes(Protocol):
    """The part of an encoder that canaries need."""

    batch_size: int

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures."""

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts."""


async def encode(encoder: Encodes) -> Vectors:
    """Return the canaries' vectors, shape ``(n, dimension)``: pictures first, then known texts.

    :raises Rejected: when the encoder refuses the pictures, or its vectors differ in dimension
    """
    drawn = pictures()
    blocks = [
        await encoder.encode_images(drawn[start : start + encoder.batch_size])
        for start in range(0, len(drawn), encoder.batch_size)
    ]
    blocks += await _texts(encoder, TEXTS)
    if len({block.shape[1] for block in blocks}) > 1:
        raise Rejected("its vectors differ in dimension")  # a model was replaced in the middle of it
    return np.concatenate(blocks)


def agree(these: Vectors, those: Vectors) -> bool:
    """Whether every canary of one encoder has the cosine with the other's that makes them one."""
    if these.shape != those.shape:
        return False
    norms = np.linalg.norm(these, axis=1) * np.linalg.norm(those, axis=1)
    return bool(np.all((these * those).sum(axis=1) >= AGREEMENT * norms))


async def _texts(encoder: Encodes, texts: Sequence[str]) -> list[Vectors]:
    """Encode texts, one by one where some are refused: an encoder may know no objects."""
    with suppress(Rejected):
        return [(await encoder.encode_texts(texts)).vectors]
    blocks = []
    for text in texts:
        try:
            blocks.append((await encoder.encode_texts([text])).vectors)
        except Rejected:
            continue
    return blocks


def _noise(seed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scatter whole numbers over 0..255 by one step of a linear congruence."""
    return (seed * 1_103_515_245 + 12_345) % 2**31 // 2**16 % 256
