"""How many connections are open at once, in all and from one address: beyond it new ones are turned away.

A connection costs a descriptor and some kilobytes before a byte of it is read, and keeps them while it idles.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import orjson
import structlog

from handlers.peers import address_of, household

log = structlog.get_logger(__name__)

SHARE = 2
"""One address gets the whole divided by this: a proxy has all its users behind one, a flood often one too."""

KEPT = 8
"""Places that only this machine may take: for its health check, and whoever comes to see what is wrong."""

_MESSAGE = orjson.dumps({"message": "Too many connections are open; try again."})

TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_MESSAGE), _MESSAGE)
)


class Connections:
    """Makes the protocol of each new connection, as a server wants it, and counts those that are open.

    :param serve: makes the protocol of a connection that is let in
    :param most: open at once
    """

    def __init__(self, serve: Callable[[], asyncio.Protocol], most: int) -> None:
        self._serve = serve
        self._most = most
        self._open: Counter[str] = Counter()

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of one connection."""
        return _Connection(self, self._serve)

    def enter(self, peer: str, of_this_machine: bool) -> bool:
        """Count a connection from there, if there is room for it."""
        most = self._most if of_this_machine else max(1, self._most - KEPT)
        if self._open.total() >= most or self._open[peer] >= max(1, self._most // SHARE):
            log.warning("connections.full", peer=peer, open=self._open.total())
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count it no more."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]


class _Connection(asyncio.Protocol):
    """Stands before a connection's protocol, which it makes only if there is room, to see it come and go."""

    def __init__(self, all_of_them: Connections, serve: Callable[[], asyncio.Protocol]) -> None:
        self._all = all_of_them
        self._serve = serve
        self._peer: str | None = None
        self._inside = asyncio.Protocol()  # which heeds nothing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or send it away."""
        assert isinstance(transport, asyncio.Transport)
        remote = (transport.get_extra_info("peername") or (None,))[0]
        peer, address = household(remote), address_of(remote)
        if not self._all.enter(peer, address is not None and address.is_loopback):
            transport.write(TURNED_AWAY)
            transport.close()
            return
        self._peer, self._inside = peer, self._serve()
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        if self._peer is not None:
            self._all.leave(self._peer)
        self._inside.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what comes."""
        self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that no more comes."""
        return self._inside.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the peer does not read."""
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it reads again."""
        self._inside.resume_writing()
