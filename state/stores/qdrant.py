"""The store on a Qdrant server: one collection per encoder, shared with whoever else is there.

The collection of encoder X is ``<prefix>_X``, the catalogue ``<prefix>_catalogue``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from qdrant_client import models

from state.errors import Inconsistent, Misconfigured, Unavailable
from state.model import Embedding, EncoderRecord, Hit, StoredImage, Vectors, Within
from state.stores.qdrant_catalogue import Catalogue
from state.stores.qdrant_collections import Layout, begin_indexing, drop, ensure_points, exists, indexes
from state.stores.qdrant_connection import Connection
from state.stores.qdrant_errors import SERVICE
from state.stores.qdrant_holder import Holder
from state.stores.qdrant_points import (
    among,
    filters,
    in_project,
    matching,
    of_project,
    parts,
    payload_of,
    points_of,
    storable,
    written_after,
)
from state.stores.qdrant_reading import Blocks, Reading
from state.stores.qdrant_search import Search
from state.stores.together import together
from state.stores.validation import check_encoder, check_queries, check_texts, check_unused, stack

POINTS_PER_WRITE = 64
"""As JSON 0.7 MB of 512 dimensions, and some 6 ms to make."""

BYTES_PER_WRITE = 8 << 20
BYTES_PER_NUMBER = 22
"""A vector's component in JSON."""

RETAGS_PER_WRITE = 100
IDS_PER_WRITE = 5000
HEALTH_SECONDS = 5.0


