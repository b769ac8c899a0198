"""Maps of images."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.projection import BLOCK_ROWS, plane


def test_the_map_has_the_spread_of_the_two_principal_axes():
    vectors = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32) * np.arange(1, 17)
    points = plane(vectors)
    spreads = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)[:2]
    assert np.linalg.norm(points, axis=0) == pytest.approx(spreads, rel=1e-4)


def test_an_image_keeps_its_place_when_the_images_are_listed_in_another_order():
    vectors = np.random.default_rng(1).standard_normal((BLOCK_ROWS + 7, 6)).astype(np.float32)
    order = np.random.default_rng(2).permutation(len(vectors))
    assert plane(vectors[order]) == pytest.approx(plane(vectors)[order], abs=1e-3)


@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (5, 1), (0, 0)])
def test_few_images_or_dimensions_still_make_a_map(shape):
    points = plane(np.ones(shape, np.float32))
    assert points.shape == (shape[0], 2)
    assert not points.any()
