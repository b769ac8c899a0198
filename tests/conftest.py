"""What every test is held to: no task or thread left behind, and the event loop never blocked."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

BLOCKED_SECONDS = 1.0
"""A step of the loop that takes longer fails its test; generous, because machines are noisy."""

SHARED_SECONDS = 3.0
"""The same where an emulated service works in this process, and takes the interpreter's lock or the loop for
its own share, such as pages of a thousand rows: the loop then waits for the emulator, not for us."""

SERVED_HERE = frozenset({"emulator", "clip", "qdrant"})
"""Fixtures that are such a service."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what importing everything made out of later collections: one of all of it takes over a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # The loop's own threads, asyncio_0 and so on, end with the loop, which is after this.
    left = [
        one
        for one in set(threading.enumerate()) - before
        if not one.daemon and not one.name.startswith("asyncio_")
    ]
    for thread in left:
        thread.join(timeout=5)
    assert [one.name for one in left if one.is_alive()] == []


class _Blocked(logging.Handler):
    """Collects what asyncio says of steps that took too long."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "took" in record.getMessage():
            self.steps.append(record.getMessage())


@pytest.fixture(autouse=True)
async def loop_never_blocked_and_no_task_left_behind(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    shared = SERVED_HERE.intersection(request.fixturenames)
    loop.slow_callback_duration = SHARED_SECONDS if shared else BLOCKED_SECONDS
    blocked = _Blocked()
    logging.getLogger("asyncio").addHandler(blocked)
    before = asyncio.all_tasks()
    yield
    logging.getLogger("asyncio").removeHandler(blocked)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=1)
    assert [repr(one) for one in left if not one.done()] == []
    assert blocked.steps == []
