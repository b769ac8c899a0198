"""An encoder without weights: where which colours are, and how bright, busy and vivid it is there.

Each part of its vectors has a name, so words can be written into the space of the pictures. It knows
no objects, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from daemon.encoders.palette_prompt import Phrase, Tints, read
from daemon.encoders.palette_space import ACHROMATIC, DIMENSION, DIRECTIONS, GRID, TINTS, Floats, Space, join
from daemon.encoders.palette_words import FAMILIES, known_words
from state.errors import Rejected
from state.model import Pixels, TextEmbeddings, Vectors

VERSION = 1
"""Raise it with every change that moves a vector: it is part of the encoder's id."""

_EDGES = {"vertical": (0,), "horizontal": (DIRECTIONS // 2,), "diagonal": (DIRECTIONS // 4, -DIRECTIONS // 4)}
_WARMTH = {"red": 1, "orange": 1, "brown": 1, "yellow": 1, "blue": -1, "turquoise": -1, "grey": -0.5}


class PaletteEncoder:
    """The `Encoder` port over colour, light and texture.

    :param workers: batches encoded at the same time, each in a thread
    """

    kind = "palette"
    batch_size = 32
    picture_side = 128

    def __init__(self, workers: int = 1) -> None:
        self.id: str | None = f"{self.kind}-{DIMENSION}-{VERSION}"
        self.dimension: int | None = DIMENSION
        self._space = Space()
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="palette")

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures of any size.

        :raises Rejected: when one is no array of RGB bytes
        """
        for index, picture in enumerate(pictures):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
                raise Rejected(f"picture {index} is no RGB picture but {picture.dtype}{picture.shape}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._encode, list(pictures))

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts about colour, light, texture and place; their other words are ignored.

        :raises Rejected: when a text has no such word, and then it lists them; or says yes and no at once
        """
        vectors = np.zeros((len(texts), DIMENSION), np.float32)
        ignored = []
        for row, text in enumerate(texts):
            phrases, unknown = read(text)
            if not phrases:
                raise Rejected(f"{text[:100]!r} names no colour, light or texture; known are {known_words()}")
            total = np.sum([_phrase_vector(phrase) for phrase in phrases], axis=0)
            norm = np.linalg.norm(total)
            if norm < 1e-3:
                raise Rejected(f"the words of {text[:100]!r} cancel each other out")
            vectors[row] = total / norm
            ignored.append(unknown)
        return TextEmbeddings(vectors, tuple(ignored))

    async def close(self) -> None:
        """Let running batches end, and the threads with them."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    def _encode(self, pictures: list[Pixels]) -> Vectors:
        vectors = np.zeros((len(pictures), DIMENSION), np.float32)
        for row, picture in enumerate(pictures):
            vectors[row] = self._space.describe(picture)
        return vectors


def _phrase_vector(phrase: Phrase) -> Floats:
    inside = np.zeros((GRID, GRID), np.float32)
    rows = sorted(phrase.rows) or range(GRID)
    columns = sorted(phrase.columns) or range(GRID)
    inside[np.ix_(rows, columns)] = 1
    wishes = [_colour_vector(tints, inside) for tints in phrase.colours]
    wishes += [amount * _quality_vector(quality, inside) for quality, amount in phrase.qualities.items()]
    return np.asarray(np.sum(wishes, axis=0) * (1 if phrase.wanted else -1))


def _focus(inside: Floats) -> Floats:
    """Return a weight for each cell: more of it inside, and when that is not everywhere, less outside."""
    mask = inside - 0.6 * (1 - inside) * (inside.sum() < inside.size)
    return np.asarray(mask / np.linalg.norm(mask))


def _colour_vector(tints: Tints, inside: Floats) -> Floats:
    placed = inside.sum() < inside.size
    # A family's middle tint bears its name: "red" is rather red than dark or light red.
    tint_part = np.array([(tint in tints) * (1.5 if tint in FAMILIES else 1.0) for tint in TINTS])
    tint_part /= np.linalg.norm(tint_part)
    family_part = np.zeros(len(FAMILIES), np.float32)
    for index, family in enumerate(FAMILIES.values()):
        family_part[index] = np.sqrt(len(family.keys() & set(tints)) / len(family))
    if family_part.max() < 1:  # a tint counts more than the rest of its family
        family_part *= 0.3
    return join(
        {
            "tints": tint_part * (0.4 if placed else 1.0),
            "families": family_part * (0.2 if placed else 1.0),
            "places": _focus(inside)[..., None] * family_part * (1.0 if placed else 0.7),
        }
    )


def _quality_vector(quality: str, inside: Floats) -> Floats:
    match quality:
        case "contrast":
            return join({quality: np.ones(1, np.float32)})
        case "vertical" | "horizontal" | "diagonal":
            edges = np.full(DIRECTIONS, -0.2, np.float32)
            edges[list(_EDGES[quality])] = 1
            return join({"directions": edges})
        case "warmth":
            families = np.array([_WARMTH.get(family, 0) for family in FAMILIES])
            return join({"families": families, "places": _focus(inside)[..., None] * families})
        case "saturation":
            families = np.array([-0.3 if family in ACHROMATIC else 0.1 for family in FAMILIES])
            return join({quality: _focus(inside), "families": families})
        case _:
            return join({quality: _focus(inside)})
