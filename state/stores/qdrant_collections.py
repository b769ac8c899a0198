"""Collections on a Qdrant server: made once whoever is first, checked, and never anybody else's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qdrant_client import models

from state.errors import Inconsistent, Misconfigured
from state.stores.qdrant_connection import Connection
from state.stores.qdrant_points import is_ours

INDEXING_THRESHOLD = 10_000
"""Kilobytes of vectors from which a segment gets its graph, once a collection answers questions."""

OVERSAMPLING = 2.0
"""With scalar quantisation recall is 0.949 without it and 0.992 with it (512 dimensions, 100,000 points)."""

INDEXES: dict[str, models.KeywordIndexParams | models.IntegerIndexParams] = {
    "project": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    "project_id": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True),
    "dataset_id": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True),
    "content": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
    "epoch": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True),
}

Quantization = Literal["none", "scalar", "binary"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How new collections are laid out; ``None`` leaves it to the server. Those that exist stay as they are.

    :param shards: parts a collection is split into
    :param replicas: copies of each shard
    :param write_consistency: copies that must have a write before it counts
    :param vectors_on_disk: whether vectors are read from disk instead of kept in memory
    :param payload_on_disk: whether proofs are
    :param hnsw_m: neighbours of a point in the search graph
    :param hnsw_ef_construct: candidates looked at for each while the graph is built
    :param quantization: a smaller copy of the vectors to search in, the best being scored anew
    """

    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None
    vectors_on_disk: bool = False
    payload_on_disk: bool = True
    hnsw_m: int | None = None
    hnsw_ef_construct: int | None = None
    quantization: Quantization = "none"

    def quantized(self) -> models.ScalarQuantization | models.BinaryQuantization | None:
        """Return the smaller copy as the client knows it."""
        if self.quantization == "scalar":
            scalar = models.ScalarQuantizationConfig(
                type=models.ScalarType.INT8, quantile=0.99, always_ram=True
            )
            return models.ScalarQuantization(scalar=scalar)
        if self.quantization == "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        return None


async def drop(connection: Connection, name: str) -> None:
    """Remove a collection with all its points; one that is not there may be removed too."""
    await connection.write(lambda client: client.delete_collection(name))


async def exists(connection: Connection, name: str) -> bool:
    """Tell whether there is a collection of that name."""
    return await connection.read(lambda client: client.collection_exists(name))


async def ensure(
    connection: Connection,
    name: str,
    vectors: models.VectorParams,
    layout: Layout,
    indexing: bool = True,
) -> models.CollectionInfo:
    """Make a collection unless somebody did, and return what is there.

    :param indexing: whether its search graph is kept while it is filled
    :raises Misconfigured: when a collection of that name has other vectors
    """
    if not await exists(connection, name):
        threshold = INDEXING_THRESHOLD if indexing else 0
        try:
            await connection.write(
                lambda client: client.create_collection(
                    name,
                    vectors_config=vectors,
                    shard_number=layout.shards,
                    replication_factor=layout.replicas,
                    write_consistency_factor=layout.write_consistency,
                    on_disk_payload=layout.payload_on_disk,
                    hnsw_config=models.HnswConfigDiff(m=layout.hnsw_m, ef_construct=layout.hnsw_ef_construct),
                    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=threshold),
                    quantization_config=layout.quantized(),
                )
            )
        except Inconsistent:
            if not await exists(connection, name):
                raise
    info = await connection.read(lambda client: client.get_collection(name))
    found = info.config.params.vectors
    if not isinstance(found, models.VectorParams) or (found.size, found.distance) != (
        vectors.size,
        vectors.distance,
    ):
        raise Misconfigured("QDRANT_PREFIX", f"collection {name} has other vectors: it is not ours")
    return info


async def ensure_points(
    connection: Connection, name: str, dimension: int, layout: Layout, known: bool
) -> models.CollectionInfo:
    """Make the collection of an encoder unless it is there, with the indexes it lacks.

    It is filled without a search graph, and gets one when :func:`begin_indexing` is called.

    :param known: whether the catalogue has it; what an earlier encoder of that name left is not trusted
    :raises Misconfigured: when it is not ours
    """
    vectors = models.VectorParams(
        size=dimension, distance=models.Distance.COSINE, on_disk=layout.vectors_on_disk
    )
    info = await ensure(connection, name, vectors, layout, indexing=False)
    if not known:
        first, _ = await connection.read(lambda client: client.scroll(name, limit=1))
        if first:
            if not is_ours(first[0].payload):
                raise Misconfigured("QDRANT_PREFIX", f"collection {name} holds points that are not ours")
            await drop(connection, name)
            info = await ensure(connection, name, vectors, layout, indexing=False)
    if not connection.read_only:
        for field, schema in INDEXES.items():
            if field not in info.payload_schema:
                await _index(connection, name, field, schema)
    return info


def indexes(info: models.CollectionInfo) -> bool:
    """Tell whether a collection keeps a search graph."""
    return info.config.optimizer_config.indexing_threshold != 0


async def begin_indexing(connection: Connection, name: str) -> None:
    """Keep a search graph from now on."""
    config = models.OptimizersConfigDiff(indexing_threshold=INDEXING_THRESHOLD)
    await connection.write(lambda client: client.update_collection(name, optimizers_config=config))


async def _index(
    connection: Connection,
    name: str,
    field: str,
    schema: models.KeywordIndexParams | models.IntegerIndexParams,
) -> None:
    await connection.update(lambda client: client.create_payload_index(name, field, schema))
