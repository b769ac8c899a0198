from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from sync_source import FakeSource
from sync_time import InlineExecutor, VirtualLoop
from sync_world import World


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give the async tests below this directory a loop with virtual time."""
    return {"virtual": VirtualLoop}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("state.journal.ThreadPoolExecutor", InlineExecutor)


@pytest.fixture(autouse=True)
def defects() -> Iterator[list[Mapping[str, Any]]]:
    """What the daemon logs as a defect of its own fails the test; nothing is printed."""
    met: list[Mapping[str, Any]] = []

    def collect(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event["event"] == "project.defect":
            met.append(event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[collect], cache_logger_on_first_use=False)
    yield met
    structlog.configure(**before)
    assert not met


@pytest.fixture(params=["folder", "platform"])
def source(request: pytest.FixtureRequest) -> FakeSource:
    return FakeSource(proves_absence=request.param == "folder")


@pytest.fixture
async def world(source: FakeSource, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose daemon was started before there were pictures."""
    world = World(tmp_path, source)
    await world.start()
    await asyncio.sleep(0.5)
    try:
        yield world
        world.check()
    finally:
        await world.stop()
