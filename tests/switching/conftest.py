from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from clip_emulator import ClipEmulator
from folder_daemon import Running, paint
from switched_folder import CATS, DOGS

from daemon import breaker, recognition, worklist


@pytest.fixture
async def clip() -> AsyncIterator[ClipEmulator]:
    async with ClipEmulator(dimension=64) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the canaries, and again at what failed, after tenths of a second instead of minutes."""
    for module, name in (
        (recognition, "CHECK_SECONDS"),
        (recognition, "BUSY_CHECK_SECONDS"),
        (breaker, "SHORTEST_PAUSE"),
        (worklist, "SHORTEST_RETRY"),
    ):
        monkeypatch.setattr(module, name, 0.2)
    monkeypatch.setattr("daemon.encoders.opening.Breaker", partial(breaker.Breaker, longest=0.5))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """A daemon, not started yet, over two projects of pictures."""
    paint(tmp_path / "pictures" / "cats", range(CATS))
    paint(tmp_path / "pictures" / "dogs", range(100, 100 + DOGS))
    daemon = Running(tmp_path)
    yield daemon
    await daemon.stop()
