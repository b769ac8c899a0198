"""The emulator: an engine, what may go wrong with it, and the two doors to it, in the caller's loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .conditions import Json, Unknown
from .engine import Engine, Refused
from .faults import Fault, Faults
from .rest import Rest
from .rpc import Rpc

WRITES = frozenset(
    {"create", "delete_collection", "update_collection", "create_index", "upsert", "delete", "batch"}
)


@dataclass
class Keys:
    """The keys it asks for; none asked for: everybody may do everything."""

    writing: str | None = None
    reading: str | None = None


class Broken(Exception):
    """The answer is not given, or not whole."""

    def __init__(self, fault: Fault, answer: Any = None) -> None:
        super().__init__(fault.kind)
        self.fault = fault
        self.answer = answer


class QdrantEmulator:
    """A server of collections under `directory`.

    :param port: for REST; 0: any free one, the same again after :meth:`away`
    :param certificate: of trustme, to speak TLS with
    :ivar calls: how often each operation was asked for
    :ivar bodies: the last body of each
    :ivar engine: the collections, and the version it says it is
    """

    def __init__(self, directory: Path, port: int = 0, grpc_port: int = 0, certificate: Any = None) -> None:
        self.engine = Engine(directory)
        self.faults = Faults()
        self.keys = Keys()
        self.calls = Counter[str]()
        self.bodies: dict[str, Json] = {}
        self._rest = Rest(self.serve, port, certificate)
        self._rpc = Rpc(self.serve, grpc_port, certificate)

    @property
    def url(self) -> str:
        return f"{self._rest.scheme}://127.0.0.1:{self._rest.port}"

    @property
    def grpc_port(self) -> int:
        return self._rpc.port

    async def __aenter__(self) -> Self:
        await self.back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.away()
        self.engine.close()

    async def back(self) -> None:
        """Listen."""
        await self._rest.start()
        await self._rpc.start()

    async def away(self) -> None:
        """Stop listening, and drop who is connected."""
        await self._rest.stop()
        await self._rpc.stop()

    async def serve(self, operation: str, key: str | None, name: str, body: Json) -> Any:
        """Answer one call.

        :raises Refused: with the server's error
        :raises Broken: when the answer is to be spoilt
        """
        self.calls[operation] += 1
        self.bodies[operation] = body
        self._authorise(operation, key)
        fault = self.faults.striking(operation)
        if fault is not None:
            await _strike_before(fault)
        try:
            answer = getattr(self.engine, operation)(name, body)
        except (Unknown, KeyError) as error:
            raise Refused(400, f"Format error in JSON body: {error!r}") from error
        if fault is not None and fault.kind in ("lost", "cut"):
            raise Broken(fault, answer)
        if fault is not None and fault.kind == "acknowledged":
            return {"operation_id": 0, "status": "acknowledged"}
        return answer

    def _authorise(self, operation: str, key: str | None) -> None:
        if operation == "version" or self.keys.writing is None or key == self.keys.writing:
            return
        if key is None or key != self.keys.reading:
            raise Refused(401, "Invalid API key or JWT" if key else "Must provide an API key")
        if operation in WRITES:
            raise Refused(403, "Forbidden: Global manage access is required")


async def _strike_before(fault: Fault) -> None:
    match fault.kind:
        case "latency":
            await asyncio.sleep(fault.seconds)
        case "call" if fault.action is not None:
            fault.action()
        case "status":
            raise Refused(fault.status, fault.message, fault.retry_after)
        case "reset" | "html":
            raise Broken(fault)
