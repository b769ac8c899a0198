"""Telling the supervisor how the process fares: ready, alive, stopping.

The protocol is that of ``sd_notify(3)``: lines of ``NAME=value`` in a datagram to a socket whose path the
supervisor puts into the environment. Without one, nothing is told.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

BEAT_LIMIT = 60.0
"""Seconds without a heartbeat that stand for trouble where nobody says how many."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Who watches over the process.

    :param address: the socket it is told at; ``None``: nobody is told
    :param patience: seconds without a heartbeat after which it acts
    """

    address: str | None = None
    patience: float = BEAT_LIMIT


NOBODY = Supervisor()


def supervisor_in(environment: Mapping[str, str]) -> Supervisor:
    """Return who watches, as systemd says it; not a setting, for nobody chooses it."""
    limit = environment.get("WATCHDOG_USEC", "")
    patience = int(limit) / 1e6 if limit.isdecimal() and int(limit) else BEAT_LIMIT
    return Supervisor(environment.get("NOTIFY_SOCKET"), patience)


class Notifier:
    """Tells a supervisor, and never waits for it.

    :param address: its socket: a path, or ``@`` and the name of an abstract one; ``None`` or empty when
        nobody supervises
    """

    def __init__(self, address: str | None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address

    def ready(self, status: str) -> None:
        """Say that requests are served; the start is over."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def alive(self, status: str) -> None:
        """Say that all is well; a watchdog that hears it too seldom restarts the process."""
        self._tell("WATCHDOG=1", f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Say that the way down has begun: from now on the supervisor's limit for stopping counts."""
        self._tell("STOPPING=1", "STATUS=draining")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.setblocking(False)
                door.connect(self._address)
                door.send("\n".join(lines).encode())
        except OSError as error:
            # One that is gone or too busy to listen: nobody to tell it to, and no reason to stop.
            log.warning("supervisor.not_told", problem=str(error), first=lines[0])


def _line(text: str) -> str:
    return " ".join(text.split())
