"""The schedule asks, on time, on the loop."""

import asyncio
import threading

import pytest

from daemon.schedule import scheduled

SOON = 0.02
"""Seconds of an interval that a test can wait for."""


async def wait_for(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 5)


async def test_surveys_are_asked_for_at_every_interval() -> None:
    calls, enough = 0, asyncio.Event()

    def survey() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            enough.set()

    async with scheduled(survey, lambda: pytest.fail("a sweep"), SOON / 60, 1.0):
        await wait_for(enough)


async def test_sweeps_have_an_interval_of_their_own() -> None:
    swept = asyncio.Event()
    async with scheduled(lambda: pytest.fail("a survey"), swept.set, 60.0, SOON / 3600):
        await wait_for(swept)


async def test_calls_are_made_on_the_loop_because_they_set_its_events() -> None:
    threads, called = [], asyncio.Event()

    def survey() -> None:
        threads.append(threading.current_thread())
        called.set()

    async with scheduled(survey, lambda: None, SOON / 60, 1.0):
        await wait_for(called)
    assert set(threads) == {threading.current_thread()}


async def test_a_call_that_fails_does_not_end_the_schedule() -> None:
    calls, again = 0, asyncio.Event()

    def survey() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            again.set()
        raise ValueError

    async with scheduled(survey, lambda: None, SOON / 60, 1.0):
        await wait_for(again)


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
