"""Points for the tests of the store on a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from state.model import Embedding, EncoderRecord, StoredImage, Vectors
from state.ports import Store

DIMENSION = 16
ENCODER = EncoderRecord("test-16-1", "test", DIMENSION, np.eye(3, DIMENSION, dtype=np.float32))

both = pytest.mark.parametrize("transport", ["rest", "grpc"])
"""Asks the same over REST and over gRPC."""


def unit_vectors(number: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((number, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(ids: Iterable[int], seed: int = 0, **fields: object) -> list[Embedding]:
    images = [replace(StoredImage(i, 1, 10 + i % 2, f"{i}.jpg", f"hash {i}", epoch=1), **fields) for i in ids]
    return [Embedding(*pair) for pair in zip(images, unit_vectors(len(images), seed), strict=True)]


async def listed(store: Store, project_id: int = 1) -> list[int]:
    return [image.id async for page in store.scroll(ENCODER.id, project_id) for image in page]
