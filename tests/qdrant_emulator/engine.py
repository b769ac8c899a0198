"""Collections in shards of Qdrant Edge, asked and answered in the server's JSON."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    FacetRequest,
    IntegerIndexParams,
    KeywordIndexParams,
    Point,
    Query,
    QueryBatchRequest,
    QueryRequest,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
)

from .conditions import Json, filter_of

INDEXES = {"keyword": KeywordIndexParams, "integer": IntegerIndexParams}
REALLY_INDEXED = ("project", "project_id")
"""The rest are only remembered: to make one takes a tenth of a second, and a test has few points."""


class Refused(Exception):
    """What the server answers with an error."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


@dataclass
class Collection:
    shard: EdgeShard
    config: Json
    indexes: dict[str, Json] = field(default_factory=dict)


class Engine:
    """All collections of one server; every operation takes a collection's name and a body."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = Counter[str]()
        self.collections: dict[str, Collection] = {}
        self.version_said = "1.15.4"

    def version(self, name: str, body: Json) -> Json:
        return {"title": "qdrant - vector search engine", "version": self.version_said}

    def close(self) -> None:
        for collection in self.collections.values():
            collection.shard.close()
        self.collections = {}

    def exists(self, name: str, body: Json) -> Json:
        return {"exists": name in self.collections}

    def create(self, name: str, body: Json) -> bool:
        if name in self.collections:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        self._made[name] += 1
        directory = self._directory / f"{name}.{self._made[name]}"
        params = body["vectors"]
        vectors = EdgeVectorParams(size=params["size"], distance=getattr(Distance, params["distance"]))
        directory.mkdir(parents=True)
        self.collections[name] = Collection(
            EdgeShard.create(str(directory), EdgeConfig(vectors=vectors)), body
        )
        return True

    def delete_collection(self, name: str, body: Json) -> bool:
        if name in self.collections:
            self.collections.pop(name).shard.close()
            shutil.rmtree(self._directory / f"{name}.{self._made[name]}")
            return True
        return False

    def update_collection(self, name: str, body: Json) -> bool:
        config = self._collection(name).config
        for part, changes in body.items():
            config[part] = (config.get(part) or {}) | changes
        return True

    def info(self, name: str, body: Json) -> Json:
        collection = self._collection(name)
        config = collection.config
        params = ("vectors", "shard_number", "replication_factor", "write_consistency_factor")
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "points_count": self._shard(name).count(CountRequest()),
            "config": {
                "params": {key: config[key] for key in params if config.get(key) is not None},
                "hnsw_config": {
                    "m": 16,
                    "ef_construct": 100,
                    "full_scan_threshold": 10000,
                    **(config.get("hnsw_config") or {}),
                },
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                    **(config.get("optimizers_config") or {}),
                },
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
                "quantization_config": config.get("quantization_config"),
            },
            "payload_schema": collection.indexes,
        }

    def create_index(self, name: str, body: Json) -> Json:
        schema = body["field_schema"]
        params = schema if isinstance(schema, dict) else {"type": schema}
        wanted = {key: value for key, value in params.items() if key != "type"}
        index, field_name = INDEXES[params["type"]](**wanted), body["field_name"]
        if field_name in REALLY_INDEXED:
            self._shard(name).update(UpdateOperation.create_field_index(field_name, index))
        indexed = {"data_type": params["type"], "params": params, "points": 0}
        self._collection(name).indexes[field_name] = indexed
        return _done(body)

    def upsert(self, name: str, body: Json) -> Json:
        points = [Point(one["id"], one["vector"], one.get("payload") or {}) for one in body["points"]]
        size = self._collection(name).config["vectors"]["size"]
        for one in body["points"]:
            if len(one["vector"]) != size:
                error = f"Vector dimension error: expected dim: {size}, got {len(one['vector'])}"
                raise Refused(400, f"Wrong input: {error}")
        self._shard(name).update(UpdateOperation.upsert_points(points))
        return _done(body)

    def delete(self, name: str, body: Json) -> Json:
        if "filter" in body:
            operation = UpdateOperation.delete_points_by_filter(filter_of(body["filter"]))
        else:
            operation = UpdateOperation.delete_points(body["points"])
        self._shard(name).update(operation)
        return _done(body)

    def batch(self, name: str, body: Json) -> list[Json]:
        for operation in body["operations"]:
            wanted = operation["overwrite_payload"]
            self._shard(name).update(
                UpdateOperation.overwrite_payload_by_filter(filter_of(wanted["filter"]), wanted["payload"])
            )
        return [_done(body) for _ in body["operations"]]

    def retrieve(self, name: str, body: Json) -> list[Json]:
        found = self._shard(name).retrieve(
            body["ids"], body.get("with_payload", True), body.get("with_vector", False)
        )
        return [_record(one) for one in found]

    def scroll(self, name: str, body: Json) -> Json:
        limit = body.get("limit") or 10
        request = ScrollRequest(
            offset=body.get("offset"),
            limit=limit,
            filter=filter_of(body.get("filter")),
            with_payload=body.get("with_payload", True),
            with_vector=body.get("with_vector", False),
        )
        found, following = self._shard(name).scroll(request)
        return {
            "points": [_record(one) for one in found],
            "next_page_offset": None if following is None else _id(following),
        }

    def count(self, name: str, body: Json) -> Json:
        return {"count": self._shard(name).count(CountRequest(filter=filter_of(body.get("filter"))))}

    def facet(self, name: str, body: Json) -> Json:
        if body["key"] not in self._collection(name).indexes:
            raise Refused(400, f"Bad request: Index required but not found for `{body['key']}`")
        facet = self._shard(name).facet(
            FacetRequest(body["key"], limit=body.get("limit", 10), exact=bool(body.get("exact")))
        )
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in facet.hits]}

    def query(self, name: str, body: Json) -> list[Json]:
        requests = [_request(search) for search in body["searches"]]
        answers = self._shard(name).query_batch(QueryBatchRequest(requests))
        return [{"points": [_scored(one) for one in points]} for points in answers]

    def query_one(self, name: str, body: Json) -> Json:
        return self.query(name, {"searches": [body]})[0]

    def _shard(self, name: str) -> EdgeShard:
        return self._collection(name).shard

    def _collection(self, name: str) -> Collection:
        try:
            return self.collections[name]
        except KeyError:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!") from None


def _request(search: Json) -> QueryRequest:
    params = search.get("params") or {}
    return QueryRequest(
        search.get("limit") or 10,
        query=None if search.get("query") is None else Query.Nearest(_nearest(search["query"])),
        filter=filter_of(search.get("filter")),
        params=SearchParams(exact=bool(params.get("exact"))),
        with_payload=search.get("with_payload") or False,
        with_vector=search.get("with_vector") or False,
    )


def _nearest(query: Any) -> list[float]:
    return query["nearest"] if isinstance(query, dict) else query


def _done(body: Json) -> Json:
    """Say that it is done to whoever waits for it; here it always is."""
    return {"operation_id": 0, "status": "completed" if body.get("wait") else "acknowledged"}


def _id(found: Any) -> int | str:
    return found if isinstance(found, int) else str(found)


def _record(one: Any) -> Json:
    return {"id": _id(one.id), "payload": one.payload, "vector": one.vector}


def _scored(one: Any) -> Json:
    return {**_record(one), "version": one.version, "score": one.score}
