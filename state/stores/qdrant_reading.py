"""Reading points of a collection on a Qdrant server, in answers small enough not to hold up the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from state.errors import Inconsistent
from state.model import Embedding, StoredImage, Vectors, Within
from state.stores.qdrant_connection import Connection
from state.stores.qdrant_points import PROOF, filters, images_of, matching, of_project, parts, storable

ROWS_PER_READ = 500
NUMBERS_PER_READ = 1 << 16
"""Components of vectors in one answer, some 6 ms to understand."""

MAX_PROJECTS = 1_000_000

Blocks = AsyncIterator[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]


def vectors_per_read(dimension: int) -> int:
    """Return how many vectors fit one answer."""
    return max(1, NUMBERS_PER_READ // dimension)


class Reading:
    """Questions about a collection, by its name on the server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def count(self, name: str, condition: models.Filter) -> int:
        """Count exactly what a filter matches."""
        counted = await self._connection.read(
            lambda client: client.count(name, count_filter=condition, exact=True)
        )
        return counted.count

    async def projects(self, name: str) -> dict[int, int]:
        """Map each project that has points to how many."""
        facet = await self._connection.read(
            lambda client: client.facet(name, "project_id", limit=MAX_PROJECTS, exact=True)
        )
        return {int(hit.value): hit.count for hit in facet.hits if hit.count}

    async def scroll(self, name: str, project_id: int) -> AsyncIterator[list[StoredImage]]:
        """List a project's proofs in pages, by id."""
        pages = self._pages(name, of_project(project_id), ROWS_PER_READ, with_payload=PROOF)
        async with aclosing(pages):
            async for page in pages:
                yield images_of(page)

    async def vectors(self, name: str, within: Within, dimension: int) -> Blocks:
        """Stream ids, dataset ids and vectors in blocks, by id."""
        wanted = {"with_payload": ["dataset_id"], "with_vectors": True}
        for condition in filters(within):
            pages = self._pages(name, condition, vectors_per_read(dimension), **wanted)
            async with aclosing(pages):
                async for page in pages:
                    ids, datasets = _places(page)
                    yield ids, datasets, _matrix(page, dimension)

    async def images(self, name: str, ids: Collection[int]) -> list[StoredImage]:
        """Return the proofs of those `ids` that are stored, by id."""
        found: list[StoredImage] = []
        for part in parts(storable(ids), ROWS_PER_READ):
            found += images_of(await self._retrieve(name, part))
        return found

    async def embeddings(self, name: str, ids: Collection[int], dimension: int) -> list[Embedding]:
        """Return those of `ids` that are stored, with their vectors, by id."""
        found: list[Embedding] = []
        for part in parts(storable(ids), vectors_per_read(dimension)):
            found += _embeddings(await self._retrieve(name, part, with_vectors=True), dimension)
        return found

    async def with_contents(self, name: str, contents: Collection[str], dimension: int) -> list[Embedding]:
        """Return one stored embedding for each of these contents that has any."""
        found: list[Embedding] = []
        for part in parts(sorted(set(contents)), vectors_per_read(dimension)):
            requests = [
                models.QueryRequest(
                    filter=models.Filter(must=[matching("content", content)]),
                    limit=1,
                    with_payload=True,
                    with_vector=True,
                )
                for content in part
            ]
            points = [point for answer in await self.ask(name, requests) for point in answer.points]
            found += _embeddings(points, dimension)
        return found

    async def ask(self, name: str, requests: Sequence[models.QueryRequest]) -> list[models.QueryResponse]:
        """Return the answers to queries; a single one goes alone, for the client copies those of a batch."""
        if len(requests) > 1:
            return await self._connection.read(lambda client: client.query_batch_points(name, requests))
        (request,) = requests
        answer = await self._connection.read(
            lambda client: client.query_points(
                name,
                query=request.query,
                query_filter=request.filter,
                search_params=request.params,
                limit=request.limit or 1,
                with_payload=request.with_payload or False,
                with_vectors=request.with_vector or False,
            )
        )
        return [answer]

    async def _retrieve(
        self, name: str, ids: Sequence[int], with_vectors: bool = False
    ) -> list[models.Record]:
        records = await self._connection.read(
            lambda client: client.retrieve(name, ids, with_payload=PROOF, with_vectors=with_vectors)
        )
        return sorted(records, key=lambda record: int(record.id))

    async def _pages(
        self, name: str, condition: models.Filter, limit: int, **wanted: Any
    ) -> AsyncGenerator[list[models.Record], None]:
        """Read what a filter matches by id; while a page is used, the next one is on its way."""

        def read(start: Any) -> asyncio.Task[tuple[list[models.Record], Any]]:
            return asyncio.create_task(
                self._connection.read(
                    lambda client: client.scroll(name, condition, limit=limit, offset=start, **wanted)
                )
            )

        ahead = read(None)
        try:
            while True:
                records, following = await ahead
                if following is not None:
                    ahead = read(following)
                if records:
                    yield records
                if following is None:
                    return
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


def _places(page: Sequence[models.Record]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and dataset ids.

    :raises Inconsistent: when a point is none of ours
    """
    try:
        datasets = [(record.payload or {})["dataset_id"] for record in page]
        return np.array([record.id for record in page], np.int64), np.array(datasets, np.int64)
    except (KeyError, ValueError, TypeError) as error:
        raise Inconsistent(f"the collection holds a point that is not ours: {error!r}") from None


def _embeddings(points: Sequence[models.Record | models.ScoredPoint], dimension: int) -> list[Embedding]:
    return [Embedding(*pair) for pair in zip(images_of(points), _matrix(points, dimension), strict=True)]


def _matrix(points: Sequence[models.Record | models.ScoredPoint], dimension: int) -> Vectors:
    return np.array([point.vector for point in points], np.float32).reshape(len(points), dimension)
