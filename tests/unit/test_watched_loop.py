"""The watch over the event loop, which every other test relies on."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from watched_loop import watched

SECONDS = 0.05


@pytest.fixture(autouse=True)
def _watched_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep from this test's own watch what is done here on purpose."""
    monkeypatch.setattr(logging.getLogger("asyncio"), "handlers", [])


def steps_of(step: Callable[[], object]) -> list[str]:
    """Take one step of a loop, and return what is told of it."""

    async def task() -> None:
        step()

    with closing(asyncio.new_event_loop()) as loop, watched(loop, SECONDS) as steps:
        loop.run_until_complete(task())
    return steps


def test_a_step_that_holds_the_loop_up_is_named_with_the_time_it_took() -> None:
    (told,) = steps_of(lambda: time.sleep(2 * SECONDS))
    assert re.match(r"Executing <Task .*steps_of.* took 0\.[1-9]\d* seconds", told)


def test_a_callback_that_holds_the_loop_up_is_named_too() -> None:
    with closing(asyncio.new_event_loop()) as loop, watched(loop, SECONDS) as steps:
        loop.call_soon(time.sleep, 2 * SECONDS)
        loop.run_until_complete(asyncio.sleep(0))
    (told,) = steps
    assert re.match(r"Executing <.*sleep.* took 0\.[1-9]\d* seconds", told)


def test_of_a_short_step_nothing_is_told() -> None:
    assert steps_of(lambda: None) == []


def test_a_call_into_the_loop_from_another_thread_is_refused() -> None:
    async def task() -> None:
        await asyncio.to_thread(asyncio.get_running_loop().call_soon, print)

    with closing(asyncio.new_event_loop()) as loop, watched(loop, SECONDS):
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            loop.run_until_complete(task())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_no_stack_is_kept_of_where_things_were_made() -> None:
    with closing(asyncio.new_event_loop()) as loop, watched(loop, SECONDS):
        assert "created at" not in repr(loop.create_future())
        assert "created at" not in repr(loop.call_soon(print))
