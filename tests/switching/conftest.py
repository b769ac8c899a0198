from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clip_emulator import ClipEmulator
from folder_daemon import Running, paint

from daemon import recognition


@pytest.fixture
async def clip() -> AsyncIterator[ClipEmulator]:
    async with ClipEmulator(dimension=64) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def frequent_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the canaries every half second, so that no test waits for a minute."""
    monkeypatch.setattr(recognition, "CHECK_SECONDS", 0.5)
    monkeypatch.setattr(recognition, "BUSY_CHECK_SECONDS", 0.5)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """A daemon, not started yet, over two projects of pictures."""
    paint(tmp_path / "pictures" / "cats", range(60))
    paint(tmp_path / "pictures" / "dogs", range(100, 140))
    daemon = Running(tmp_path)
    yield daemon
    await daemon.stop()
