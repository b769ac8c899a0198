"""Maps of images: their vectors laid out in the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.model import Vectors

BLOCK_ROWS = 8192


def plane(vectors: Vectors) -> NDArray[np.float32]:
    """Project unit vectors, shape ``(n, dimension)``, on their two principal axes; shape ``(n, 2)``.

    Axes are turned so that their largest coefficient is positive: the same images always give the
    same map, not its mirror image. A missing axis (fewer than two dimensions) is all zeros.
    """
    points = np.zeros((len(vectors), 2), np.float32)
    if len(vectors) < 2:
        return points
    mean = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS] - mean
        scatter += block.T @ block
    axes = np.linalg.eigh(scatter).eigenvectors[:, ::-1][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    for start in range(0, len(vectors), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        points[start:stop, : axes.shape[1]] = (vectors[start:stop] - mean) @ axes
    return points
