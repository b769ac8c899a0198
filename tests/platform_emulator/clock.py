"""The platform's own clock, which need not agree with anybody else's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(4096)
def shown(stamp: int) -> str:
    """Write milliseconds since the epoch as the platform does: ``2021-01-22T19:37:50.158Z``."""
    moment = datetime.fromtimestamp(stamp / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp % 1000:03}Z"


def read(text: str) -> int:
    """Return the milliseconds since the epoch that an ISO 8601 text means.

    :raises ValueError: when it means none
    """
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


class Clock:
    """Stamps in milliseconds, each later than the one before."""

    def __init__(self, now: Callable[[], float] = time.time, skew: float = 0) -> None:
        self._now = now
        self._skew = skew
        self._last = 0

    def stamp(self) -> int:
        self._last = max(self._last + 1, int((self._now() + self._skew) * 1000))
        return self._last

    def set(self, skew: float) -> None:
        """Put the clock so many seconds before the machine's; it may jump back."""
        self._skew, self._last = skew, 0
