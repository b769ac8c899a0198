"""The heartbeat: while the looks at projects get on, the supervisor is told so; else it restarts the process.

It runs on the loop and lives no longer than the root tasks, so it stops when the loop is blocked and when a
root task has ended; and it withholds the beat itself when a look has not moved for longer than any wait in
one may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import structlog

STUCK_SECONDS = 1800.0
"""A look that has shown no progress for so long hangs: the longest wait within one is the listing of a
project of millions, for the vectors of another encoder, which takes some ten minutes."""

BEATS_PER_LIMIT = 3
"""How often the supervisor is told within the time after which it would restart the process."""

UnderWay = Callable[[], Mapping[int, Hashable]]
"""Returns, for each project being looked at, what changes as that look gets on."""

log = structlog.get_logger()


class Heartbeat:
    """Beats while there is nothing to do, or what is done gets on.

    :param beat: told in words what is under way, when all is well
    :param limit: seconds without a beat after which the supervisor acts
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        beat: Callable[[str], None],
        limit: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._beat = beat
        self._under_way: UnderWay = dict
        self._pause = limit / BEATS_PER_LIMIT
        self._clock, self._sleep = clock, sleep
        self._moved: dict[int, tuple[Hashable, float]] = {}
        self._withheld = False

    @contextmanager
    def watching(self, under_way: UnderWay) -> Iterator[None]:
        """Watch the looks while the context lasts; before and after it there is nothing to do."""
        self._under_way = under_way
        try:
            yield
        finally:
            self._under_way = dict

    async def run(self) -> NoReturn:
        """Beat for ever, whenever all is well."""
        while True:
            stuck = self.stuck()
            if not stuck:
                self._beat(f"looking at {len(self._moved)} projects" if self._moved else "idle")
            elif not self._withheld:
                log.error("heartbeat.withheld", projects=sorted(stuck), seconds=STUCK_SECONDS)
            self._withheld = bool(stuck)
            await self._sleep(self._pause)

    def stuck(self) -> list[int]:
        """Note how the looks get on, and return the projects whose look does not."""
        now, before = self._clock(), self._moved
        self._moved = {
            project_id: before[project_id]
            if project_id in before and before[project_id][0] == mark
            else (mark, now)
            for project_id, mark in self._under_way().items()
        }
        return [one for one, (_, since) in self._moved.items() if now - since >= STUCK_SECONDS]
