from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from clip_emulator import ClipEmulator

from daemon.encoders.clip_http import HttpClip


@pytest.fixture
async def clip() -> AsyncIterator[ClipEmulator]:
    async with ClipEmulator() as emulator:
        yield emulator


@pytest.fixture
async def encoder(clip: ClipEmulator) -> AsyncIterator[HttpClip]:
    encoder = HttpClip(clip.url, timeout=10.0)
    yield encoder
    await encoder.close()
