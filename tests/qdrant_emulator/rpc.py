"""The gRPC door: messages are turned into the server's JSON and its answers back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from pydantic import BaseModel
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from .conditions import Json

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}

Serve = Callable[[str, str | None, str, Json], Awaitable[Any]]
Call = Callable[[str, str, Json, Any], Awaitable[Any]]


class Rpc:
    """Listens on a port, the same one every time."""

    def __init__(self, serve: Serve, port: int, certificate: Any) -> None:
        self._serve = serve
        self._certificate = certificate
        self._server: grpc.aio.Server
        self.port = port

    async def start(self) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        )
        messages.add_PointsServicer_to_server(Points(self._call), self._server)
        messages.add_QdrantServicer_to_server(Root(self._call), self._server)
        messages.add_CollectionsServicer_to_server(Collections(self._call), self._server)
        address = f"127.0.0.1:{self.port}"
        if certificate := self._certificate:
            pair = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            self.port = self._server.add_insecure_port(address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def _call(self, operation: str, name: str, body: Json, context: Any) -> Any:
        from .emulator import Broken
        from .engine import Refused

        key = dict(context.invocation_metadata()).get("api-key")
        try:
            return await self._serve(operation, key, name, body)
        except Refused as refusal:
            trailing = (("retry-after", str(refusal.retry_after)),) if refusal.retry_after else ()
            await context.abort(CODES[refusal.status], refusal.message, trailing)
        except Broken as broken:
            code = grpc.StatusCode.INTERNAL if broken.fault.kind == "html" else grpc.StatusCode.UNAVAILABLE
            await context.abort(code, "Connection reset by peer")


class Root(messages.QdrantServicer):
    def __init__(self, call: Call) -> None:
        self._call = call

    async def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.HealthCheckReply(**await self._call("version", "", {}, context))


class Collections(messages.CollectionsServicer):
    def __init__(self, call: Call) -> None:
        self._call = call

    async def CollectionExists(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = await self._call("exists", request.collection_name, {}, context)
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=found["exists"]))

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        body: Json = {"vectors": _json(GrpcToRest.convert_vectors_config(request.vectors_config))}
        for key in ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload"):
            if request.HasField(key):
                body[key] = getattr(request, key)
        body |= _configs(request)
        done = await self._call("create", request.collection_name, body, context)
        return messages.CollectionOperationResponse(result=done)

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        done = await self._call("update_collection", request.collection_name, _configs(request), context)
        return messages.CollectionOperationResponse(result=done)

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        done = await self._call("delete_collection", request.collection_name, {}, context)
        return messages.CollectionOperationResponse(result=done)

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        info = await self._call("info", request.collection_name, {}, context)
        return messages.GetCollectionInfoResponse(
            result=RestToGrpc.convert_collection_info(models.CollectionInfo(**info))
        )


class Points(messages.PointsServicer):
    def __init__(self, call: Call) -> None:
        self._call = call

    async def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [_json(GrpcToRest.convert_point_struct(point)) for point in request.points]
        body = {"points": points, "wait": request.wait}
        return _updated(await self._call("upsert", request.collection_name, body, context))

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = _json(GrpcToRest.convert_points_selector(request.points)) | {"wait": request.wait}
        return _updated(await self._call("delete", request.collection_name, body, context))

    async def UpdateBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        operations = [_json(GrpcToRest.convert_points_update_operation(one)) for one in request.operations]
        body = {"operations": operations, "wait": request.wait}
        done = await self._call("batch", request.collection_name, body, context)
        return messages.UpdateBatchResponse(result=[_result(one) for one in done])

    async def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        schema = _json(GrpcToRest.convert_payload_schema_params(request.field_index_params))
        body = {"field_name": request.field_name, "field_schema": schema, "wait": request.wait}
        return _updated(await self._call("create_index", request.collection_name, body, context))

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = {"ids": [GrpcToRest.convert_point_id(one) for one in request.ids], **_wanted(request)}
        found = await self._call("retrieve", request.collection_name, body, context)
        return messages.GetResponse(result=[_retrieved(one) for one in found])

    async def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = {"limit": request.limit, **_filtered(request), **_wanted(request)}
        if request.HasField("offset"):
            body["offset"] = GrpcToRest.convert_point_id(request.offset)
        page = await self._call("scroll", request.collection_name, body, context)
        following = page["next_page_offset"]
        return messages.ScrollResponse(
            result=[_retrieved(one) for one in page["points"]],
            next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
        )

    async def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        counted = await self._call("count", request.collection_name, _filtered(request), context)
        return messages.CountResponse(result=messages.CountResult(count=counted["count"]))

    async def Facet(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = {"key": request.key, "limit": request.limit, "exact": request.exact}
        facet = await self._call("facet", request.collection_name, body, context)
        hits = [RestToGrpc.convert_facet_value_hit(models.FacetValueHit(**hit)) for hit in facet["hits"]]
        return messages.FacetResponse(hits=hits)

    async def Query(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = _json(GrpcToRest.convert_query_points(request))
        answer = await self._call("query_one", request.collection_name, body, context)
        return messages.QueryResponse(result=[_scored(one) for one in answer["points"]])

    async def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        searches = [_json(GrpcToRest.convert_query_points(one)) for one in request.query_points]
        answers = await self._call("query", request.collection_name, {"searches": searches}, context)
        return messages.QueryBatchResponse(
            result=[
                messages.BatchResult(result=[_scored(one) for one in answer["points"]]) for answer in answers
            ]
        )


def _json(model: BaseModel) -> Json:
    return model.model_dump(mode="json", exclude_none=True)


def _configs(request: Any) -> Json:
    body = {}
    if request.HasField("hnsw_config"):
        body["hnsw_config"] = _json(GrpcToRest.convert_hnsw_config_diff(request.hnsw_config))
    if request.HasField("optimizers_config"):
        body["optimizers_config"] = _json(
            GrpcToRest.convert_optimizers_config_diff(request.optimizers_config)
        )
    if request.HasField("quantization_config") and isinstance(request, messages.CreateCollection):
        body["quantization_config"] = _json(
            GrpcToRest.convert_quantization_config(request.quantization_config)
        )
    return body


def _filtered(request: Any) -> Json:
    if not request.HasField("filter"):
        return {}
    return {"filter": _json(GrpcToRest.convert_filter(request.filter))}


def _wanted(request: Any) -> Json:
    wanted: Json = {}
    if request.HasField("with_payload"):
        wanted["with_payload"] = GrpcToRest.convert_with_payload_interface(request.with_payload)
    if request.HasField("with_vectors"):
        wanted["with_vector"] = GrpcToRest.convert_with_vectors_selector(request.with_vectors)
    return wanted


def _retrieved(record: Json) -> Any:
    return RestToGrpc.convert_retrieved_point(models.Record(**record | {"payload": record["payload"] or {}}))


def _scored(point: Json) -> Any:
    return RestToGrpc.convert_scored_point(models.ScoredPoint(**point | {"payload": point["payload"] or {}}))


def _result(done: Json) -> Any:
    return RestToGrpc.convert_update_result(models.UpdateResult(**done))


def _updated(done: Json) -> Any:
    return messages.PointsOperationResponse(result=_result(done), time=0.0)
