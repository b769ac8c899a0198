"""The store in memory, failing as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from state.errors import Unavailable
from state.model import Embedding, StoredImage
from state.stores.memory import MemoryStore


class FaultyStore(MemoryStore):
    """Every call gives way to others before it and after it, and may fail.

    :ivar faults: what befalls the next writes, one each: ``before`` it was done, or ``after``
    :ivar down: whether nothing is answered
    """

    def __init__(self) -> None:
        super().__init__(page_size=2)
        self.faults: list[str] = []
        self.down = False

    @asynccontextmanager
    async def _call(self, fault: str = "") -> AsyncIterator[None]:
        await asyncio.sleep(0)
        if self.down or fault == "before":
            raise Unavailable("qdrant", "connection refused")
        yield
        await asyncio.sleep(0)
        if fault == "after":
            raise Unavailable("qdrant", "connection reset")

    def _write(self) -> AbstractAsyncContextManager[None]:
        return self._call(self.faults.pop(0) if self.faults else "")

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        async with self._write():
            await super().upsert(collection, points)

    async def retag(self, collection: str, images: Sequence[StoredImage]) -> None:
        async with self._write():
            await super().retag(collection, images)

    async def remove(self, collection: str, project_id: int, ids: Collection[int]) -> int:
        async with self._write():
            return await super().remove(collection, project_id, ids)

    async def projects(self, collection: str) -> Mapping[int, int]:
        async with self._call():
            return await super().projects(collection)

    async def pointers(self) -> Mapping[int, str]:
        async with self._call():
            return await super().pointers()

    async def embeddings(self, collection: str, ids: Collection[int]) -> list[Embedding]:
        async with self._call():
            return await super().embeddings(collection, ids)

    async def with_contents(self, collection: str, contents: Collection[str]) -> Mapping[str, Embedding]:
        async with self._call():
            return await super().with_contents(collection, contents)

    async def scroll(self, collection: str, project_id: int) -> AsyncIterator[list[StoredImage]]:
        last = -1
        while True:
            async with self._call():
                rows = [row for row in self.points(collection) if row.image.project_id == project_id]
                page = [row.image for row in rows if row.image.id > last][:2]
            if not page:
                return
            last = page[-1].id
            yield page

    def points(self, collection: str) -> list[Embedding]:
        """What is stored, by id, asked without a fault."""
        return [point for _, point in sorted(self._points[collection].items())]
