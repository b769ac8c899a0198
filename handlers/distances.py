"""How far every image is from its nearest pick, worked out only as far as a question needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.model import Vectors

BLOCK_ROWS = 8192
FRONTIER_ROWS = 16_384
FRONTIER_SHARE = 16
STALE_ROWS = 512
FIRST_PICKS = 32


class NearestPick:
    """Cosine distance of each of `vectors` to its nearest pick: ``1 - cosine``, from 0 to 2.

    What is kept for a row is an upper bound: its distance to the first ``seen[row]`` picks. Picks can
    only bring it down, so a row that is already nearer than the farthest one known needs no further
    work. The answers are those of the plain algorithm, at a fraction of its products.

    :param capacity: how many picks there will be at most
    """

    def __init__(self, vectors: Vectors, capacity: int) -> None:
        self._vectors = vectors
        self._picks = np.empty((capacity, vectors.shape[1]), np.float32)
        self._count = 0
        self._bounds = np.full(len(vectors), 2.0, np.float32)
        self._seen = np.zeros(len(vectors), np.int64)
        self._picked = np.zeros(len(vectors), np.bool_)
        self._frontier = np.empty(0, np.int64)
        self._beyond = 2.0

    def add(self, rows: NDArray[np.int64]) -> None:
        """Pick `rows`."""
        self._picks[self._count : self._count + len(rows)] = self._vectors[rows]
        self._count += len(rows)
        self._picked[rows] = True
        self._bounds[rows] = -1.0

    def farthest(self) -> tuple[int, float]:
        """Return the row farthest from its nearest pick, and that distance; -1 when all are picked."""
        if not self._seen.any():
            self._see_all_once()
        while True:
            row = self._top()
            bound = float(self._bounds[row])
            if self._picked[row] or self._seen[row] == self._count:
                return row, bound
            self._refresh()

    def _see_all_once(self) -> None:
        stop = min(self._count, FIRST_PICKS)
        for start in range(0, len(self._vectors), BLOCK_ROWS):
            self._see(slice(start, start + BLOCK_ROWS), 0, stop)

    def _top(self) -> int:
        """Return the row of the largest bound, looking at all rows only when the frontier is used up."""
        if self._frontier.size:
            row = int(self._frontier[self._bounds[self._frontier].argmax()])
            if self._bounds[row] >= self._beyond:
                return row
        self._frontier = np.arange(len(self._bounds))
        self._beyond = -1.0
        size = max(FRONTIER_ROWS, len(self._bounds) // FRONTIER_SHARE)
        if len(self._bounds) > size:
            order = self._bounds.argpartition(-size)
            self._frontier = order[-size:]
            self._beyond = float(self._bounds[order[:-size]].max())
        return int(self._frontier[self._bounds[self._frontier].argmax()])

    def _refresh(self) -> None:
        """Show more picks to the stale rows with the largest bounds: twice as many each time."""
        rows = self._frontier
        if len(rows) > STALE_ROWS:
            rows = rows[self._bounds[rows].argpartition(-STALE_ROWS)[-STALE_ROWS:]]
        rows = rows[(self._seen[rows] < self._count) & ~self._picked[rows]]
        start = int(self._seen[rows].min())
        stop = min(self._count, max(2 * start, start + FIRST_PICKS))
        self._see(rows[self._seen[rows] < stop], start, stop)

    def _see(self, rows: NDArray[np.int64] | slice, start: int, stop: int) -> None:
        nearest = 1.0 - (self._vectors[rows] @ self._picks[start:stop].T).max(axis=1, initial=-1.0)
        nearest = np.where(self._picked[rows], -1.0, np.clip(nearest, 0.0, 2.0))
        self._bounds[rows] = np.minimum(self._bounds[rows], nearest)
        self._seen[rows] = stop
