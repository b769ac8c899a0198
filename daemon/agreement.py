"""How well two encoders agree on what is near what: the last look before one takes over from the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from state.changes import HELD_AT_LEAST, HELD_FRACTION
from state.model import Matrix, Vectors

SAMPLE = 500
"""Images compared, of those that both encoders have a vector of."""

NEIGHBOURS = 10

SAME = 0.999
"""Pairs of different images with such a cosine are told apart by nobody."""

ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison of two encoders of one project showed.

    :param images: that both have a vector of, and that were compared
    :param neighbours: share of the nearest neighbours within the sample that both name, 0 to 1; ``None``
        where there are too few images to tell
    :param problem: why the new vectors must not answer; ``None`` when nothing speaks against them
    """

    images: int
    neighbours: float | None = None
    problem: str | None = None


def compare(old: Matrix, new: Matrix, random: np.random.Generator) -> Agreement:
    """Compare the vectors two encoders made of one project."""
    if (broken := _not_unit(new.vectors)).size:
        return Agreement(0, problem=f"the vector of image {new.ids[broken[0]]} is not of unit length")
    common, in_old, in_new = np.intersect1d(old.ids, new.ids, assume_unique=True, return_indices=True)
    lost = len(old.ids) - len(common)
    if lost >= HELD_AT_LEAST and lost > HELD_FRACTION * len(old.ids):
        return Agreement(
            0, problem=f"of {len(old.ids)} images that have a vector now, {lost} would have none"
        )
    picks = random.permutation(len(common))[:SAMPLE]
    if len(picks) <= NEIGHBOURS:
        return Agreement(len(picks))
    before, after = old.vectors[in_old[picks]], new.vectors[in_new[picks]]
    if _collapsed(after) > max(0.5, _collapsed(before)):
        return Agreement(len(picks), problem="most images have the same vector")
    return Agreement(len(picks), neighbours=_overlap(_nearest(before), _nearest(after)))


def _not_unit(vectors: Vectors) -> NDArray[np.intp]:
    """Return the first row that is not finite and of unit length, if there is one."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        lengths = np.linalg.norm(vectors[start : start + ROWS_AT_ONCE], axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= 1e-2))
        if wrong.size:
            return start + wrong[:1]
    return np.empty(0, np.intp)


def _collapsed(vectors: Vectors) -> float:
    """Return the share of pairs that are as good as equal."""
    cosines = vectors @ vectors.T
    pairs = len(vectors) * (len(vectors) - 1)
    return float((np.count_nonzero(cosines > SAME) - len(vectors)) / pairs)


def _nearest(vectors: Vectors) -> NDArray[np.intp]:
    """Return the rows nearest to each row, itself left out; shape ``(n, NEIGHBOURS)``."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def _overlap(these: NDArray[np.intp], those: NDArray[np.intp]) -> float:
    shared = (these[:, :, None] == those[:, None, :]).any(axis=2)
    return float(shared.mean())
