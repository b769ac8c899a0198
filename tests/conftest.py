"""What every test is held to: no task or thread left behind, and the event loop never blocked."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from watched_loop import watched

BLOCKED_SECONDS = 1.0
"""A step of the loop that takes longer fails its test; generous, because machines are noisy."""

SHARED_SECONDS = 3.0
"""The same where an emulated service works in this process, and takes the interpreter's lock or the loop for
its own share, such as pages of a thousand rows: the loop then waits for the emulator, not for us."""

SERVED_HERE = frozenset({"emulator", "clip", "qdrant"})
"""Fixtures that are such a service."""


LONG = ("switching", "lifecycle", "faults", "contract", "hostile", "platform", "transfer", "qdrant", "sync")
"""Directories whose tests take long. They begin, or a worker would be left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(LONG)))


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


@pytest.fixture(autouse=True)
async def loop_never_blocked_and_no_task_left_behind(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    shared = SERVED_HERE.intersection(request.fixturenames)
    before = asyncio.all_tasks()
    with watched(asyncio.get_running_loop(), SHARED_SECONDS if shared else BLOCKED_SECONDS) as blocked:
        yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=1)
    assert [repr(one) for one in left if not one.done()] == []
    assert blocked == []
