"""The process that holds the shards of Qdrant Edge, and nothing else.

Every call of the engine holds the GIL for its whole length, and a full disk kills its process with
SIGBUS; here neither reaches the daemon. The process serves one socket, its standard input, until
that ends, so it never outlives its parent by more than a flush; it ignores the signals meant for
the parent, so that a drain can finish.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from state.stores.edge_shard import OPERATIONS, WRITES, Shard, open_shard
from state.stores.edge_wire import HEADER, pack, unpack

FLUSH_EVERY = 512
"""Write messages after which a flush cannot wait, for the write-ahead log grows by 2.7 KB a point.
A flush takes 20 to 400 ms and nothing is answered meanwhile; a crash loses nothing without it."""

QUIET_SECONDS = 1.0
"""After so long without a message, what was written is flushed."""

RELOAD_AFTER = 2_000
"""Rows written, at the least, after which a shard is loaded anew, and twice as many as it has points:
until then the engine keeps some 240 bytes of memory of every content that was overwritten. Loading takes
0.3 s for a small shard and 7 µs a point for a large one; nothing is answered meanwhile."""


class Shards:
    """The shards that are open, and how much was written to them."""

    def __init__(self) -> None:
        self._shards: dict[str, Shard] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._written: Counter[str] = Counter()
        self._unflushed: list[str] = []

    @property
    def unflushed(self) -> int:
        """Messages that wrote since the last flush."""
        return len(self._unflushed)

    def answer(self, operation: str, collection: str, arguments: Sequence[Any], body: memoryview) -> bytes:
        """Carry one request out; a failure is an answer too, for the engine raises bare exceptions."""
        result, blob = None, b""
        try:
            if operation == "open":
                self._open(collection, *arguments)
            elif operation == "close":
                if shard := self._shards.pop(collection, None):
                    shard.close()
            elif operation in WRITES:
                shard = self._shards[collection]
                self._unflushed.append(collection)
                result, blob = WRITES[operation](shard, body, *arguments)
                self._written[collection] += result
            elif operation != "ping":
                result, blob = OPERATIONS[operation](self._shards[collection], body, *arguments)
            return pack((None, result), blob)
        except Exception as error:
            logging.exception("edge.request_failed %s", operation)
            return pack((f"{operation}: {error}", None))

    def flush(self) -> None:
        """Make what was written durable, and load anew what was written to again and again."""
        for collection in set(self._unflushed) & self._shards.keys():
            shard = self._shards[collection]
            shard.flush()
            if self._written[collection] >= max(RELOAD_AFTER, 2 * shard.info().points_count):
                shard.close()
                self._load(collection)
        self._unflushed = []

    def close(self) -> None:
        """Make all durable."""
        for shard in self._shards.values():
            shard.flush()
            shard.close()

    def _open(self, collection: str, directory: str, dimension: int) -> None:
        self._places[collection] = Path(directory), dimension
        if collection not in self._shards:
            self._load(collection)

    def _load(self, collection: str) -> None:
        self._written[collection] = 0
        self._shards[collection] = open_shard(*self._places[collection])


def serve(connection: socket.socket) -> None:
    """Answer one request after the other until the connection ends, then make all durable."""
    shards = Shards()
    with connection, suppress(ConnectionError):
        while True:
            if shards.unflushed >= FLUSH_EVERY or (shards.unflushed and _quiet(connection)):
                shards.flush()
            frame = _receive(connection)
            if frame is None:
                break
            (operation, collection, *arguments), body = unpack(memoryview(frame))
            connection.sendall(shards.answer(operation, collection, arguments, body))
    shards.close()


def _quiet(connection: socket.socket) -> bool:
    """Wait a little for a message; tell whether none came."""
    return not select.select([connection], [], [], QUIET_SECONDS)[0]


def _receive(connection: socket.socket) -> bytes | None:
    """Read one frame and no byte more, for :func:`_quiet` to see the next; ``None`` at the end."""
    header = connection.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        return None
    size = sum(HEADER.unpack(header))
    rest = connection.recv(size, socket.MSG_WAITALL)
    return header + rest if len(rest) == size else None


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    serve(socket.socket(fileno=0))
