"""The catalogue on a Qdrant server: a tiny collection whose points are records; mirrored in memory.

The server knows no transactions. One daemon writes, its holder; its writes go one after the other.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from qdrant_client import models

from state.errors import Misconfigured, Unavailable
from state.model import EncoderRecord
from state.stores.qdrant_collections import Layout, ensure
from state.stores.qdrant_connection import Connection
from state.stores.qdrant_points import SCHEMA

NAMESPACE = UUID("6f2f9c1e-8b0f-4a53-9d7e-31c5a1f0e7b4")
RECORDS_PER_READ = 100

Record = dict[str, Any]


def point_id(kind: str, key: object = "") -> str:
    """Return where a record lies."""
    return str(uuid5(NAMESPACE, f"{kind}:{key}"))


class Catalogue:
    """Encoders with their canaries, pointers of projects, the epoch counter and the pin.

    :ivar encoders: by id
    :ivar pointers: from project to encoder id
    :ivar pinned: the encoder chosen by a person
    :ivar only_read: whether the key did not allow to write when the store was opened
    """

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self.collection = collection
        self._epoch = 0
        self._one_at_a_time = asyncio.Lock()
        self.encoders: dict[str, EncoderRecord] = {}
        self.pointers: dict[int, str] = {}
        self.pinned: str | None = None
        self.only_read = False

    async def open(self, layout: Layout) -> None:
        """Make the collection unless it is there.

        :raises Misconfigured: when it is not ours, or a newer version made it
        """
        vectors = models.VectorParams(size=1, distance=models.Distance.DOT)
        small = Layout(shards=1, replicas=layout.replicas, write_consistency=layout.write_consistency)
        await ensure(self._connection, self.collection, vectors, small)
        marker = await self.get("schema")
        if marker is None:
            strangers, _ = await self._connection.read(lambda client: client.scroll(self.collection, limit=1))
            # Another daemon may have put its marker there between the two calls.
            if strangers and await self.get("schema") is None:
                raise Misconfigured("QDRANT_PREFIX", f"collection {self.collection} is no catalogue of ours")
            await self.put("schema", v=SCHEMA)
        elif marker["v"] > SCHEMA:
            problem = f"{self.collection} has schema {marker['v']}; this version knows {SCHEMA}: upgrade it"
            raise Misconfigured("QDRANT_PREFIX", problem)

    async def load(self) -> None:
        """Read all records into memory."""
        encoders, pointers, epoch, pinned = {}, {}, self._epoch, None
        offset: Any = None
        while True:
            records, offset = await self._page(offset)
            for record in (record.payload or {} for record in records):
                match record.get("kind"):
                    case "encoder":
                        encoders[record["key"]] = _encoder(record)
                    case "pointer":
                        pointers[record["key"]] = record["encoder"]
                    case "epoch":
                        epoch = max(epoch, record["latest"])
                    case "pin":
                        pinned = record["encoder"]
            if offset is None:
                break
        self.encoders, self.pointers, self._epoch, self.pinned = encoders, pointers, epoch, pinned

    async def add(self, record: EncoderRecord) -> None:
        """Keep an encoder; the first record of an id stays."""
        async with self._one_at_a_time:
            if record.id not in self.encoders:
                await self._put_encoder(record)

    async def confirm(self, encoder_id: str, epoch: int) -> None:
        """Remember the greatest epoch a good canary vouches for."""
        async with self._one_at_a_time:
            known = self.encoders[encoder_id]
            if epoch > known.confirmed:
                await self._put_encoder(replace(known, confirmed=epoch))

    async def forget(self, encoder_id: str) -> None:
        """Drop an encoder's record."""
        async with self._one_at_a_time:
            await self.drop("encoder", encoder_id)
            self.encoders.pop(encoder_id, None)

    async def point(self, project_id: int, encoder_id: str | None) -> None:
        """Move a project's pointer, or take it away."""
        async with self._one_at_a_time:
            if encoder_id is None:
                await self.drop("pointer", project_id)
                self.pointers.pop(project_id, None)
            else:
                await self.put("pointer", project_id, encoder=encoder_id)
                self.pointers[project_id] = encoder_id

    async def pin(self, encoder_id: str | None) -> None:
        """Choose an encoder, or none."""
        async with self._one_at_a_time:
            await self.put("pin", encoder=encoder_id)
            self.pinned = encoder_id

    async def next_epoch(self) -> int:
        """Return a number greater than any before; one that was lost with its answer is never used again.

        Under a key that may not write, nothing is ever written in it, so it need not be kept either.
        """
        async with self._one_at_a_time:
            self._epoch += 1
            try:
                await self.put("epoch", latest=self._epoch)
            except Unavailable:
                if not self.only_read:
                    raise
            return self._epoch

    async def get(self, kind: str) -> Record | None:
        """Return the only record of its kind, as it is on the server now."""
        found = await self._connection.read(lambda client: client.retrieve(self.collection, [point_id(kind)]))
        return found[0].payload if found else None

    async def put(self, kind: str, key: object = "", **values: Any) -> None:
        """Write a record."""
        payload = {"kind": kind, "key": key, **values}
        point = models.PointStruct(id=point_id(kind, key), vector=[1.0], payload=payload)
        await self._connection.update(lambda client: client.upsert(self.collection, [point], wait=True))

    async def drop(self, kind: str, key: object = "") -> None:
        """Remove a record; one that is not there may be removed too."""
        await self._connection.update(
            lambda client: client.delete(self.collection, [point_id(kind, key)], wait=True)
        )

    async def _page(self, offset: Any) -> tuple[list[models.Record], Any]:
        return await self._connection.read(
            lambda client: client.scroll(self.collection, limit=RECORDS_PER_READ, offset=offset)
        )

    async def _put_encoder(self, record: EncoderRecord) -> None:
        canaries = base64.b64encode(record.canaries.astype("<f4").tobytes()).decode()
        await self.put(
            "encoder",
            record.id,
            encoder_kind=record.kind,
            dimension=record.dimension,
            canaries=canaries,
            confirmed=record.confirmed,
        )
        self.encoders[record.id] = record


def _encoder(record: Record) -> EncoderRecord:
    canaries = np.frombuffer(base64.b64decode(record["canaries"]), "<f4").reshape(-1, record["dimension"])
    return EncoderRecord(
        record["key"], record["encoder_kind"], record["dimension"], canaries, record["confirmed"]
    )
