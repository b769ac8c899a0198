from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from fault_haste import hasten
from fault_rows import Row
from fault_world import IMPATIENCE, PATIENCE, FaultWorld
from platform_emulator import Emulator
from platform_emulator.fixtures import emulator, sly

from daemon import logs

__all__ = ["emulator", "sly"]

QUIETED = ("apscheduler", "watchfiles", "httpx", "httpcore", "aiohttp.access", "asyncio")


@pytest.fixture
def written() -> Iterator[StringIO]:
    """All that is logged, by whatever library, with nobody told which words are secret."""
    root, stream = logging.getLogger(), StringIO()
    handlers = list(root.handlers)
    levels = {one: one.level for one in (root, *map(logging.getLogger, QUIETED))}
    logs.set_up("info", "json", [], stream)
    yield stream
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
async def running(
    row: Row,
    emulator: Emulator,
    sly: Any,
    written: StringIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[FaultWorld]:
    """A daemon on two projects that are embedded and shown so."""
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    impatient = row.service if row.fault.kind in ("slow", "dribble") else None
    hasten(monkeypatch, IMPATIENCE if impatient == "source" else PATIENCE)
    async with FaultWorld(emulator, tmp_path, impatient) as world:
        yield world
