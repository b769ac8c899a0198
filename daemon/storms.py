"""A bound on the log under a storm of faults: the first of like events are written, the rest counted.

What a service that is away makes a thousand projects say is one piece of news. So of events that report the
same trouble, ten a minute are written; when the minute is over, one more says how often the rest came.
Events that report no trouble are never held back: their number is that of finished pieces of work.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

WRITTEN_PER_MINUTE = 10
"""So many like events are written in a minute before the rest is only counted."""

MINUTE = 60.0

MOST_KINDS = 200
"""So many kinds of events are told apart in a minute; all that come beyond are one kind."""

FIRST_ERROR_STATUS = 400

SHARED = ("level", "timestamp", "problem", "service", "route", "status")
"""Fields that the last event of a kind may speak for all with."""

OTHERS = ("many other events",)

_NUMBER = re.compile(r"\d+")

Kind = tuple[object, ...]


@dataclass(slots=True)
class _Count:
    """How many events of a kind came since `since`, and the last one that was not written."""

    since: float
    seen: int = 0
    last: logging.LogRecord | None = None


class StormHandler(logging.StreamHandler[TextIO]):
    """A stream handler that sums like events up.

    What was counted is told by the next event after the minute, of whatever kind, or at the end.

    :param clock: monotonic seconds
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._counts: dict[Kind, _Count] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        now = self._clock()
        self._tell(lambda count: now - count.since >= MINUTE)
        if not _reports_trouble(record):
            super().emit(record)
            return
        kind = _kind(record)
        if kind not in self._counts and len(self._counts) >= MOST_KINDS:
            kind = OTHERS
        count = self._counts.setdefault(kind, _Count(now))
        count.seen += 1
        if count.seen <= WRITTEN_PER_MINUTE:
            super().emit(record)
        else:
            count.last = record

    def close(self) -> None:
        """Tell what was counted, and close."""
        self.acquire()
        try:
            self._tell(lambda _: True)
        finally:
            self.release()
        super().close()

    def _tell(self, over: Callable[[_Count], bool]) -> None:
        for kind in [one for one, count in self._counts.items() if over(count)]:
            count = self._counts.pop(kind)
            if count.last is not None:
                super().emit(_summary(count.last, kind, count.seen - WRITTEN_PER_MINUTE))


def _reports_trouble(record: logging.LogRecord) -> bool:
    status = record.msg.get("status") if isinstance(record.msg, Mapping) else None
    failed = isinstance(status, int) and status >= FIRST_ERROR_STATUS
    return failed or record.levelno >= logging.WARNING


def _kind(record: logging.LogRecord) -> Kind:
    """Return what is the same for events that say the same, whatever the numbers in it."""
    failure = record.exc_info[0] if record.exc_info else None
    if not isinstance(record.msg, Mapping):
        return record.name, record.levelno, str(record.msg), failure
    event = record.msg
    problem = _NUMBER.sub("#", str(event.get("problem", "")))
    return event.get("event"), record.levelno, problem, event.get("route"), event.get("status"), failure


def _summary(last: logging.LogRecord, kind: Kind, repeated: int) -> logging.LogRecord:
    """Return an event that stands for those not written."""
    summary = logging.makeLogRecord(last.__dict__)
    summary.exc_info = summary.exc_text = summary.stack_info = None
    times = f"repeated {repeated:,} times"
    if not isinstance(last.msg, Mapping):
        summary.msg, summary.args = f"{OTHERS[0] if kind == OTHERS else last.getMessage()} … {times}", ()
        return summary
    shared = SHARED[:2] if kind == OTHERS else SHARED
    told: dict[str, Any] = {name: last.msg[name] for name in shared if name in last.msg}
    event = OTHERS[0] if kind == OTHERS else last.msg.get("event")
    summary.msg = {"event": f"{event} … {times}", "repeated": repeated, **told}
    return summary
