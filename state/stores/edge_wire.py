"""How the embedded store and its child process talk: frames of JSON and raw arrays over a socket.

A frame is two lengths (little-endian, 4 bytes each), a JSON head, and a body of raw float32 and
int64 arrays whose shapes the head implies. A request's head is ``[operation, collection, …]``, an
answer's ``[problem or null, result]``. An image travels as a row: its id, then :data:`FIELDS`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from state.model import Within

FIELDS = ("project_id", "dataset_id", "name", "content", "path", "updated_at", "route", "epoch")
"""The payload of a point, in the order of :class:`~state.model.StoredImage` after its id."""

Narrowed = tuple[int, int | None, bool]
"""A project, a dataset or none, and whether the ids in the body are those to keep, or to leave out."""

HEADER = struct.Struct("<II")

BEGINS_ANEW = HEADER.pack(0, 0)
"""Sent unasked, before the child is away for as long as opening its shards takes."""


def pack(head: object, body: bytes = b"") -> bytes:
    """Return one frame.

    :raises TypeError: when `head` holds what JSON or UTF-8 cannot express
    """
    text = orjson.dumps(head)
    return b"".join((HEADER.pack(len(text), len(body)), text, body))


def unpack(frame: memoryview) -> tuple[Any, memoryview]:
    """Return a whole frame's head and body."""
    head_size, _ = HEADER.unpack_from(frame)
    end = HEADER.size + head_size
    return orjson.loads(frame[HEADER.size : end]), frame[end:]


def parts(length: int, size: int) -> Iterator[slice]:
    """Split a sequence of a length into slices of up to `size`."""
    return (slice(start, start + size) for start in range(0, length, size))


def chunks(ids: Collection[int], size: int) -> Iterator[bytes]:
    """Split ids, sorted and unique, into raw arrays; what no point can be called is left out."""
    storable = _storable(ids)
    return (storable[part].tobytes() for part in parts(len(storable), size))


def _storable(ids: Collection[int]) -> NDArray[np.int64]:
    try:
        numbers = np.fromiter(ids, np.int64, len(ids))
    except OverflowError:
        return _storable([number for number in ids if 0 <= number <= np.iinfo(np.int64).max])
    return np.unique(numbers[numbers >= 0])


def scope(within: Within) -> tuple[Narrowed, bytes]:
    """Say what `within` is to the child: project, dataset, whether the ids are to keep or to leave out."""
    if within.ids is None:
        ids = within.exclude
    else:
        ids = within.ids - within.exclude if within.exclude else within.ids
    return (within.project_id, within.dataset_id, within.ids is not None), _storable(ids).tobytes()


def scopes(within: Within, size: int) -> Iterator[tuple[Narrowed, bytes]]:
    """Do the same in parts of up to `size` ids to keep."""
    narrowed, ids = scope(within)
    if within.ids is None:
        return iter([(narrowed, ids)])
    width = size * np.dtype(np.int64).itemsize
    return ((narrowed, ids[part]) for part in parts(len(ids), width))
