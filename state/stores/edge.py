"""The embedded store: Qdrant Edge, one shard per encoder, held by a child process.

The shard of encoder X is ``<directory>/<prefix>_X``, the catalogue ``<directory>/<prefix>_catalogue``.
Vectors are stored as Float16: of 20,000 of 512 dimensions, recall@10 is 0.9995 (Float32: 1.0) with 29
MiB on disk instead of 48 and 164 MiB of memory instead of 215 (``python -m benchmarks.edge``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import fields, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from state.errors import Inconsistent, Occupied, Unavailable
from state.model import Embedding, EncoderRecord, Hit, StoredImage, Vectors, Within
from state.stores.edge_catalogue import Catalogue
from state.stores.edge_process import SERVICE, EdgeProcess
from state.stores.edge_wire import chunks, parts, scope, scopes
from state.stores.lock import acquire
from state.stores.validation import check_encoder, check_queries, check_texts, check_unused, stack

POINTS_PER_WRITE = 128
"""A search may have to wait for one such message, about 10 ms."""

VECTORS_PER_READ = 256
ROWS_PER_READ = 2000
IDS_PER_COUNT = 8192
LEFT_OUT_HERE = 1000
"""So many ids to leave out at most are asked for too, and dropped from the answer."""

HITS_ON_THE_LOOP = 2000
"""Larger answers are turned into objects in a thread."""

HEALTH_SECONDS = 5.0
LOCK_SECONDS = 0.1
DISK_RETRY_SECONDS = 60.0
GIB = 1 << 30

_T = TypeVar("_T")
_row = attrgetter(*(field.name for field in fields(StoredImage)))


def free_space_floor(total: int) -> int:
    """Return how many bytes of a file system must stay free: a full one kills the engine."""
    return max(GIB, min(total // 20, 5 * GIB))


class EdgeStore:
    """A :class:`~state.ports.Store` in a directory of this machine; made by :meth:`open`."""

    def __init__(
        self,
        directory: Path,
        prefix: str,
        call_seconds: float,
        disk_usage: Callable[[Path], tuple[int, int, int]],
        floor: Callable[[int], int],
    ) -> None:
        self._directory = directory.absolute()
        self._prefix = prefix
        self._call_seconds = call_seconds
        self._disk_usage = disk_usage
        self._floor = floor
        self._thread = ThreadPoolExecutor(1, "edge")
        self._held = AsyncExitStack()
        self._catalogue: Catalogue
        self._process: EdgeProcess

    @classmethod
    async def open(
        cls,
        directory: Path,
        prefix: str,
        *,
        patience: float = 10.0,
        call_seconds: float = 30.0,
        disk_usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage,
        floor: Callable[[int], int] = free_space_floor,
    ) -> Self:
        """Open the store, or make it.

        :param prefix: what the names of this source's collections begin with
        :param patience: seconds to wait for another holder to let go; a dead one's child may be closing
        :param call_seconds: after so long one engine call counts as stuck, and the child is replaced
        :param disk_usage: total, used and free bytes of the directory's file system
        :param floor: bytes that must stay free on a file system of a size; below them nothing is written
        :raises Occupied: when another process holds it
        :raises Misconfigured: when a newer version wrote the catalogue
        """
        store = cls(directory, prefix, call_seconds, disk_usage, floor)
        try:
            await store._open(patience)
        except BaseException:
            await store.close()
            raise
        return store

    async def encoders(self) -> Sequence[EncoderRecord]:
        """List the encoders in the catalogue."""
        return list(self._catalogue.encoders.values())

    async def add_encoder(self, record: EncoderRecord) -> None:
        """Put an encoder into the catalogue and make its shard; the first record of an id stays.

        :raises Rejected: when the id cannot be part of a file's name
        :raises Inconsistent: when the id is taken by an encoder of another dimension
        """
        check_encoder(record, self._catalogue.encoders.get(record.id))
        if record.id not in self._catalogue.encoders:
            await self._check_space()
            await self._drop_shard(record.id)  # a crash may have left one of a forgotten encoder
            await self._process.open(record.id, self._path(record.id), record.dimension)
            await self._off_loop(self._catalogue.add, record)

    async def forget_encoder(self, encoder_id: str) -> None:
        """Take an encoder out of the catalogue, and its shard with it; again is harmless.

        :raises Inconsistent: while it answers for a project
        """
        check_unused(encoder_id, self._catalogue.pointers)
        if encoder_id in self._catalogue.encoders:
            await self._off_loop(self._catalogue.forget, encoder_id)
            await self._drop_shard(encoder_id)

    async def confirm(self, encoder_id: str, epoch: int) -> None:
        """Note that good canaries vouch for all that was written for the encoder up to `epoch`."""
        self._encoder(encoder_id)
        await self._off_loop(self._catalogue.confirm, encoder_id, epoch)

    async def withdraw(self, collection: str) -> int:
        """Remove the points that no good canary vouches for; return how many."""
        confirmed, removed = self._encoder(collection).confirmed, 0
        await self._check_space()
        while some := (await self._process.call("withdraw_some", collection, confirmed, ROWS_PER_READ))[0]:
            removed += some
        return removed

    async def pinned(self) -> str | None:
        """Return the encoder that a person wants to answer, whatever encoder is at work."""
        return await self._off_loop(self._catalogue.pinned)

    async def pin(self, encoder_id: str | None) -> None:
        """Keep that wish; ``None`` withdraws it."""
        await self._off_loop(self._catalogue.pin, encoder_id)

    async def pointers(self) -> Mapping[int, str]:
        """Map each project to the encoder that answers for it."""
        return dict(self._catalogue.pointers)

    async def set_pointer(self, project_id: int, encoder_id: str | None) -> None:
        """Move a project's pointer; ``None`` takes it away."""
        await self._off_loop(self._catalogue.point, project_id, encoder_id)

    async def next_epoch(self) -> int:
        """Return a number greater than any it ever returned."""
        return await self._off_loop(self._catalogue.next_epoch)

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        """Write vectors and their proofs, whole.

        :raises Rejected: when a vector is not finite, not of unit length or of another dimension, or a
            name is no Unicode; nothing is written then
        """
        matrix = stack(points, self._encoder(collection).dimension)
        check_texts(point.image for point in points)
        rows = [_row(point.image) for point in points]
        await self._check_space()
        for part in parts(len(rows), POINTS_PER_WRITE):
            await self._process.call("upsert", collection, rows[part], body=matrix[part].tobytes())

    async def retag(self, collection: str, images: Sequence[StoredImage]) -> None:
        """Replace the payloads of those stored points that were made from the same content."""
        self._encoder(collection)
        await self._check_space()
        check_texts(images)
        rows = [_row(image) for image in images]
        for part in parts(len(rows), POINTS_PER_WRITE):
            await self._process.call("retag", collection, rows[part])

    async def remove(self, collection: str, project_id: int, ids: Collection[int]) -> int:
        """Remove those of `ids` that still belong to the project; return how many did."""
        self._encoder(collection)
        await self._check_space()
        removed = 0
        for chunk in chunks(ids, ROWS_PER_READ):
            removed += (await self._process.call("remove", collection, project_id, body=chunk))[0]
        return removed

    async def remove_project(self, collection: str, project_id: int) -> None:
        """Remove every point of the project."""
        self._encoder(collection)
        await self._check_space()
        while (await self._process.call("remove_some", collection, project_id, ROWS_PER_READ))[0]:
            pass

    async def count(self, collection: str, within: Within) -> int:
        """Count points exactly."""
        self._encoder(collection)
        total = 0
        for narrowed, ids in scopes(within, IDS_PER_COUNT):
            total += (await self._process.call("count", collection, *narrowed, body=ids, urgent=True))[0]
        return total

    async def projects(self, collection: str) -> Mapping[int, int]:
        """Map each project that has points to how many."""
        self._encoder(collection)
        counts, _ = await self._process.call("projects", collection, urgent=True)
        return dict(counts)

    async def scroll(self, collection: str, project_id: int) -> AsyncIterator[list[StoredImage]]:
        """List a project's proofs in pages, in ascending order of id."""
        self._encoder(collection)

        def read(start: int) -> asyncio.Task[tuple[list[list[Any]], memoryview]]:
            call = self._process.call("scroll", collection, project_id, start, ROWS_PER_READ)
            return asyncio.create_task(call)

        ahead = read(0)
        try:
            while True:
                rows, _ = await ahead
                if len(rows) == ROWS_PER_READ:
                    ahead = read(rows[-1][0] + 1)
                if rows:
                    yield [StoredImage(*row) for row in rows]
                if len(rows) < ROWS_PER_READ:
                    return
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def images(self, collection: str, ids: Collection[int]) -> list[StoredImage]:
        """Return the proofs of those `ids` that are stored, by id."""
        self._encoder(collection)
        found: list[StoredImage] = []
        for chunk in chunks(ids, ROWS_PER_READ):
            rows, _ = await self._process.call("images", collection, body=chunk, urgent=True)
            found += [StoredImage(*row) for row in rows]
        return found

    async def embeddings(self, collection: str, ids: Collection[int]) -> list[Embedding]:
        """Return those of `ids` that are stored, with their vectors, by id."""
        dimension = self._encoder(collection).dimension
        found: list[Embedding] = []
        for chunk in chunks(ids, VECTORS_PER_READ):
            answer = await self._process.call("embeddings", collection, body=chunk, urgent=True)
            found += _embeddings(*answer, dimension)
        return found

    async def with_contents(self, collection: str, contents: Collection[str]) -> Mapping[str, Embedding]:
        """Find one stored embedding, of any project, for each of these contents."""
        dimension = self._encoder(collection).dimension
        wanted = list(set(contents))
        found: list[Embedding] = []
        for part in parts(len(wanted), VECTORS_PER_READ):
            answer = await self._process.call("contents", collection, wanted[part])
            found += _embeddings(*answer, dimension)
        return {embedding.image.content: embedding for embedding in found}

    async def query(
        self, collection: str, vectors: Vectors, within: Within, limit: int, exact: bool = False
    ) -> list[list[Hit]]:
        """Return the nearest points of each row of `vectors`, best first, in one engine call.

        :raises Rejected: when a query vector is not finite, not of unit length or of another dimension
        """
        dimension = self._encoder(collection).dimension
        matrix = check_queries(vectors, dimension)
        # The engine is three times as slow with a filter that leaves out ids as without.
        few = within.ids is None and len(within.exclude) <= LEFT_OUT_HERE
        unwanted = within.exclude if few else frozenset()
        narrowed, ids = scope(replace(within, exclude=within.exclude - unwanted))
        head = (len(matrix), dimension, limit + len(unwanted), exact, *narrowed)
        answers, _ = await self._process.call(
            "query", collection, *head, body=matrix.tobytes() + ids, urgent=True
        )
        if sum(map(len, answers)) > HITS_ON_THE_LOOP:
            hits = await self._off_loop(_hits, answers)
        else:
            hits = _hits(answers)
        if not unwanted:
            return hits
        return [[hit for hit in row if hit.image.id not in unwanted][:limit] for row in hits]

    async def vectors(
        self, collection: str, within: Within
    ) -> AsyncIterator[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]:
        """Stream ids, dataset ids and vectors in blocks, in ascending order of id."""
        dimension = self._encoder(collection).dimension
        for narrowed, wanted in scopes(within, VECTORS_PER_READ):
            start, number = 0, VECTORS_PER_READ
            while number == VECTORS_PER_READ:
                number, arrays = await self._process.call(
                    "vectors", collection, start, VECTORS_PER_READ, *narrowed, body=wanted
                )
                if number:
                    split = 2 * number * np.dtype(np.int64).itemsize
                    ids, dataset_ids = np.frombuffer(arrays[:split], np.int64).reshape(2, number).copy()
                    start = int(ids[-1]) + 1
                    yield ids, dataset_ids, _matrix(arrays[split:], dimension)

    async def healthy(self) -> None:
        """Return if the child answers within a few seconds, whatever it is busy with."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await self._process.call("ping", urgent=True)
        except TimeoutError:
            raise Unavailable(SERVICE, f"no answer within {HEALTH_SECONDS:g} s") from None

    async def close(self) -> None:
        """Make everything durable and let go; again is harmless."""
        await self._held.aclose()

    async def _open(self, patience: float) -> None:
        self._held.callback(self._thread.shutdown)
        await self._off_loop(lambda: self._directory.mkdir(parents=True, exist_ok=True))
        lock = await self._take_lock(patience)
        self._held.push_async_callback(self._off_loop, os.close, lock)
        self._catalogue = await self._off_loop(Catalogue, self._path("catalogue"))
        self._held.push_async_callback(self._off_loop, self._catalogue.close)
        self._process = EdgeProcess(lock, self._thread, self._call_seconds)
        self._held.push_async_callback(self._process.close)
        await self._process.start()
        for record in self._catalogue.encoders.values():
            await self._process.open(record.id, self._path(record.id), record.dimension)

    async def _take_lock(self, patience: float) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return acquire(self._path("lock"))
            except Occupied:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(LOCK_SECONDS)

    async def _drop_shard(self, encoder_id: str) -> None:
        await self._process.drop(encoder_id)
        await self._off_loop(partial(shutil.rmtree, self._path(encoder_id), ignore_errors=True))

    def _path(self, name: str) -> Path:
        return self._directory / f"{self._prefix}_{name}"

    def _encoder(self, collection: str) -> EncoderRecord:
        try:
            return self._catalogue.encoders[collection]
        except KeyError:
            raise Inconsistent(f"no encoder {collection} in the catalogue") from None

    async def _check_space(self) -> None:
        total, _, free = await self._off_loop(self._disk_usage, self._directory)
        floor = self._floor(total)
        if free < floor:
            problem = f"disk low: {free >> 20} MiB free, {floor >> 20} MiB must stay so"
            raise Unavailable(SERVICE, problem, DISK_RETRY_SECONDS)

    async def _off_loop(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Do what may block in the one thread there is for it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(SERVICE, f"{self._directory}: {error}") from error


def _hits(answers: list[list[list[Any]]]) -> list[list[Hit]]:
    return [[Hit(StoredImage(*row), score) for *row, score in answer] for answer in answers]


def _embeddings(rows: list[list[Any]], arrays: memoryview, dimension: int) -> Iterator[Embedding]:
    vectors = _matrix(arrays, dimension)
    return (Embedding(StoredImage(*row), vector) for row, vector in zip(rows, vectors, strict=True))


def _matrix(arrays: memoryview, dimension: int) -> Vectors:
    """Copy vectors out of a frame, where they lie at any offset."""
    return np.frombuffer(arrays, np.float32).reshape(-1, dimension).copy()
