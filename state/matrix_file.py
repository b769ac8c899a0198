"""Files of rows: raw float32, written once from front to back, then mapped and never changed.

A file is unnamed from the start: it lives as long as somebody holds a matrix mapped from it.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from state.errors import Inconsistent
from state.model import Matrix, Vectors, Within

BLOCK_ROWS = 4096
NO_IDS = np.empty(0, np.int64)


def append(file: BinaryIO, vectors: Vectors) -> None:
    """Write rows behind those that are there."""
    file.write(np.ascontiguousarray(vectors, np.float32).data)


def map_rows(
    file: BinaryIO, ids: NDArray[np.int64], dataset_ids: NDArray[np.int64], dimension: int
) -> Matrix:
    """Map the rows of a finished file.

    :raises Inconsistent: when ids do not ascend: a row is there twice, or a search would miss it
    """
    if (np.diff(ids) <= 0).any():
        raise Inconsistent("the store listed vectors out of order")
    file.flush()
    if not len(ids):
        return frozen(ids, dataset_ids, np.empty((0, dimension), np.float32))
    mapped = mmap.mmap(file.fileno(), len(ids) * dimension * 4, access=mmap.ACCESS_READ)
    return frozen(ids, dataset_ids, np.frombuffer(mapped, np.float32).reshape(len(ids), dimension))


def write_next(file: BinaryIO, old: Matrix, fresh: Matrix, marked: frozenset[int]) -> Matrix:
    """Write the rows of `old` that are not marked, and those of `fresh`, in ascending order of id."""
    kept = np.flatnonzero(~members(old.ids, _ascending(marked)))
    ids = np.concatenate([old.ids[kept], fresh.ids])
    order = np.argsort(ids)
    dimension = old.vectors.shape[1]
    new = fresh.vectors.reshape(-1, dimension)
    for start in range(0, len(order), BLOCK_ROWS):
        rows = order[start : start + BLOCK_ROWS]
        is_old = rows < len(kept)
        block = np.empty((len(rows), dimension), np.float32)
        block[is_old] = old.vectors[kept[rows[is_old]]]
        block[~is_old] = new[rows[~is_old] - len(kept)]
        append(file, block)
    dataset_ids = np.concatenate([old.dataset_ids[kept], fresh.dataset_ids])
    return map_rows(file, ids[order], dataset_ids[order], dimension)


def part(matrix: Matrix, within: Within) -> Matrix:
    """Return the rows of `within`; the matrix itself, not a copy, when those are all."""
    wanted = np.ones(len(matrix.ids), np.bool_)
    if within.dataset_id is not None:
        wanted &= matrix.dataset_ids == within.dataset_id
    if within.ids is not None:
        wanted &= members(matrix.ids, _ascending(within.ids))
    wanted &= ~members(matrix.ids, _ascending(within.exclude))
    if wanted.all():
        return matrix
    return frozen(matrix.ids[wanted], matrix.dataset_ids[wanted], matrix.vectors[wanted])


def members(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of `values`, in any order, are in `ascending`."""
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[places] == values
    return found


def _ascending(ids: Collection[int]) -> NDArray[np.int64]:
    return np.sort(np.fromiter(ids, np.int64, len(ids)))


def frozen(ids: NDArray[np.int64], dataset_ids: NDArray[np.int64], vectors: Vectors) -> Matrix:
    """Return a matrix nobody can write into."""
    for array in (ids, dataset_ids, vectors):
        array.flags.writeable = False
    return Matrix(ids, dataset_ids, vectors)
