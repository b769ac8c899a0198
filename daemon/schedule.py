"""The schedule: asks for surveys and whole looks at their times, and does nothing else."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

BEGINNING = datetime(2000, 1, 1)
"""What the time is where the monotonic clock says 0; any would do."""


@asynccontextmanager
async def scheduled(
    survey: Callable[[], None],
    sweep: Callable[[], None],
    interval_minutes: float,
    frame_hours: float,
    clock: Callable[[], float] = time.monotonic,
    uniform: Callable[[float, float], float] = random.uniform,
) -> AsyncIterator[None]:
    """Call `survey` every interval and `sweep` every frame, on the loop, while the context lasts.

    A call that comes late is made once, however many were missed.

    :param clock: monotonic seconds
    :param uniform: draws the seconds by which a survey is late, so that not all daemons ask at once
    """
    scheduler = AsyncIOScheduler(
        timezone=_Monotonic(clock),
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    BaseTrigger.register(_Every)
    jitter = partial(uniform, 0, min(30, interval_minutes * 6))
    scheduler.add_job(_call, _Every(interval_minutes * 60, jitter), [survey])
    scheduler.add_job(_call, _Every(frame_hours * 3600), [sweep])
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


class _Monotonic(tzinfo):
    """A time zone whose time is the monotonic clock's.

    APScheduler goes by ``datetime.now(timezone)``. By a wall clock, one that is set back would keep
    everything waiting until the old time is reached, and one that is set forth by years, as at the first
    contact with a time server, would have every call missed meanwhile counted, on the loop.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def fromutc(self, moment: datetime) -> datetime:
        """Return the time now: that of this zone is never asked for another moment."""
        return BEGINNING.replace(tzinfo=self) + timedelta(seconds=self._clock())

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Return none: moments are only compared with each other."""
        return timedelta()

    def dst(self, moment: datetime | None) -> timedelta:
        """Return none."""
        return timedelta()

    def tzname(self, moment: datetime | None) -> str:
        """Return the name."""
        return "monotonic"


@dataclass(frozen=True, slots=True)
class _Every:
    """A trigger: so many seconds after the last call, and some more."""

    seconds: float
    more: Callable[[], float] = float

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return when to call next."""
        return now + timedelta(seconds=self.seconds + self.more())


async def _call(work: Callable[[], None]) -> None:
    # A coroutine, because anything else is called in a thread, where events of the loop may not be set.
    work()
