"""A Qdrant server, as far as embedsync speaks with it: it really listens, REST and gRPC, and needs no server.

``async with QdrantEmulator(directory) as qdrant`` serves ``qdrant.url`` and ``qdrant.grpc_port``; its points
lie in shards of Qdrant Edge, the same engine. A test makes calls go wrong by ``qdrant.faults.add(Fault(…))``,
asks for keys by ``qdrant.keys``, stops listening by ``qdrant.away()``, and reads ``qdrant.calls``.
Alone: ``python -m tests.qdrant_emulator --port 6333``.
"""

from .emulator import QdrantEmulator
from .faults import DISK_FULL, Fault

__all__ = ["DISK_FULL", "Fault", "QdrantEmulator"]
