"""How far images are from their nearest pick, worked out only as far as a question needs.

Another pick can only bring a distance down. So a row that is already nearer than the farthest one
known needs no further work, and most rows never meet most picks. The answers are those of the plain
algorithms, at a fraction of their products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.model import Vectors

BLOCK_ROWS = 8192
FIRST_ROWS = 512
FIRST_PICKS = 32
FRONTIER_ROWS = 16_384


def largest_distance(vectors: Vectors, picks: Vectors) -> float:
    """Return the largest ``1 - cosine`` of any of `vectors` to its nearest of `picks`, from 0 to 2.

    Neither may be empty. Blocks and the picks they meet at once start small: the first rows have
    nothing to be compared with yet.
    """
    farthest, start, size = 0.0, 0, FIRST_ROWS
    while start < len(vectors):
        block = vectors[start : start + size]
        nearest = np.full(len(block), 2.0, np.float32)
        seen, width = 0, FIRST_PICKS
        while len(block) and seen < len(picks):
            nearest = np.minimum(nearest, 1.0 - (block @ picks[seen : seen + width].T).max(axis=1))
            block, nearest = block[nearest > farthest], nearest[nearest > farthest]
            seen, width = seen + width, 2 * width
        farthest = max(farthest, float(nearest.max(initial=0.0)))
        start, size = start + size, min(2 * size, BLOCK_ROWS)
    return farthest


class Frontier:
    """Finds the row farthest from a growing set of picks.

    What is kept for a row is an upper bound, its distance to the first ``seen[row]`` picks; and of the
    rows with the largest bounds a short list, so that few questions look at all rows.

    :param capacity: how many picks there will be at most
    """

    def __init__(self, vectors: Vectors, capacity: int) -> None:
        self._vectors = vectors
        self._picks = np.empty((capacity, vectors.shape[1]), np.float32)
        self._count = 0
        self._bounds = np.full(len(vectors), 2.0, np.float32)
        self._seen = np.zeros(len(vectors), np.int64)
        self._shortlist = np.arange(0)
        self._beyond = 2.0

    def add(self, rows: NDArray[np.int64]) -> None:
        """Pick `rows`; they will not be found any more."""
        stop = self._count + len(rows)
        self._picks[self._count : stop] = self._vectors[rows]
        self._count = stop
        self._bounds[rows] = -1.0
        self._seen[rows] = len(self._picks)

    def farthest(self) -> int:
        """Return the row farthest from its nearest pick; a picked one only when all are picked."""
        if not self._shortlist.size:
            for start in range(0, len(self._bounds), BLOCK_ROWS):
                self._show(np.arange(start, min(start + BLOCK_ROWS, len(self._bounds))), 0)
        while True:
            row = self._top()
            if self._seen[row] >= self._count:
                return row
            self._refresh()

    def _top(self) -> int:
        if self._shortlist.size:
            row = int(self._shortlist[self._bounds[self._shortlist].argmax()])
            if self._bounds[row] >= self._beyond:
                return row
        order = self._bounds.argpartition(-min(FRONTIER_ROWS, len(self._bounds)))
        self._shortlist = order[-FRONTIER_ROWS:]
        self._beyond = float(self._bounds[order[:-FRONTIER_ROWS]].max(initial=-1.0))
        return int(self._shortlist[self._bounds[self._shortlist].argmax()])

    def _refresh(self) -> None:
        """Show more picks to the rows with the largest bounds."""
        rows = self._shortlist
        if len(rows) > FIRST_ROWS:
            rows = rows[self._bounds[rows].argpartition(-FIRST_ROWS)[-FIRST_ROWS:]]
        self._show(rows, int(self._seen[rows].min()))

    def _show(self, rows: NDArray[np.int64], start: int) -> None:
        """Show those of `rows` that lag behind the picks from `start` on, twice as many each time."""
        stop = min(self._count, max(2 * start, start + FIRST_PICKS))
        rows = rows[self._seen[rows] < stop]
        nearest = 1.0 - (self._vectors[rows] @ self._picks[start:stop].T).max(axis=1)
        self._bounds[rows] = np.minimum(self._bounds[rows], np.maximum(nearest, 0.0))
        self._seen[rows] = stop
