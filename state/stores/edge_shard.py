"""What can be asked of one shard of Qdrant Edge: rows and raw arrays in, rows and raw arrays out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    FacetRequest,
    FieldCondition,
    Filter,
    HasIdCondition,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    QueryBatchRequest,
    QueryRequest,
    RangeFloat,
    Record,
    ScoredPoint,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
    VectorStorageDatatype,
)

from state.stores.edge_wire import FIELDS

SCHEMA = 1
DATATYPE = VectorStorageDatatype.Float16
INDEXES = {
    "project_id": PayloadSchemaType.Integer,
    "dataset_id": PayloadSchemaType.Integer,
    "content": PayloadSchemaType.Keyword,
}

VACUUM = EdgeOptimizersConfig(
    deleted_threshold=0.5, vacuum_min_vector_number=1000, default_segment_number=1, indexing_threshold=10**9
)
"""All that may be optimised is the room of dead points: an index of neighbours would block for minutes."""

MAX_PROJECTS = 1_000_000

Shard = EdgeShard
Row = Sequence[Any]
Answer = tuple[Any, bytes]

_fields_of = itemgetter(*FIELDS)


def open_shard(directory: Path, dimension: int, datatype: VectorStorageDatatype = DATATYPE) -> Shard:
    """Load a shard, or make an empty one: under another name first, so that half of one never counts.

    One of which half is dead is written anew.
    """
    vectors = EdgeVectorParams(size=dimension, distance=Distance.Cosine, datatype=datatype)
    config = EdgeConfig(vectors=vectors, optimizers=VACUUM)
    if not directory.exists():
        unfinished = directory.with_name(directory.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shard = EdgeShard.create(str(unfinished), config)
        for field, schema in INDEXES.items():
            shard.update(UpdateOperation.create_field_index(field, schema))
        shard.flush()
        shard.close()
        unfinished.rename(directory)
    shutil.rmtree(directory / "temp_segments", ignore_errors=True)  # of one that died while it was at this
    shard = EdgeShard.load(str(directory), config)
    if _vacuum(shard):
        shard.close()  # what it was written from is given up only now
        shard = EdgeShard.load(str(directory), config)
    return shard


def _vacuum(shard: Shard) -> bool:
    """Write it anew where half is dead; the engine refuses to, by a bare exception, where room is short."""
    try:
        return bool(shard.optimize())
    except Exception:
        logging.warning("edge.not_rewritten", exc_info=True)
        return False


def upsert(shard: Shard, body: memoryview, rows: Sequence[Row]) -> Answer:
    """Write points; of a batch that fails the engine keeps an arbitrary part, so that is deleted."""
    vectors = np.frombuffer(body, np.float32).reshape(len(rows), -1).tolist()
    points = [Point(row[0], vector, _payload(row)) for row, vector in zip(rows, vectors, strict=True)]
    try:
        shard.update(UpdateOperation.upsert_points(points))
    except BaseException:
        shard.update(UpdateOperation.delete_points([row[0] for row in rows]))
        raise
    return len(rows), b""


def retag(shard: Shard, body: memoryview, rows: Sequence[Row]) -> Answer:
    """Replace the payloads of those points that were made from the same content.

    The engine fails on a point that does not exist.
    """
    found = shard.retrieve([row[0] for row in rows], ["content"], False)
    stored = {record.id: (record.payload or {}).get("content") for record in found}
    for row in rows:
        if stored.get(row[0]) == row[1 + FIELDS.index("content")]:
            shard.update(UpdateOperation.overwrite_payload([row[0]], _payload(row)))
    return len(rows), b""


def remove(shard: Shard, body: memoryview, project_id: int) -> Answer:
    """Remove those points of `body` that are the project's."""
    doomed = _filter(project_id, ids=_ids(body))
    number = shard.count(CountRequest(filter=doomed))
    if number:
        shard.update(UpdateOperation.delete_points_by_filter(doomed))
    return number, b""


def remove_some(shard: Shard, body: memoryview, project_id: int, limit: int) -> Answer:
    """Remove up to `limit` points of the project."""
    found, _ = shard.scroll(ScrollRequest(limit=limit, filter=_filter(project_id), with_payload=False))
    if found:
        shard.update(UpdateOperation.delete_points([record.id for record in found]))
    return len(found), b""


def withdraw_some(shard: Shard, body: memoryview, confirmed: int, limit: int) -> Answer:
    """Remove up to `limit` points of later epochs than the confirmed one."""
    later = Filter(must=[FieldCondition("epoch", range=RangeFloat(gt=confirmed))])
    found, _ = shard.scroll(ScrollRequest(limit=limit, filter=later, with_payload=False))
    if found:
        shard.update(UpdateOperation.delete_points([record.id for record in found]))
    return len(found), b""


