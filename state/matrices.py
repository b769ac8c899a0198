"""A project's vectors as one matrix, mapped from a file and kept in step with the store.

The file is a cache of what the store holds. A write through here only marks the ids it was about; the
next question asks the store for exactly those and writes the next version of the file. So a write that
failed half-way, came twice, or moved an image between projects needs no thought: marked is marked, and
the store alone knows.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

import numpy as np

from state.errors import Inconsistent, Unavailable
from state.matrix_file import NO_IDS, append, frozen, map_rows, members, part, write_next
from state.model import Embedding, Matrix, StoredImage, Within
from state.ports import Store

P = ParamSpec("P")
T = TypeVar("T")

MAX_BYTES = 8 << 30
FEW_IDS = 20_000
"""So many ids are read from the store one by one rather than with the whole project."""


@dataclass(slots=True, eq=False)
class _Project:
    """What is known of one project in one collection.

    :ivar matrix: its latest version; ``None`` when there is none yet, or no more
    :ivar marked: ids written since that version, which the store has to be asked for
    :ivar meanwhile: ids written, in any project, while a version is being made; else ``None``
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    matrix: Matrix | None = None
    marked: set[int] = field(default_factory=set)
    meanwhile: set[int] | None = None

    def forget(self) -> None:
        self.matrix = None
        self.marked = set()

    def mark(self, own: Iterable[int], written: Collection[int]) -> None:
        """Mark what is the project's now, and what was: an id written elsewhere has left it."""
        if self.meanwhile is not None:
            self.marked.update(own)
            self.meanwhile.update(written)
        elif self.matrix is not None:
            ids = np.fromiter(written, np.int64, len(written))
            self.marked.update(own, ids[members(ids, self.matrix.ids)].tolist())
            if not self.worth_keeping():
                self.forget()

    def worth_keeping(self) -> bool:
        """Whether reading the marked ids is cheaper than reading the whole project."""
        return self.matrix is not None and len(self.marked) <= min(FEW_IDS, len(self.matrix.ids) // 4)


class MatrixCache:
    """A store that also hands out matrices; all writes of the process have to come through here.

    :param directory: holds the files; they have no names and vanish with the process, however it ends
    :param executor: for file work
    :param max_bytes: on disk; the least recently used matrices give way, a single larger one is not kept
    """

    def __init__(self, store: Store, directory: Path, executor: Executor, max_bytes: int = MAX_BYTES) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._directory = directory
        self._executor = executor
        self._max_bytes = max_bytes
        self._projects: dict[tuple[str, int], _Project] = {}
        # What changes no vector is the store's own.
        self.encoders = store.encoders
        self.add_encoder = store.add_encoder
        self.confirm = store.confirm
        self.pinned = store.pinned
        self.pin = store.pin
        self.pointers = store.pointers
        self.set_pointer = store.set_pointer
        self.next_epoch = store.next_epoch
        self.count = store.count
        self.projects = store.projects
        self.scroll = store.scroll
        self.images = store.images
        self.embeddings = store.embeddings
        self.with_contents = store.with_contents
        self.query = store.query
        self.vectors = store.vectors
        self.healthy = store.healthy

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        """Write vectors and their proofs, whole."""
        try:
            await self._store.upsert(collection, points)
        finally:
            self._mark(collection, [point.image for point in points])

    async def retag(self, collection: str, images: Sequence[StoredImage]) -> None:
        """Replace the payloads of stored points."""
        try:
            await self._store.retag(collection, images)
        finally:
            self._mark(collection, images)

    async def remove(self, collection: str, project_id: int, ids: Collection[int]) -> int:
        """Remove those of `ids` that still belong to the project; return how many did."""
        try:
            return await self._store.remove(collection, project_id, ids)
        finally:
            if project := self._projects.get((collection, project_id)):
                project.mark((), ids)

    async def remove_project(self, collection: str, project_id: int) -> None:
        """Remove every point of the project."""
        try:
            await self._store.remove_project(collection, project_id)
        finally:  # where a version is being made just now, the count will tell
            if project := self._projects.get((collection, project_id)):
                project.forget()

    async def withdraw(self, collection: str) -> int:
        """Remove the points that no good canary vouches for; return how many."""
        try:
            return await self._store.withdraw(collection)
        finally:
            self._forget(collection)

    async def forget_encoder(self, encoder_id: str) -> None:
        """Take an encoder out of the catalogue, and its collection with it."""
        await self._store.forget_encoder(encoder_id)
        self._forget(encoder_id)

    async def close(self) -> None:
        """Let go of the files and close the store."""
        self._projects.clear()
        await self._store.close()

    async def matrix(self, collection: str, within: Within) -> Matrix:
        """Return the vectors of `within`, in ascending order of id, as of one moment, read-only.

        :raises Inconsistent: when the store's listing and its count do not agree
        :raises Unavailable: when there is no room for the file, too
        """
        key = (collection, within.project_id)
        project = self._projects.setdefault(key, _Project())
        if project.matrix is None and within.ids is not None and len(within.ids) <= FEW_IDS:
            return await self._read(collection, within)
        async with project.lock:
            matrix = await self._bring_up_to_date(collection, within.project_id, project)
        self._projects[key] = self._projects.pop(key, project)  # the last is the most recently used
        self._make_room()
        return await self._run(part, matrix, within)

    def _mark(self, collection: str, images: Sequence[StoredImage]) -> None:
        written = [image.id for image in images]
        for (of_collection, project_id), project in self._projects.items():
            if of_collection == collection:
                project.mark([image.id for image in images if image.project_id == project_id], written)

    def _forget(self, collection: str) -> None:
        for (of_collection, _), project in self._projects.items():
            if of_collection == collection:
                project.forget()

    def _make_room(self) -> None:
        total = sum(project.matrix.vectors.nbytes for project in self._projects.values() if project.matrix)
        for project in self._projects.values():
            if total <= self._max_bytes:
                return
            if project.matrix is not None and not project.lock.locked():
                total -= project.matrix.vectors.nbytes
                project.forget()

    async def _bring_up_to_date(self, collection: str, project_id: int, project: _Project) -> Matrix:
        """Make the next version, and another from nothing where the store counts differently."""
        for _ in range(2):
            matrix = await self._next_version(collection, project_id, project)
            count = await self._store.count(collection, Within(project_id))
            if count == len(matrix.ids) or project.marked:  # marked: written meanwhile, not yet due
                return matrix
            project.forget()
        raise Inconsistent(f"project {project_id}: {len(matrix.ids)} vectors listed, {count} counted")

    async def _next_version(self, collection: str, project_id: int, project: _Project) -> Matrix:
        old, marked = project.matrix, frozenset(project.marked)
        if old is not None and not marked:
            return old
        keep, made = project.worth_keeping(), None
        project.marked, project.meanwhile = set(), set()
        try:
            if keep and old is not None:
                made = await self._refresh(collection, project_id, old, marked)
            else:
                made = await self._build(collection, Within(project_id))
            return made
        finally:
            written, project.meanwhile = project.meanwhile, None
            project.matrix = made or old
            project.mark(() if made else marked, written)

    async def _build(self, collection: str, within: Within) -> Matrix:
        """Stream all of `within` into a new file."""
        ids, dataset_ids, dimension = [NO_IDS], [NO_IDS], 0
        with await self._new_file() as file:
            async for block_ids, block_dataset_ids, vectors in self._store.vectors(collection, within):
                ids.append(block_ids)
                dataset_ids.append(block_dataset_ids)
                dimension = vectors.shape[1]
                await self._run(append, file, vectors)
            return await self._run(
                map_rows, file, np.concatenate(ids), np.concatenate(dataset_ids), dimension
            )

    async def _refresh(self, collection: str, project_id: int, old: Matrix, marked: frozenset[int]) -> Matrix:
        """Ask the store for the marked ids and write the rest of the old version around them."""
        fresh = await self._read(collection, Within(project_id, ids=marked))
        with await self._new_file() as file:
            return await self._run(write_next, file, old, fresh, marked)

    async def _read(self, collection: str, within: Within) -> Matrix:
        """Read a few vectors into memory."""
        blocks = [block async for block in self._store.vectors(collection, within)]
        if not blocks:
            return frozen(NO_IDS, NO_IDS, np.empty((0, 0), np.float32))
        ids, dataset_ids, vectors = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return frozen(ids, dataset_ids, vectors)

    def _temporary(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._directory)

    async def _new_file(self) -> BinaryIO:
        """Make a file; who is cancelled meanwhile leaves none open."""
        making = asyncio.ensure_future(self._run(self._temporary))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            with suppress(Unavailable):
                (await making).close()
            raise

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, partial(function, *args, **kwargs))
        except OSError as error:
            raise Unavailable("generator", f"no matrix in {self._directory}: {error.strerror}") from error
