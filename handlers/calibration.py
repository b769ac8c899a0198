"""The sample of a project's vectors that scores are standardised over, kept between searches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from handlers.scoring import sample_rows
from handlers.work import WorkPool
from state.model import Vectors, Within
from state.ports import Matrices

KEPT_SECONDS = 30.0


class Samples:
    """Keeps the samples of the projects searched lately; at 512 dimensions each takes 4 MB.

    :param size: how many, least recently used ones leave first
    :param clock: seconds
    """

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int], tuple[float, Vectors]] = OrderedDict()

    async def sample(self, matrices: Matrices, pool: WorkPool, collection: str, project_id: int) -> Vectors:
        """Return up to 2,000 vectors of the project, shape ``(n, dimension)``, the same each time."""
        key = (collection, project_id)
        taken, sample = self._kept.get(key, (-np.inf, None))
        if sample is None or self._clock() - taken > KEPT_SECONDS:
            matrix = await matrices.matrix(collection, Within(project_id))
            sample = await pool.run(lambda: np.asarray(matrix.vectors[np.sort(sample_rows(matrix.ids))]))
            self._kept[key] = (self._clock(), sample)
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return sample
