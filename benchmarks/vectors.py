"""Vectors like those of a project of pictures, and which subject each is of."""

from __future__ import annotations

import numpy as np

DIMENSION = 512
MODES = 200
OUTLIER = -1


def synthetic(count, seed=0, dimension=DIMENSION):
    """Return unit vectors, shape ``(count, dimension)``, and the mode of each.

    The size of the n-th mode goes as 1/n. A mode spreads by 0.3 to 0.7 of its centre's length, 70 % of
    the variance along four directions of its own. 1 % are outliers, of any direction at all, and 5 %
    are near-duplicates of other rows (cosine above 0.99).
    """
    rng = np.random.default_rng(seed)

    def gaussian(*shape):
        return rng.standard_normal(shape, dtype=np.float32) / np.float32(dimension**0.5)

    weights = 1.0 / np.arange(1, MODES + 1)
    labels = rng.choice(MODES, count, p=weights / weights.sum())
    centres = gaussian(MODES, dimension)
    vectors = np.empty((count, dimension), np.float32)
    for mode in range(MODES):
        rows = np.flatnonzero(labels == mode)
        spread = np.float32(rng.uniform(0.3, 0.7))
        own = rng.standard_normal((len(rows), 4), dtype=np.float32) @ gaussian(4, dimension) / 2
        vectors[rows] = centres[mode] + spread * (0.7**0.5 * own + 0.3**0.5 * gaussian(len(rows), dimension))
    outliers = rng.choice(count, count // 100, replace=False)
    vectors[outliers], labels[outliers] = gaussian(len(outliers), dimension), OUTLIER
    normalise(vectors)
    copies, originals = rng.choice(count, count // 20, replace=False), rng.integers(count, size=count // 20)
    vectors[copies] = vectors[originals] + 0.1 * gaussian(len(copies), dimension)
    labels[copies] = labels[originals]
    normalise(vectors)
    return vectors, labels


def normalise(vectors):
    for start in range(0, len(vectors), 10_000):
        block = vectors[start : start + 10_000]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
