"""Shards: some thousands of points, their vectors as a numpy array, their payloads as JSON lines."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from daemon.transfer.files import write_whole
from daemon.transfer.manifest import DIGEST_BYTES, File, Shard, checksum
from state.errors import Rejected
from state.model import Embedding, StoredImage, Vectors

SHARD_BYTES = 8 << 20
"""Vectors in one shard, as bytes: what is in memory at once is some five times as much."""

_PAYLOADS = TypeAdapter(list[StoredImage])


def points_per_shard(dimension: int, shard_bytes: int) -> int:
    """Return how many points a shard holds."""
    return max(1, shard_bytes // (4 * dimension))


def lines_of(images: Iterable[StoredImage]) -> bytes:
    """Return payloads as JSON lines; equal payloads are equal bytes."""
    return b"".join(orjson.dumps(image, option=orjson.OPT_APPEND_NEWLINE) for image in images)


def digest_of(points: Iterable[Embedding]) -> str:
    """Return the digest of points: 20 bytes of BLAKE2b, in hex, over what each one is.

    That is its id as eight bytes, its content in UTF-8 and a zero byte, and its vector as float32; numbers
    are little-endian.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    for point in points:
        digest.update(point.image.id.to_bytes(8, "little", signed=True))
        digest.update(point.image.content.encode() + b"\0")
        digest.update(point.vector.astype("<f4").tobytes())
    return digest.hexdigest()


def write(directory: Path, name: str, points: Sequence[Embedding]) -> Shard:
    """Write points as the two files of a shard.

    :param name: ``<encoder>/<project>-<number>``
    """
    vectors = np.array([point.vector for point in points], "<f4")
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    encoder, _, rest = name.partition("/")
    return Shard(
        encoder=encoder,
        project=int(rest.partition("-")[0]),
        points=len(points),
        vectors=_write(directory, f"points/{name}.npy", buffer.getvalue()),
        payloads=_write(directory, f"points/{name}.jsonl", lines_of(point.image for point in points)),
        digest=digest_of(points),
    )


def check(directory: Path, shard: Shard) -> None:
    """Return if the files of a shard are those that were written.

    :raises Rejected: when one is missing, cut short or altered
    """
    for file in (shard.vectors, shard.payloads):
        _read(directory, file)


def read(directory: Path, shard: Shard, dimension: int) -> list[Embedding]:
    """Return the points of a shard.

    :raises Rejected: when a file is missing, cut short or altered, or is not what the shard says
    """
    try:
        vectors = np.load(io.BytesIO(_read(directory, shard.vectors)), allow_pickle=False)
        lines = _read(directory, shard.payloads).splitlines()
        images = _PAYLOADS.validate_python([orjson.loads(line) for line in lines])
    except (ValueError, EOFError, ValidationError) as error:
        raise Rejected(f"{shard.vectors.file} and its payloads cannot be read: {error}") from error
    if (
        vectors.shape != (shard.points, dimension)
        or vectors.dtype != np.float32
        or len(images) != len(vectors)
    ):
        raise Rejected(f"{shard.vectors.file} holds {vectors.dtype} {vectors.shape}, of {len(images)} images")
    points = [Embedding(image, row) for image, row in zip(images, vectors, strict=True)]
    if digest_of(points) != shard.digest:
        raise Rejected(f"{shard.vectors.file} does not hold the points it was written with")
    return points


def same_but_for_rounding(stored: Vectors, given: Vectors) -> NDArray[np.bool_]:
    """Tell for each row whether it is the other, of unit length again and perhaps rounded to Float16.

    Rounding to 11 bits moves a component by up to 2^-11 of its size, and the length of the whole by less.
    """
    same: NDArray[np.bool_] = np.all(np.isclose(stored, given, rtol=2**-9, atol=1e-6), axis=1)
    return same


def _write(directory: Path, name: str, data: bytes) -> File:
    write_whole(directory / name, data)
    return File(name, len(data), checksum(data))


def _read(directory: Path, file: File) -> bytes:
    try:
        data = (directory / file.file).read_bytes()
    except FileNotFoundError:
        raise Rejected(f"{file.file} is missing from the export") from None
    if len(data) != file.bytes:
        raise Rejected(f"{file.file} has {len(data)} bytes, not {file.bytes}: it was cut short or altered")
    if checksum(data) != file.blake2b:
        raise Rejected(f"{file.file} was altered: its checksum is another")
    return data
