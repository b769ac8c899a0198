"""The store that forgets: everything in dictionaries. The reference for every other one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from state.errors import Inconsistent
from state.model import Embedding, EncoderRecord, Hit, StoredImage, Vectors, Within
from state.stores.validation import check_encoder, check_queries, check_texts, check_unused, stack


class MemoryStore:
    """A :class:`~state.ports.Store` in memory.

    :param page_size: points per page of :meth:`scroll` and :meth:`vectors`
    """

    def __init__(self, page_size: int = 1000) -> None:
        self._page_size = page_size
        self._encoders: dict[str, EncoderRecord] = {}
        self._points: dict[str, dict[int, Embedding]] = {}
        self._pointers: dict[int, str] = {}
        self._epoch = 0
        self._pinned: str | None = None

    async def encoders(self) -> Sequence[EncoderRecord]:
        """List the encoders in the catalogue."""
        return list(self._encoders.values())

    async def add_encoder(self, record: EncoderRecord) -> None:
        """Put an encoder into the catalogue; the first record of an id stays.

        :raises Rejected: when the id cannot be part of a name
        :raises Inconsistent: when the id is taken by an encoder of another dimension
        """
        check_encoder(record, self._encoders.get(record.id))
        self._encoders.setdefault(record.id, record)
        self._points.setdefault(record.id, {})

    async def forget_encoder(self, encoder_id: str) -> None:
        """Take an encoder out of the catalogue, and its collection with it; again is harmless.

        :raises Inconsistent: while it answers for a project
        """
        check_unused(encoder_id, self._pointers)
        self._encoders.pop(encoder_id, None)
        self._points.pop(encoder_id, None)

    async def confirm(self, encoder_id: str, epoch: int) -> None:
        """Note that good canaries vouch for all that was written for the encoder up to `epoch`."""
        self._collection(encoder_id)
        known = self._encoders[encoder_id]
        self._encoders[encoder_id] = replace(known, confirmed=max(known.confirmed, epoch))

    async def withdraw(self, collection: str) -> int:
        """Remove the points that no good canary vouches for; return how many."""
        stored = self._collection(collection)
        confirmed = self._encoders[collection].confirmed
        doomed = [image_id for image_id, point in stored.items() if point.image.epoch > confirmed]
        for image_id in doomed:
            del stored[image_id]
        return len(doomed)

    async def pinned(self) -> str | None:
        """Return the encoder that a person wants to answer, whatever encoder is at work."""
        return self._pinned

    async def pin(self, encoder_id: str | None) -> None:
        """Keep that wish; ``None`` withdraws it."""
        self._pinned = encoder_id

    async def pointers(self) -> Mapping[int, str]:
        """Map each project to the encoder that answers for it."""
        return dict(self._pointers)

    async def set_pointer(self, project_id: int, encoder_id: str | None) -> None:
        """Move a project's pointer; ``None`` takes it away."""
        if encoder_id is None:
            self._pointers.pop(project_id, None)
        else:
            self._pointers[project_id] = encoder_id

    async def next_epoch(self) -> int:
        """Return a number greater than any it ever returned."""
        self._epoch += 1
        return self._epoch

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        """Write vectors and their proofs, whole.

        :raises Rejected: when a vector is not finite, not of unit length or of another dimension, or a
            name is no Unicode; nothing is written then
        """
        stored = self._collection(collection)
        rows = stack(points, self._encoders[collection].dimension)
        check_texts(point.image for point in points)
        for point, row in zip(points, rows, strict=True):
            stored[point.image.id] = replace(point, vector=row)

    async def retag(self, collection: str, images: Sequence[StoredImage]) -> None:
        """Replace the payloads of those stored points that were made from the same content."""
        stored = self._collection(collection)
        check_texts(images)
        for image in images:
            if image.id in stored and stored[image.id].image.content == image.content:
                stored[image.id] = replace(stored[image.id], image=image)

    async def remove(self, collection: str, project_id: int, ids: Collection[int]) -> int:
        """Remove those of `ids` that still belong to the project; return how many did."""
        stored = self._collection(collection)
        doomed = [i for i in set(ids) if i in stored and stored[i].image.project_id == project_id]
        for image_id in doomed:
            del stored[image_id]
        return len(doomed)

    async def remove_project(self, collection: str, project_id: int) -> None:
        """Remove every point of the project."""
        await self.remove(collection, project_id, list(self._collection(collection)))

    async def count(self, collection: str, within: Within) -> int:
        """Count points exactly."""
        return sum(1 for _ in self._matching(collection, within))

    async def projects(self, collection: str) -> Mapping[int, int]:
        """Map each project that has points to how many."""
        return Counter(point.image.project_id for point in self._collection(collection).values())

    async def scroll(self, collection: str, project_id: int) -> AsyncIterator[list[StoredImage]]:
        """List a project's proofs in pages, in ascending order of id."""
        for page in self._pages(collection, Within(project_id)):
            yield [point.image for point in page]

    async def images(self, collection: str, ids: Collection[int]) -> list[StoredImage]:
        """Return the proofs of those `ids` that are stored, by id."""
        return [point.image for point in await self.embeddings(collection, ids)]

    async def embeddings(self, collection: str, ids: Collection[int]) -> list[Embedding]:
        """Return those of `ids` that are stored, with their vectors, by id."""
        stored = self._collection(collection)
        return [stored[i] for i in sorted(set(ids)) if i in stored]

    async def with_contents(self, collection: str, contents: Collection[str]) -> Mapping[str, Embedding]:
        """Find one stored embedding, of any project, for each of these contents."""
        wanted = frozenset(contents)
        return {
            point.image.content: point
            for point in self._collection(collection).values()
            if point.image.content in wanted
        }

    async def query(
        self, collection: str, vectors: Vectors, within: Within, limit: int, exact: bool = False
    ) -> list[list[Hit]]:
        """Return the nearest points of each row of `vectors`, best first; always exact here.

        :raises Rejected: when a query vector is not finite, not of unit length or of another dimension
        """
        self._collection(collection)
        queries = check_queries(vectors, self._encoders[collection].dimension)
        points = list(self._matching(collection, within))
        if not points:
            return [[] for _ in queries]
        scores = queries @ np.stack([point.vector for point in points]).T
        return [
            [Hit(points[i].image, float(row[i])) for i in np.argsort(-row, kind="stable")[:limit]]
            for row in scores
        ]

    async def vectors(
        self, collection: str, within: Within
    ) -> AsyncIterator[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]:
        """Stream ids, dataset ids and vectors in blocks, in ascending order of id."""
        for page in self._pages(collection, within):
            yield (
                np.array([point.image.id for point in page], np.int64),
                np.array([point.image.dataset_id for point in page], np.int64),
                np.stack([point.vector for point in page]),
            )

    async def healthy(self) -> None:
        """Return: memory always answers."""

    async def close(self) -> None:
        """Let go of nothing, so that a test may look at what was written."""

    def _collection(self, collection: str) -> dict[int, Embedding]:
        try:
            return self._points[collection]
        except KeyError:
            raise Inconsistent(f"no encoder {collection} in the catalogue") from None

    def _matching(self, collection: str, within: Within) -> Iterator[Embedding]:
        """Yield the points of `within` in ascending order of id."""
        stored = self._collection(collection)
        for image_id in sorted(stored):
            image = stored[image_id].image
            if (
                image.project_id == within.project_id
                and within.dataset_id in (None, image.dataset_id)
                and (within.ids is None or image_id in within.ids)
                and image_id not in within.exclude
            ):
                yield stored[image_id]

    def _pages(self, collection: str, within: Within) -> Iterator[list[Embedding]]:
        points = list(self._matching(collection, within))
        for start in range(0, len(points), self._page_size):
            yield points[start : start + self._page_size]
