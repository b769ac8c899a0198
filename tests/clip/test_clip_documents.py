import io

import numpy as np
import pytest
from PIL import Image

from daemon.encoders.canary import pictures
from daemon.encoders.clip_documents import blobs, unit_vectors
from state.errors import Rejected


def test_rows_become_unit_vectors() -> None:
    vectors = unit_vectors([[3, 4], np.float16([0, 2]), [-1e100, 0]], 3)
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1], [-1, 0]], atol=1e-7)
    assert vectors.dtype == np.float32


def test_no_rows_are_no_vectors() -> None:
    assert unit_vectors([], 0).shape == (0, 0)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (None, "document 1 has no embedding"),
        ([], "document 1: the embedding has shape"),
        (7.0, "document 1: the embedding has shape"),
        ([[1.0, 2.0]], "document 1: the embedding has shape"),
        ([1.0], "document 1: 1 numbers, document 0 has 2"),
        ([1.0, float("nan")], "document 1: the embedding is not finite"),
        ([1.0, None], "document 1: the embedding is not finite"),
        ([1.0, float("inf")], "document 1: the embedding is not finite"),
        ([1e300, 1e300], "document 1: the embedding is not finite"),
        ([1.0, 10**400], "document 1: the embedding is no list of numbers"),
        ([0.0, 0.0], "document 1: the embedding is zero"),
        ([1e-20, 0.0], "document 1: the embedding is zero"),
        ("[1, 2]", "document 1: the embedding is no list of numbers"),
        ({"ndarray": [1.0, 2.0]}, "document 1: the embedding is no list of numbers"),
    ],
)
def test_what_is_no_vector_is_rejected_by_its_number(row: object, problem: str) -> None:
    with pytest.raises(Rejected) as rejected:
        unit_vectors([[3.0, 4.0], row], 2)
    assert str(rejected.value).startswith(problem)


def test_too_few_rows_are_rejected() -> None:
    with pytest.raises(Rejected, match="1 embeddings for 2 documents"):
        unit_vectors([[1.0]], 2)


def test_a_picture_survives_being_sent() -> None:
    for blob, picture in zip(blobs(pictures()), pictures(), strict=True):
        sent = np.asarray(Image.open(io.BytesIO(blob)).convert("RGB"), np.float64)
        assert np.sqrt(((sent - picture) ** 2).mean()) < 2.5


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (1, 70_000, 3)], ids=str)
def test_what_cannot_be_sent_is_rejected_by_its_number(shape: tuple[int, ...]) -> None:
    with pytest.raises(Rejected, match="picture 1 "):
        blobs([np.zeros((2, 2, 3), np.uint8), np.zeros(shape, np.uint8)])
