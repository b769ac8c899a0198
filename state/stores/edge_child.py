"""The process that holds the shards of Qdrant Edge, and nothing else.

Every call of the engine holds the GIL for its whole length, and a full disk kills its process with
SIGBUS; here neither reaches the daemon. The process serves one socket, its standard input, until
that ends, so it never outlives its parent by more than a flush; it ignores the signals meant for
the parent, so that a drain can finish.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import orjson

from state.stores.edge_shard import OPERATIONS, WRITES, Shard, open_shard
from state.stores.edge_wire import BEGINS_ANEW, HEADER, pack, unpack

FLUSH_EVERY = 512
"""Write messages after which a flush cannot wait, for the write-ahead log grows by 2.7 KB a point.
A flush takes 20 to 400 ms and nothing is answered meanwhile; a crash loses nothing without it."""

QUIET_SECONDS = 1.0
"""After so long without a message, what was written is flushed."""

WORN_AFTER = 1_000
"""Rows written, at the least, after which the process begins anew, and twice as many as a shard has points:
until then the engine keeps some 240 bytes of memory of each that was overwritten, and the room on disk of
each that was removed. Beginning takes 0.5 s, 7 µs a point, and 66 µs a living point where half are dead;
nothing is answered meanwhile."""

Places = dict[str, tuple[str, int]]
"""The directory and the dimension of each shard."""


class Shards:
    """The shards that are open, and how much was written to them.

    :param places: those to open at once
    """

    def __init__(self, places: Places) -> None:
        self.places: Places = {}
        self._shards: dict[str, Shard] = {}
        self._written: Counter[str] = Counter()
        self._unflushed: list[str] = []
        for collection, place in places.items():
            self._open(collection, *place)

    @property
    def unflushed(self) -> int:
        """Messages that wrote since the last flush."""
        return len(self._unflushed)

    @property
    def worn(self) -> bool:
        """Whether so much was overwritten that the shards had better be opened anew."""
        return any(
            self._written[collection] >= max(WORN_AFTER, 2 * shard.info().points_count)
            for collection, shard in self._shards.items()
        )

    def answer(self, operation: str, collection: str, arguments: Sequence[Any], body: memoryview) -> bytes:
        """Carry one request out; a failure is an answer too, for the engine raises bare exceptions."""
        result, blob = None, b""
        try:
            if operation == "open":
                self._open(collection, *arguments)
            elif operation == "close":
                self._close(collection)
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
        """Make durable what was written."""
        for collection in set(self._unflushed) & self._shards.keys():
            self._shards[collection].flush()
        self._unflushed = []

    def close(self) -> None:
        """Make all durable."""
        for shard in self._shards.values():
            shard.flush()
            shard.close()

    def _open(self, collection: str, directory: str, dimension: int) -> None:
        if collection not in self._shards:
            self._shards[collection] = open_shard(Path(directory), dimension)
            self.places[collection] = directory, dimension

    def _close(self, collection: str) -> None:
        if shard := self._shards.pop(collection, None):
            del self.places[collection], self._written[collection]
            shard.close()


def serve(connection: socket.socket, places: Places, begin_anew: Callable[[Places], None]) -> None:
    """Answer one request after the other until the connection ends, then make all durable.

    :param places: the shards to open first
    :param begin_anew: replaces the process by one of the same connection; never returns
    """
    shards = Shards(places)
    with connection, suppress(ConnectionError):
        while True:
            if shards.unflushed >= FLUSH_EVERY or (shards.unflushed and _quiet(connection)):
                shards.flush()
                if shards.worn:
                    connection.sendall(BEGINS_ANEW)
                    shards.close()
                    begin_anew(shards.places)
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


def _exec(places: Places) -> NoReturn:
    """Become another process of the same connection, locks and ignored signals: no memory is left behind."""
    arguments = ["-m", "state.stores.edge_child", orjson.dumps(places).decode()]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 (our own interpreter and module)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    os.set_inheritable(0, True)
    serve(socket.socket(fileno=0), orjson.loads(sys.argv[1]) if sys.argv[1:] else {}, _exec)
