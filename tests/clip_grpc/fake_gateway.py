"""A gateway in the test's own loop that answers what a test wants, also what a real one cannot be made to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import grpc
import numpy as np
from tiny_flow import embedding

from daemon.encoders.clip_grpc import GrpcClip
from daemon.encoders.clip_messages import message_classes

Answers = Callable[[bytes, Any], Awaitable[bytes]]


class FakeGateway(grpc.GenericRpcHandler):
    """Listens on a port it keeps; stopped, it can be started again.

    :ivar encode: how batches are answered
    :ivar peers: who called, one entry per call
    :ivar metadata: what came with the latest call
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.encode: Answers = well
        self.peers: list[str] = []
        self.metadata: dict[str, str] = {}
        self.port = 0
        self._credentials = credentials

    @property
    def url(self) -> str:
        return f"grpcs://localhost:{self.port}" if self._credentials else f"grpc://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server(handlers=[self], options=[("grpc.so_reuseport", 0)])
        address = f"localhost:{self.port}" if self._credentials else f"127.0.0.1:{self.port}"
        if self._credentials:
            self.port = self._server.add_secure_port(address, self._credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        answer = {GrpcClip.encode_path: self._encode, GrpcClip.ready_path: ready}
        return grpc.unary_unary_rpc_method_handler(answer[handler_call_details.method])

    async def _encode(self, data: bytes, context: Any) -> bytes:
        self.peers.append(context.peer())
        self.metadata = dict(context.invocation_metadata())
        return await self.encode(data, context)


async def ready(data: bytes, context: Any) -> bytes:
    return b""


async def well(data: bytes, context: Any) -> bytes:
    """Answer as a model would."""
    documents = read(data)
    return answer([(one.id, array(embedding(one.text or one.blob))) for one in documents])


def read(data: bytes) -> Sequence[Any]:
    """Return the documents of a request."""
    return message_classes()["Message"].FromString(data).data.docs.docs


def answer(documents: Sequence[tuple[str, dict[str, Any]]], **header: Any) -> bytes:
    """Return the answer with these ids and arrays."""
    docs = [{"id": name, "embedding": {"dense": dense}} for name, dense in documents]
    return message_classes()["Message"](header=header, data={"docs": {"docs": docs}}).SerializeToString()


def array(numbers: np.ndarray) -> dict[str, Any]:
    """Return numbers as a message has them."""
    return {"buffer": numbers.tobytes(), "shape": numbers.shape, "dtype": numbers.dtype.str}
