"""The schedule asks, on time, on the loop."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from apscheduler.schedulers import base

from daemon.schedule import scheduled

SOON = 0.02
"""Seconds of an interval that a test can wait for."""


class Bell:
    """Can be rung from any thread: a call made in a wrong one fails its test, and hangs no other."""

    def __init__(self) -> None:
        self._rung, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def ring(self) -> None:
        self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self) -> None:
        await asyncio.wait_for(self._rung.wait(), 5)


async def test_surveys_are_asked_for_at_every_interval() -> None:
    calls, enough = 0, Bell()

    def survey() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            enough.ring()

    async with scheduled(survey, lambda: pytest.fail("a sweep"), SOON / 60, 1.0):
        await enough.wait()


async def test_sweeps_have_an_interval_of_their_own() -> None:
    swept = Bell()
    async with scheduled(lambda: pytest.fail("a survey"), swept.ring, 60.0, SOON / 3600):
        await swept.wait()


async def test_calls_are_made_on_the_loop_because_they_set_its_events() -> None:
    threads, called = [], Bell()

    def survey() -> None:
        threads.append(threading.current_thread())
        called.ring()

    async with scheduled(survey, lambda: None, SOON / 60, 1.0):
        await called.wait()
    assert set(threads) == {threading.current_thread()}


async def test_a_call_that_fails_does_not_end_the_schedule() -> None:
    calls, again = 0, Bell()

    def survey() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            again.ring()
        raise ValueError

    async with scheduled(survey, lambda: None, SOON / 60, 1.0):
        await again.wait()


async def test_nothing_is_asked_after_the_end() -> None:
    calls = 0

    def survey() -> None:
        nonlocal calls
        calls += 1

    async with scheduled(survey, lambda: None, SOON / 60, 1.0):
        await asyncio.sleep(3 * SOON)
    await asyncio.sleep(0)
    before = calls
    await asyncio.sleep(3 * SOON)
    assert calls == before


@pytest.mark.parametrize("moved", [timedelta(days=-400), timedelta(minutes=1)])
async def test_a_wall_clock_that_is_set_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, moved: timedelta
) -> None:
    by_how_much, calls, swept, often = timedelta(), 0, False, Bell()

    class WallClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            assert tz is not None
            return tz.fromutc((datetime.now(UTC) + by_how_much).replace(tzinfo=tz))

    def survey() -> None:
        nonlocal calls, by_how_much
        calls += 1
        by_how_much = moved
        if calls == 3:
            often.ring()

    def sweep() -> None:
        nonlocal swept
        swept = True

    monkeypatch.setattr(base, "datetime", WallClock)
    async with scheduled(survey, sweep, SOON / 60, 1 / 120):
        await often.wait()
    assert not swept


async def test_however_many_calls_were_missed_one_is_made() -> None:
    now, calls, swept = 0.0, 0, Bell()

    def survey() -> None:
        nonlocal calls
        calls += 1

    async with scheduled(survey, swept.ring, SOON / 60, 1.0, clock=lambda: now):
        now = 3600.0
        await swept.wait()
        await asyncio.sleep(3 * SOON)
    assert calls == 1
