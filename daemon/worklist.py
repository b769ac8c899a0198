"""Project keys that need a look, each with a scope.

Level-triggered: marking a key twice, late or out of order changes nothing but its scope, which only
grows. Keys are taken in the order they were marked, so that no project starves another; a key that
failed waits, with full jitter, and keeps what is to be looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from state.model import Scope

SHORTEST_RETRY = 1.0
LONGEST_RETRY = 600.0
"""Bounds of the exponential back-off, in seconds, before jitter."""


@dataclass(slots=True)
class Waiting:
    """A key that may not be taken before `until`; `why`, and the service at fault, are set when it failed."""

    scope: Scope
    until: float
    since: float
    why: str | None = None
    service: str | None = None


class Worklist:
    """The keys to look at.

    :param clock: monotonic seconds
    :param jitter: maps a longest delay to a random one, in seconds
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[float], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._ready: dict[int, Scope] = {}
        self._running: dict[int, Waiting | None] = {}
        self._waiting: dict[int, Waiting] = {}
        self._failures: dict[int, int] = {}
        self._undiffed: set[int] = set()
        self._favoured: dict[int, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)

    def mark(self, project_id: int, scope: Scope, delay: float = 0.0, at_once: bool = False) -> None:
        """Ask for a look; a failed key keeps waiting, unless `at_once`."""
        if project_id in self._running:
            now, earlier = self._clock(), self._running[project_id]
            wish = Waiting(scope, now + delay, now)
            if earlier:
                wish = Waiting(scope.merge(earlier.scope), min(wish.until, earlier.until), earlier.since)
            self._running[project_id] = wish
        elif project_id in self._ready:
            self._ready[project_id] = self._ready[project_id].merge(scope)
        elif project_id in self._waiting and not at_once:
            waiting = self._waiting[project_id]
            waiting.scope = waiting.scope.merge(scope)
            if waiting.why is None:
                waiting.until = min(waiting.until, self._clock() + delay)
        elif delay:
            now = self._clock()
            self._waiting[project_id] = Waiting(scope, now + delay, now)
        else:
            waited = self._waiting.pop(project_id, None)
            self._ready[project_id] = waited.scope.merge(scope) if waited else scope
        self._changed.set()

    async def take(self) -> tuple[int, Scope]:
        """Wait for a key that is due and take it."""
        while True:
            self._promote()
            if self._ready:
                first = (one for one in reversed(self._favoured) if one in self._ready)
                project_id = next(first, next(iter(self._ready)))
                scope = self._ready.pop(project_id)
                self._favoured.pop(project_id, None)
                self._running[project_id] = None
                self._undiffed.add(project_id)
                return project_id, scope
            self._changed.clear()
            await self._wait(min((one.until for one in self._waiting.values()), default=None))

    def favour(self, project_id: int) -> None:
        """Put a key first in line, as soon as it is in line."""
        self._favoured.pop(project_id, None)
        self._favoured[project_id] = None

    def wake(self, service: str) -> None:
        """Let the keys that wait for a service be taken at once: it answers again."""
        for waiting in self._waiting.values():
            if waiting.service == service:
                waiting.until = self._clock()
        self._changed.set()

    def diffed(self, project_id: int) -> None:
        """Say that a taken key found every vector it could reuse."""
        self._undiffed.discard(project_id)
        self._changed.set()

    def done(self, project_id: int) -> None:
        """Put a taken key away; what was marked meanwhile is due at once."""
        self._failures.pop(project_id, None)
        self._put_back(project_id)

    def stopped(self, project_id: int) -> None:
        """Put a taken key away, and what was marked meanwhile with it: a person does not want it now."""
        self._failures.pop(project_id, None)
        self._running[project_id] = None
        self._put_back(project_id)

    def failed(
        self,
        project_id: int,
        scope: Scope,
        why: str,
        retry_after: float | None = None,
        service: str | None = None,
    ) -> None:
        """Put a taken key away until it may be tried again.

        :param service: which one was away
        """
        failures = self._failures[project_id] = self._failures.get(project_id, -1) + 1
        longest = min(LONGEST_RETRY, SHORTEST_RETRY * 2 ** min(failures, 20))
        meanwhile = self._running.pop(project_id, None)
        self._undiffed.discard(project_id)
        now = self._clock()
        self._waiting[project_id] = Waiting(
            scope.merge(meanwhile.scope) if meanwhile else scope,
            now + max(self._jitter(longest), retry_after or 0.0),
            now,
            why,
            service,
        )
        self._changed.set()

    def drop(self, project_id: int) -> None:
        """Forget a key that is gone from the source."""
        for keys in (self._ready, self._waiting, self._failures, self._favoured):
            keys.pop(project_id, None)
        self._changed.set()

    def waiting(self, project_id: int) -> Waiting | None:
        """Return what a failed key waits for; ``None`` when it did not fail."""
        waiting = self._waiting.get(project_id)
        return waiting if waiting and waiting.why else None

    def problem_with(self, service: str) -> str | None:
        """Return why some key waits for a service; ``None`` when none does."""
        return next((one.why for one in self._waiting.values() if one.service == service), None)

    def queued(self, project_id: int) -> bool:
        """Whether the key is due, waiting to be retried, or to be looked at once more."""
        return (
            project_id in self._ready
            or project_id in self._waiting
            or self._running.get(project_id) is not None
        )

    def resting(self) -> bool:
        """Whether nothing is running or due, save what failed and waits."""
        return not self._ready and not self._running and all(one.why for one in self._waiting.values())

    async def all_diffed(self, project_ids: Collection[int], until: float) -> bool:
        """Wait until each of these keys was diffed or failed, at most until that time."""
        while left := [one for one in project_ids if one in self._ready or one in self._undiffed]:
            if self._clock() >= until:
                return False
            self._changed.clear()
            await self._wait(until)
            project_ids = left
        return True

    def dirty(self) -> set[int]:
        """Return the keys that may still find a vector to reuse."""
        return self._undiffed | self._ready.keys()

    def _put_back(self, project_id: int) -> None:
        meanwhile = self._running.pop(project_id, None)
        self._undiffed.discard(project_id)
        if meanwhile:
            self.mark(project_id, meanwhile.scope, max(0.0, meanwhile.until - self._clock()))
        self._changed.set()

    def _promote(self) -> None:
        now = self._clock()
        for project_id in [one for one, waiting in self._waiting.items() if waiting.until <= now]:
            self._ready[project_id] = self._waiting.pop(project_id).scope

    async def _wait(self, until: float | None) -> None:
        timeout = None if until is None else max(0.0, until - self._clock())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
