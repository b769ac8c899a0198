"""A circuit breaker: a service that failed is left alone for a while before somebody tries it again.

The pauses double, each with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
Blog, 2015), so that many who lost the same service do not return to it at once. Who tries is for the
owner to say: where one loop does it, no two ever ask a service that is half open.
"""

from __future__ import annotations

from collections.abc import Callable

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Bounds of the pauses, in seconds, before jitter."""

LONGEST_ASKED_FOR = 600.0
"""Longest pause, in seconds, that a service may ask for: it comes back without anybody's help."""


class Breaker:
    """Whether one service may be asked: closed, open until some time, or half open after it.

    :param service: its name in metrics
    :param clock: monotonic seconds
    :param jitter: maps a longest pause to a random one, in seconds
    :param longest: cap of the pauses, in seconds, before jitter
    """

    def __init__(
        self,
        service: str,
        clock: Callable[[], float],
        jitter: Callable[[float], float],
        longest: float = LONGEST_PAUSE,
    ) -> None:
        self.service = service
        self._clock = clock
        self._jitter = jitter
        self._longest = longest
        self._next = SHORTEST_PAUSE
        self._since: float | None = None
        self._until = 0.0

    def open_for(self) -> float:
        """Return the seconds since it opened; 0 while it is closed."""
        return 0.0 if self._since is None else self._clock() - self._since

    def wait(self) -> float:
        """Return the seconds until the service may be asked: 0 when it may be now."""
        return 0.0 if self._since is None else max(0.0, self._until - self._clock())

    def doubted(self, rest: float | None = None) -> None:
        """Open: something failed, and somebody is to see at once, or after a rest, whether all of it does.

        :param rest: seconds
        """
        self._open(min(max(rest or 0.0, 0.0), LONGEST_ASKED_FOR))

    def failed(self, retry_after: float | None = None) -> None:
        """Leave the service alone for a while; calls that fail meanwhile count as the same failure.

        :param retry_after: seconds it asked for, which are waited at least
        """
        pause = min(max(retry_after or 0.0, 0.0), LONGEST_ASKED_FOR)
        if not self.wait():
            pause = max(pause, self._jitter(self._next))
            self._next = min(2 * self._next, self._longest)
        self._open(pause)

    def succeeded(self) -> None:
        """Let everybody ask again."""
        self._since = None
        self._next = SHORTEST_PAUSE

    def _open(self, pause: float) -> None:
        now = self._clock()
        if self._since is None:
            self._since, self._until = now, now
        self._until = max(self._until, now + pause)
