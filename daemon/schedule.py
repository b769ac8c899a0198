"""The schedule: asks for surveys and whole looks at their times, and does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC

from apscheduler.schedulers.asyncio import AsyncIOScheduler


@asynccontextmanager
async def scheduled(
    survey: Callable[[], None], sweep: Callable[[], None], interval_minutes: float, frame_hours: float
) -> AsyncIterator[None]:
    """Call `survey` every interval and `sweep` every frame, on the loop, while the context lasts.

    A call that comes late is made once, however many were missed.
    """
    scheduler = AsyncIOScheduler(
        timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    )
    jitter = min(30, interval_minutes * 6)
    scheduler.add_job(_call, "interval", [survey], seconds=interval_minutes * 60, jitter=jitter)
    scheduler.add_job(_call, "interval", [sweep], seconds=frame_hours * 3600)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


async def _call(work: Callable[[], None]) -> None:
    # A coroutine, because anything else is called in a thread, where events of the loop may not be set.
    work()