def count(shard: Shard, body: memoryview, *within: Any) -> Answer:
    """Count what a filter matches."""
    return shard.count(CountRequest(filter=_within(body, *within))), b""


def projects(shard: Shard, body: memoryview) -> Answer:
    """Count points by project."""
    facet = shard.facet(FacetRequest("project_id", limit=MAX_PROJECTS, exact=True))
    return [(hit.value, hit.count) for hit in facet.hits if hit.count], b""


def scroll(shard: Shard, body: memoryview, project_id: int, start: int, limit: int) -> Answer:
    """List the project's rows from the id `start` on."""
    request = ScrollRequest(offset=start, limit=limit, filter=_filter(project_id), with_payload=True)
    return _rows(shard.scroll(request)[0]), b""


def images(shard: Shard, body: memoryview) -> Answer:
    """Return the rows of the ids in `body`."""
    return sorted(_rows(shard.retrieve(_ids(body), True, False))), b""


def embeddings(shard: Shard, body: memoryview) -> Answer:
    """Return the rows of the ids in `body`, and their vectors."""
    found = shard.retrieve(_ids(body), with_payload=True, with_vector=True)
    found.sort(key=attrgetter("id"))
    return _rows(found), _vectors(found)


def contents(shard: Shard, body: memoryview, wanted: Iterable[str]) -> Answer:
    """Return the row and the vector of one point for each content that is stored."""
    found: list[Record] = []
    for content in wanted:
        same = Filter(must=[FieldCondition("content", match=MatchValue(content))])
        found += shard.scroll(ScrollRequest(limit=1, filter=same, with_payload=True, with_vector=True))[0]
    return _rows(found), _vectors(found)


def query(
    shard: Shard, body: memoryview, number: int, dimension: int, limit: int, exact: bool, *within: Any
) -> Answer:
    """Return the rows nearest to each of `number` vectors, each row followed by its score."""
    size = number * dimension * np.dtype(np.float32).itemsize
    condition = _within(body[size:], *within)
    params = SearchParams(exact=exact)
    requests = [
        QueryRequest(limit, query=Query.Nearest(vector), filter=condition, params=params, with_payload=True)
        for vector in np.frombuffer(body[:size], np.float32).reshape(number, dimension).tolist()
    ]
    answers = shard.query_batch(QueryBatchRequest(requests))
    return [[(*_row(point), point.score) for point in points] for points in answers], b""


def vectors(shard: Shard, body: memoryview, start: int, limit: int, *within: Any) -> Answer:
    """Return ids, dataset ids and vectors from the id `start` on, as raw arrays one after the other."""
    request = ScrollRequest(
        offset=start,
        limit=limit,
        filter=_within(body, *within),
        with_payload=["dataset_id"],
        with_vector=True,
    )
    found = shard.scroll(request)[0]
    ids = [(record.id, record.payload["dataset_id"]) for record in found if record.payload]
    return len(found), np.array(ids, np.int64).T.tobytes() + _vectors(found)


OPERATIONS: dict[str, Callable[..., Answer]] = {
    operation.__name__: operation
    for operation in (count, projects, scroll, images, embeddings, contents, query, vectors)
}
WRITES: dict[str, Callable[..., Answer]] = {
    operation.__name__: operation for operation in (upsert, retag, remove, remove_some, withdraw_some)
}


def _payload(row: Row) -> dict[str, Any]:
    return dict(zip(FIELDS, row[1:], strict=True), v=SCHEMA)


def _row(point: Record | ScoredPoint) -> tuple[Any, ...]:
    return (point.id, *_fields_of(point.payload or {}))


def _rows(found: Iterable[Record]) -> list[tuple[Any, ...]]:
    return [_row(record) for record in found]


def _vectors(found: Iterable[Record]) -> bytes:
    return np.array([record.vector for record in found], np.float32).tobytes()


def _ids(body: memoryview) -> list[Any]:
    return list(np.frombuffer(body, np.int64).tolist())


def _within(body: memoryview, project_id: int, dataset_id: int | None, keep: bool) -> Filter:
    """Build a filter; the ids in `body` are those to keep to, or else those to leave out."""
    ids = _ids(body)
    return _filter(project_id, dataset_id, ids if keep else None, () if keep else ids)


def _filter(
    project_id: int,
    dataset_id: int | None = None,
    ids: Iterable[int] | None = None,
    exclude: Collection[int] = (),
) -> Filter:
    must: list[Any] = [FieldCondition("project_id", match=MatchValue(project_id))]
    if dataset_id is not None:
        must.append(FieldCondition("dataset_id", match=MatchValue(dataset_id)))
    if ids is not None:
        must.append(HasIdCondition(set(ids)))
    return Filter(must=must, must_not=[HasIdCondition(set(exclude))] if exclude else None)
