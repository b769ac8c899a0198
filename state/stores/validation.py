"""What every store checks before it writes or asks: engines accept NaN and zero vectors silently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from state.errors import Inconsistent, Rejected
from state.model import Embedding, EncoderRecord, StoredImage, Vectors

NORM_TOLERANCE = 1e-3


def stack(points: Sequence[Embedding], dimension: int) -> Vectors:
    """Return the vectors of `points` as one matrix, shape ``(len(points), dimension)``.

    :raises Rejected: naming the first image whose vector has another dimension, is not finite or
        not of unit length
    """
    for point in points:
        if point.vector.shape != (dimension,):
            raise Rejected(
                f"image {point.image.id}: a vector of shape {point.vector.shape}, not ({dimension},)"
            )
    rows = [point.vector for point in points]
    matrix = np.array(rows, np.float32).reshape(len(points), dimension)
    wrong = np.flatnonzero(~_unit_length(matrix))
    if wrong.size:
        raise Rejected(f"image {points[wrong[0]].image.id}: its vector is not finite and of unit length")
    return matrix


def check_encoder(record: EncoderRecord, known: EncoderRecord | None) -> None:
    """Make sure that an encoder can be in a catalogue, whose record of that id is `known`.

    :raises Rejected: when the id cannot be part of a collection's or a file's name
    :raises Inconsistent: when the id is taken by an encoder of another dimension
    """
    if not re.fullmatch(r"[\w.-]{1,100}", record.id):
        raise Rejected(f"{record.id!r} is no name for an encoder")
    if known is not None and known.dimension != record.dimension:
        raise Inconsistent(f"encoder {record.id} has {known.dimension} dimensions, not {record.dimension}")


def check_texts(images: Iterable[StoredImage]) -> None:
    """Make sure that names and paths can be stored: a file system may hold some that are no Unicode.

    :raises Rejected: naming the first image for which that is not so
    """
    for image in images:
        try:
            f"{image.name}{image.path}".encode()
        except UnicodeEncodeError:
            raise Rejected(f"image {image.id}: {image.name!a} is not valid Unicode") from None


def check_queries(vectors: Vectors, dimension: int) -> Vectors:
    """Return query vectors as contiguous float32, shape ``(n, dimension)``.

    :raises Rejected: when their shape is another, or one is not finite and of unit length
    """
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise Rejected(f"query vectors of shape {vectors.shape}, not (n, {dimension})")
    matrix = np.ascontiguousarray(vectors, np.float32)
    if not _unit_length(matrix).all():
        raise Rejected("a query vector is not finite and of unit length")
    return matrix


def check_unused(encoder_id: str, pointers: Mapping[int, str]) -> None:
    """Make sure that no project is answered for by the encoder.

    :raises Inconsistent: when one is
    """
    for project_id, answering in pointers.items():
        if answering == encoder_id:
            raise Inconsistent(f"encoder {encoder_id} answers for project {project_id}")


def _unit_length(matrix: Vectors) -> NDArray[np.bool_]:
    """Tell for each row whether its length is one; a row with NaN or inf has no length near one."""
    with np.errstate(all="ignore"):
        lengths: Vectors = np.linalg.norm(matrix, axis=1)
    return np.abs(lengths - 1) <= NORM_TOLERANCE
