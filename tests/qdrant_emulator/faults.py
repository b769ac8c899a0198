"""What can go wrong with a call, on command; the same over REST and gRPC as far as both can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["status", "reset", "lost", "cut", "html", "latency", "acknowledged", "call"]

DISK_FULL = "Service internal error: No space left on device: WAL buffer size exceeds available disk space"


@dataclass
class Fault:
    """One thing that goes wrong.

    :ivar match: the operations it strikes, as :class:`~.engine.Engine` names them; may be a pattern
    :ivar kind: instead of the work: ``status`` with `status`, `message` and `retry_after`, ``reset`` of the
        connection, ``html``, a page with 200. After it: ``lost``, the connection is reset; ``cut``, half an
        answer; ``acknowledged``, an answer that says it was only heard. Before it: ``latency`` waits for
        `seconds`, ``call`` runs `action`
    :ivar times: how often it strikes; ``None``: until it is taken away
    :ivar skip: how many calls pass before it begins
    """

    match: str
    kind: Kind
    times: int | None = 1
    skip: int = 0
    status: int = 503
    message: str = "on command"
    retry_after: int | None = None
    seconds: float = 0.0
    action: Callable[[], object] | None = None


class Faults:
    """The faults that wait for a call."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        self._waiting += faults

    def clear(self) -> None:
        self._waiting.clear()

    def striking(self, operation: str) -> Fault | None:
        """Return what strikes this call, and count it."""
        for fault in self._waiting:
            if not fnmatchcase(operation, fault.match) or fault.times == 0:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times = None if fault.times is None else fault.times - 1
            return fault
        return None