class QdrantStore:
    """A :class:`~state.ports.Store` on a Qdrant server; made by :meth:`open`."""

    def __init__(self, connection: Connection, prefix: str, layout: Layout) -> None:
        self._connection = connection
        self._prefix = prefix
        self._layout = layout
        self._catalogue = Catalogue(connection, f"{prefix}_catalogue")
        self._reading = Reading(connection)
        self._search = Search(self._reading, layout.quantization != "none")
        self._held = AsyncExitStack()
        self._holder: Holder
        self._without_graph: set[str] = set()

    @classmethod
    async def open(
        cls,
        url: str,
        prefix: str,
        *,
        name: str,
        instance: str,
        clock: Callable[[], float],
        api_key: str | None = None,
        grpc_port: int | None = None,
        layout: Layout | None = None,
        call_seconds: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Self:
        """Open the store on a server, or make it there.

        :param url: such as ``http://qdrant:6333``; without a scheme, plain HTTP
        :param prefix: what the names of this source's collections begin with
        :param name: of this process, for others that want the same collections to name it
        :param instance: no other process that lives has the same; one that died may have had it
        :param clock: monotonic seconds
        :param api_key: one that may only read serves searches; writes then raise ``Unavailable``
        :param grpc_port: where the server takes gRPC; without it, all goes by REST
        :param layout: of the collections that are made from now on
        :param call_seconds: longest one call may take
        :raises Occupied: when another process holds it
        :raises Misconfigured: when address, key or collections are not what they should be
        """
        connection = await Connection.open(url, api_key, grpc_port, call_seconds, sleep)
        return await cls.on(connection, prefix, name, instance, clock, layout or Layout(), sleep)

    @classmethod
    async def on(
        cls,
        connection: Connection,
        prefix: str,
        name: str,
        instance: str,
        clock: Callable[[], float],
        layout: Layout,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Self:
        """Open the store over a connection, as :meth:`open` does; the connection is closed with it."""
        store = cls(connection, prefix, layout)
        store._holder = Holder(
            store._catalogue, lambda: not connection.read_only, name, instance, clock, sleep
        )
        try:
            await store._open()
        except BaseException:
            await store.close()
            raise
        return store

    async def beat(self) -> None:
        """Show the other daemons for ever that this one is alive.

        :raises Occupied: when another has taken the store over, because this one was long away
        """
        await self._holder.beat()

    async def encoders(self) -> Sequence[EncoderRecord]:
        """List the encoders in the catalogue."""
        return list(self._catalogue.encoders.values())

    async def add_encoder(self, record: EncoderRecord) -> None:
        """Put an encoder into the catalogue and make its collection; the first record of an id stays.

        :raises Rejected: when the id cannot be part of a collection's name
        :raises Inconsistent: when the id is taken by an encoder of another dimension
        :raises Misconfigured: when a collection of that name is not ours
        """
        check_encoder(record, self._catalogue.encoders.get(record.id))
        if record.id not in self._catalogue.encoders:
            await self._ensure(record, known=False)
            await self._catalogue.add(record)

    async def forget_encoder(self, encoder_id: str) -> None:
        """Take an encoder out of the catalogue, and its collection with it; again is harmless.

        The collection goes first: a crash in between leaves an empty one, and none that nobody knows.

        :raises Inconsistent: while it answers for a project
        """
        check_unused(encoder_id, self._catalogue.pointers)
        if encoder_id in self._catalogue.encoders:
            await drop(self._connection, self._name(encoder_id))
            await self._catalogue.forget(encoder_id)
            self._without_graph.discard(encoder_id)

    async def confirm(self, encoder_id: str, epoch: int) -> None:
        """Note that good canaries vouch for all that was written for the encoder up to `epoch`."""
        await self._catalogue.confirm(self._encoder(encoder_id).id, epoch)

    async def withdraw(self, collection: str) -> int:
        """Remove the points that no good canary vouches for; return how many."""
        later = written_after(self._encoder(collection).confirmed)
        return await self._remove_all(self._of(collection), later)

    async def pinned(self) -> str | None:
        """Return the encoder that a person wants to answer, whatever encoder is at work."""
        return self._catalogue.pinned

    async def pin(self, encoder_id: str | None) -> None:
        """Keep that wish; ``None`` withdraws it."""
        await self._catalogue.pin(encoder_id)

    async def pointers(self) -> Mapping[int, str]:
        """Map each project to the encoder that answers for it."""
        return dict(self._catalogue.pointers)

    async def set_pointer(self, project_id: int, encoder_id: str | None) -> None:
        """Move a project's pointer; ``None`` takes it away.

        The first one that names a collection has its search graph built: it is no longer only filled.
        """
        if encoder_id in self._without_graph:
            await begin_indexing(self._connection, self._name(encoder_id))
            self._without_graph.discard(encoder_id)
        await self._catalogue.point(project_id, encoder_id)

    async def next_epoch(self) -> int:
        """Return a number greater than any it ever returned."""
        return await self._catalogue.next_epoch()

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        """Write vectors and their proofs, whole.

        :raises Rejected: when a vector is not finite, not of unit length or of another dimension, or a
            name is no Unicode; nothing is written then
        """
        name, dimension = self._of(collection), self._encoder(collection).dimension
        matrix = stack(points, dimension)
        images = [point.image for point in points]
        check_texts(images)
        # Parts are written at once, so an image that is there twice is written as it is last.
        rows = list({image.id: row for row, image in enumerate(images)}.values())
        size = min(POINTS_PER_WRITE, max(1, BYTES_PER_WRITE // (BYTES_PER_NUMBER * dimension)))

        async def write(some: Sequence[int]) -> None:
            await self._connection.update(
                lambda client: client.upsert(
                    name, points_of([images[row] for row in some], matrix[some]), wait=True
                )
            )

        await together(write(some) for some in parts(rows, size))

    async def retag(self, collection: str, images: Sequence[StoredImage]) -> None:
        """Replace the payloads of those stored points that were made from the same content."""
        name = self._of(collection)
        check_texts(images)
        for part in parts(images, RETAGS_PER_WRITE):
            await self._retag(name, [_retagging(image) for image in part])

    async def remove(self, collection: str, project_id: int, ids: Collection[int]) -> int:
        """Remove those of `ids` that still belong to the project; return how many did."""
        name = self._of(collection)
        removed = 0
        for part in parts(storable(ids), IDS_PER_WRITE):
            doomed = of_project(project_id, among(part))
            if number := await self._reading.count(name, doomed):
                await self._delete(name, doomed)
                removed += number
        return removed

    async def remove_project(self, collection: str, project_id: int) -> None:
        """Remove every point of the project."""
        await self._remove_all(self._of(collection), in_project(project_id))

    async def count(self, collection: str, within: Within) -> int:
        """Count points exactly."""
        name = self._of(collection)
        return sum([await self._reading.count(name, condition) for condition in filters(within)])

    async def projects(self, collection: str) -> Mapping[int, int]:
        """Map each project that has points to how many."""
        return await self._reading.projects(self._of(collection))

    def scroll(self, collection: str, project_id: int) -> AsyncIterator[list[StoredImage]]:
        """List a project's proofs in pages, in ascending order of id."""
        return self._reading.scroll(self._of(collection), project_id)

    async def images(self, collection: str, ids: Collection[int]) -> list[StoredImage]:
        """Return the proofs of those `ids` that are stored, whatever their project, by id."""
        return await self._reading.images(self._of(collection), ids)

    async def embeddings(self, collection: str, ids: Collection[int]) -> list[Embedding]:
        """Return those of `ids` that are stored, with their vectors, by id."""
        dimension = self._encoder(collection).dimension
        return await self._reading.embeddings(self._of(collection), ids, dimension)

    async def with_contents(self, collection: str, contents: Collection[str]) -> Mapping[str, Embedding]:
        """Find one stored embedding, of any project, for each of these contents."""
        dimension = self._encoder(collection).dimension
        found = await self._reading.with_contents(self._of(collection), contents, dimension)
        return {embedding.image.content: embedding for embedding in found}

    async def query(
        self, collection: str, vectors: Vectors, within: Within, limit: int, exact: bool = False
    ) -> list[list[Hit]]:
        """Return the nearest points of each row of `vectors`, best first.

        :raises Rejected: when a query vector is not finite, not of unit length or of another dimension
        """
        matrix = check_queries(vectors, self._encoder(collection).dimension)
        return await self._search.query(self._of(collection), matrix, within, limit, exact)

    def vectors(self, collection: str, within: Within) -> Blocks:
        """Stream ids, dataset ids and vectors in blocks, in ascending order of id."""
        dimension = self._encoder(collection).dimension
        return self._reading.vectors(self._of(collection), within, dimension)

    async def healthy(self) -> None:
        """Return if the server answers within a few seconds."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await exists(self._connection, self._catalogue.collection)
        except TimeoutError:
            raise Unavailable(SERVICE, f"no answer within {HEALTH_SECONDS:g} s") from None

    async def close(self) -> None:
        """Let go; again is harmless."""
        await self._held.aclose()

    async def _open(self) -> None:
        self._held.push_async_callback(self._connection.close)
        try:
            await self._catalogue.open(self._layout)
        except Unavailable as error:
            if self._connection.refused or self._connection.read_only:
                raise Misconfigured("QDRANT_API_KEY", error.problem) from error
            raise
        await self._connection.check_version()
        await self._held.enter_async_context(self._holder)
        self._catalogue.only_read = self._connection.read_only
        await self._catalogue.load()
        for record in self._catalogue.encoders.values():
            await self._ensure(record, known=True)

    async def _ensure(self, record: EncoderRecord, known: bool) -> None:
        name = self._name(record.id)
        info = await ensure_points(self._connection, name, record.dimension, self._layout, known)
        if not indexes(info):
            self._without_graph.add(record.id)

    async def _remove_all(self, name: str, *conditions: models.Condition) -> int:
        """Remove what meets all conditions, some at a time: all at once may take longer than a call may.

        They are asked again with the removal, for a point may have been written anew meanwhile.
        """
        removed, wanted = 0, models.Filter(must=list(conditions))
        while True:
            records, _ = await self._connection.read(
                lambda client: client.scroll(name, wanted, limit=IDS_PER_WRITE, with_payload=False)
            )
            if not records:
                return removed
            these = among([int(record.id) for record in records])
            await self._delete(name, models.Filter(must=[*conditions, these]))
            removed += len(records)

    async def _delete(self, name: str, doomed: models.Filter) -> None:
        selector = models.FilterSelector(filter=doomed)
        await self._connection.update(lambda client: client.delete(name, selector, wait=True))

    async def _retag(self, name: str, operations: Sequence[models.UpdateOperation]) -> None:
        await self._connection.update(lambda client: client.batch_update_points(name, operations, wait=True))

    def _name(self, encoder_id: str) -> str:
        return f"{self._prefix}_{encoder_id}"

    def _of(self, collection: str) -> str:
        return self._name(self._encoder(collection).id)

    def _encoder(self, collection: str) -> EncoderRecord:
        try:
            return self._catalogue.encoders[collection]
        except KeyError:
            raise Inconsistent(f"no encoder {collection} in the catalogue") from None


def _retagging(image: StoredImage) -> models.OverwritePayloadOperation:
    same = models.Filter(must=[among([image.id]), matching("content", image.content)])
    return models.OverwritePayloadOperation(
        overwrite_payload=models.SetPayload(payload=payload_of(image), filter=same)
    )
