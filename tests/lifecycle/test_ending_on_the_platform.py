"""A signal amid a full sync over the platform, CLIP and a Qdrant server: an end in time, and nothing lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import counting_daemon
import numpy as np
import pytest
from clip_emulator import ClipEmulator
from counting_daemon import digest
from live_daemon import END_SECONDS, LiveDaemon
from numpy.typing import NDArray
from platform_emulator import Emulator
from qdrant_process import qdrant_server

pytestmark = pytest.mark.skipif(
    not (find_spec("supervisely") and find_spec("qdrant_client")),
    reason="comes with the extras `platform` and `qdrant`",
)

IMAGES = 400
ENOUGH = 64
"""So many are safe before CLIP becomes slow."""

PATIENCE = 60.0


class WatchedClip(ClipEmulator):
    """CLIP that writes down every picture it is given."""

    def __init__(self) -> None:
        super().__init__(seconds=0.02, dimension=64)
        self.seen: Counter[str] = Counter()
        self.refuses = self._see

    @property
    def at_work(self) -> int:
        """How many batches it has been given and has not answered."""
        return self.requests - self.batches

    def _see(self, pixels: NDArray[np.uint8]) -> bool:
        self.seen[digest(pixels)] += 1
        return False


@pytest.fixture
async def clip() -> AsyncIterator[WatchedClip]:
    async with WatchedClip() as running:
        yield running


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def following(emulator: Emulator, clip: WatchedClip, tmp_path: Path, diary: Path) -> Iterator[LiveDaemon]:
    """A daemon between the three; it keeps a diary of what the server acknowledged.

    Not a forked one: the SDK starts threads as it is imported, which a fork is without.
    """
    with qdrant_server() as qdrant:
        daemon = LiveDaemon(
            tmp_path,
            program=[counting_daemon.__file__],
            SOURCE="supervisely",
            SERVER_ADDRESS=emulator.address,
            API_TOKEN=emulator.world.admin_token,
            IMGPROXY_ADDRESS=f"{emulator.address}/imgproxy",
            IMGPROXY_CONCURRENCY="16",
            ENCODER="clip",
            CLIP_HOST=clip.url,
            QDRANT_HOST=qdrant,
            NEWS_SECONDS="0.2",
            UPDATE_INTERVAL="0.01",
            SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK="1",
            DIARY=str(diary),
        )
        yield daemon
        daemon.close()


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.nightly)])
async def test_a_signal_while_clip_is_slow_ends_a_full_sync_in_time_and_nothing_is_lost(
    following: LiveDaemon, emulator: Emulator, clip: WatchedClip, diary: Path, seconds: int
) -> None:
    world = emulator.world
    await started(following)
    canaries = set(clip.seen)
    project_id = world.project("large", images=IMAGES)
    await until(lambda: len(acknowledged(diary)) >= ENOUGH)
    clip.seconds = seconds
    await until(lambda: world.projects[project_id].embeddings_in_progress)
    await until(lambda: clip.at_work)

    asked = time.monotonic()
    assert await asyncio.to_thread(following.terminate) == 0
    assert time.monotonic() - asked < END_SECONDS
    assert '"daemon.stopped"' in following.life
    safe = acknowledged(diary)
    assert ENOUGH <= len(safe) < IMAGES

    await asyncio.sleep(seconds)  # until CLIP has done what nobody waits for any more
    clip.seconds = 0.0
    before = set(clip.seen) - canaries
    clip.seen.clear()
    await started(following)
    images = [world.images[one] for one in world.image_ids(project_id)]
    await until(lambda: all(one.embeddings_updated_at for one in images))
    await until(lambda: not world.projects[project_id].embeddings_in_progress)
    encoded = {picture: times for picture, times in clip.seen.items() if picture not in canaries}
    assert set(encoded.values()) == {1}
    assert len(encoded) == IMAGES - len(safe)
    assert len(before | set(encoded)) == IMAGES
    assert len(acknowledged(diary)) == IMAGES
    assert await asyncio.to_thread(following.terminate) == 0


async def started(daemon: LiveDaemon) -> None:
    await asyncio.to_thread(daemon.launch)
    await asyncio.to_thread(daemon.wait_until, lambda: '"daemon.ready"' in daemon.life, PATIENCE)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)


def acknowledged(diary: Path) -> set[str]:
    """Return the identities of the pictures whose vectors the store has."""
    return {word[1:] for word in diary.read_text().split() if word.startswith("+")}
