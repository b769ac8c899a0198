"""The collections of the service that embedsync takes over from, on a Qdrant server; they are only read.

There is one for each project, named by its number: one unnamed cosine vector for each image, under the
image's id, and in the payload the `updated_at` the image had then; no hash of what was encoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Self

import numpy as np
from qdrant_client import models

from state.errors import Rejected
from state.model import Vectors
from state.stores.qdrant_collections import exists
from state.stores.qdrant_connection import Connection
from state.stores.qdrant_points import parts, storable
from state.stores.qdrant_reading import ROWS_PER_READ, vectors_per_read

FIELD = "updated_at"


class QdrantIncumbent:
    """Its collections on one server; made by :meth:`open`.

    :param connection: closed by :meth:`close`
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        api_key: str | None = None,
        grpc_port: int | None = None,
        call_seconds: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Self:
        """Prepare to read from a server; nothing is sent yet.

        :raises Misconfigured: when the address is none
        """
        return cls(await Connection.open(url, api_key, grpc_port, call_seconds, sleep))

    async def holds(self, project_id: int) -> tuple[int, int] | None:
        """Return how many vectors a project has, and their dimension; ``None`` where it has no collection.

        :raises Rejected: when a collection of that name is none of the incumbent's
        """
        name = str(project_id)
        if not await exists(self._connection, name):
            return None
        info = await self._connection.read(lambda client: client.get_collection(name))
        vectors = info.config.params.vectors
        if not isinstance(vectors, models.VectorParams) or vectors.distance != models.Distance.COSINE:
            raise Rejected(f"collection {name} does not hold one unnamed cosine vector for each image")
        counted = await self._connection.read(lambda client: client.count(name, exact=True))
        return counted.count, vectors.size

    async def marks(self, project_id: int, ids: Collection[int]) -> Mapping[int, str]:
        """Map those of these images that have a vector to the `updated_at` they had when it was made."""
        found: dict[int, str] = {}
        for part in parts(storable(ids), ROWS_PER_READ):
            records = await self._retrieve(project_id, part, with_vectors=False)
            found |= {int(record.id): _mark(record) for record in records}
        return found

    async def points(
        self, project_id: int, ids: Collection[int], dimension: int
    ) -> Mapping[int, tuple[str, Vectors]]:
        """Map those of these images that have a vector to that `updated_at` and the vector."""
        found: dict[int, tuple[str, Vectors]] = {}
        for part in parts(storable(ids), vectors_per_read(dimension)):
            for record in await self._retrieve(project_id, part, with_vectors=True):
                found[int(record.id)] = (_mark(record), np.array(record.vector, np.float32))
        return found

    async def close(self) -> None:
        """Let go of the connections."""
        await self._connection.close()

    async def _retrieve(
        self, project_id: int, ids: Collection[int], with_vectors: bool
    ) -> list[models.Record]:
        return await self._connection.read(
            lambda client: client.retrieve(
                str(project_id), list(ids), with_payload=[FIELD], with_vectors=with_vectors
            )
        )


def _mark(record: models.Record) -> str:
    return str((record.payload or {}).get(FIELD) or "")
