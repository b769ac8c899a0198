"""CLIP as a service over gRPC: the one unary call of a Jina gateway, made directly.

clip-client makes it too, but less than half as fast, for five times the CPU a text
(``benchmarks/clip_wire.py``); it has no time limits, takes a second to import, and brings all of Jina,
which reports its use. Here a call has a deadline, a cancelled one is cancelled at the other end too, and
no signal handler is touched.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import SplitResult

from daemon.encoders.clip_gateway import MAX_MESSAGE_BYTES, Gateway
from state.errors import Misconfigured, Rejected, Unavailable

_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished without a word is noticed after 40 s; more pings some servers take for abuse.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Who waits after a failure, and how long, is decided above: a new channel knows nothing of the past.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
    # As over HTTP: the configured host is connected to, whatever proxy the environment names.
    ("grpc.enable_http_proxy", 0),
)

_LOST = {
    "Connection refused": "nobody listens there",
    "DNS resolution failed": "its name is not known here",
    "Domain name not found": "its name is not known here",
    "CERTIFICATE_VERIFY_FAILED": "its certificate cannot be trusted, or it speaks no TLS",
    "Socket closed": "it closed the connection amid a call",
    "Connection reset": "it closed the connection amid a call",
    "Broken pipe": "it closed the connection amid a call",
    "failed to connect to all addresses": "it cannot be reached",
}
"""What gRPC's details hold when there is no connection, and what is said instead."""


@dataclass(slots=True)
class _Connection:
    """A channel, what its library is, and how many calls are under way over it."""

    grpc: ModuleType
    channel: Any
    calls: int = 0


class GrpcClip(Gateway):
    """The `Encoder` port over a CLIP service at a ``grpc://`` or ``grpcs://`` address."""

    schemes = ("grpc", "grpcs")
    encode_path = "/jina.JinaSingleDataRequestRPC/process_single_data"
    ready_path = "/jina.JinaGatewayDryRunRPC/dry_run"
    needs = ("grpc", "google.protobuf")

    def __init__(self, base: str, token: str | None = None, timeout: float = 60.0) -> None:
        super().__init__(base, token, timeout)
        self._secure = self._address.scheme == "grpcs"
        self._target = self._address.netloc if self._address.port else f"{self._address.netloc}:443"
        self._metadata = [("authorization", token)] if token else []
        self._connection: _Connection | None = None

    @classmethod
    def _parsed(cls, base: str) -> SplitResult:
        address = super()._parsed(base)
        if address.path.strip("/") or address.query:
            raise Misconfigured("CLIP_HOST", "gRPC has no paths: wanted is grpc://host:port")
        if address.scheme == "grpc" and not address.port:
            raise Misconfigured("CLIP_HOST", f"grpc://{address.netloc} lacks a port")
        return address

    async def _call(self, path: str, message: bytes, seconds: float) -> bytes:
        """Call a method; after a failure the next call makes a connection of its own."""
        connection = self._connection or await self._connect()
        connection.calls += 1
        try:
            call = connection.channel.unary_unary(path)(message, timeout=seconds, metadata=self._metadata)
            return bytes(await call)
        except connection.grpc.aio.AioRpcError as error:
            failure = self._failure(connection.grpc.StatusCode, error, seconds)
            if isinstance(failure, Unavailable) and self._connection is connection:
                self._connection = None
            raise failure from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self.unavailable("the connection was closed") from error
        finally:
            connection.calls -= 1
            if connection is not self._connection and not connection.calls:
                await connection.channel.close()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.channel.close()

    async def _connect(self) -> _Connection:
        grpc, credentials = await asyncio.to_thread(_prepare, self._secure)
        self.check_open()
        if self._connection is None:
            open_channel = grpc.aio.secure_channel if self._secure else grpc.aio.insecure_channel
            channel = open_channel(self._target, *credentials, options=_OPTIONS)
            self._connection = _Connection(grpc, channel)
        return self._connection

    def _failure(self, status: Any, error: Any, seconds: float) -> Unavailable | Rejected:
        """Say what a status means for the batch that was sent."""
        said = f"{error.code().name}: {error.details() or 'no details'}"
        match error.code():
            case status.INVALID_ARGUMENT | status.OUT_OF_RANGE:
                return Rejected(self.said(said))
            case status.RESOURCE_EXHAUSTED if "message larger than max" in said:
                return Rejected(self.said(said))
            case status.UNAUTHENTICATED | status.PERMISSION_DENIED:
                return self.unavailable(f"it refuses us: is CLIP_AUTH_TOKEN right? {said}")
            case status.UNIMPLEMENTED:
                return self.unavailable(f"it is no Jina gateway: is CLIP_HOST right? {said}")
            case status.DEADLINE_EXCEEDED:
                return self.late(seconds)
            case status.UNAVAILABLE:
                return self.unavailable(
                    next((ours for theirs, ours in _LOST.items() if theirs in said), said)
                )
            case _:
                return self.unavailable(said)


@cache
def _prepare(secure: bool) -> tuple[ModuleType, tuple[Any, ...]]:
    """Import what takes its time, and read the roots of trust that HTTPS has too; for a thread."""
    import grpc
    import grpc.aio

    if not secure:
        return grpc, ()
    roots = ssl.get_default_verify_paths().cafile
    return grpc, (grpc.ssl_channel_credentials(Path(roots).read_bytes() if roots else None),)
