"""Whatever people do and whatever goes wrong: afterwards the store is what the platform has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import ImageFile
from platform_emulator import Emulator, World
from platform_emulator.model import Image
from platform_emulator.pictures import Content, Painted, resized
from platform_walk import Walk, storm
from running import Running

import daemon.looks
import daemon.removals
import daemon.sync
import daemon.worklist
from daemon.pictures import content_hash, decode
from daemon.platform.flags import STARTED_KEY
from daemon.platform.pictures import LINK, RESIZED
from state.errors import Rejected
from state.model import Embedding, StoredImage

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

SAMPLE = 60

SAME = 0.9995
"""The least cosine between two vectors of one picture; the store keeps them less precisely."""


@pytest.fixture
def hasty(prompt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the daemon wait for moments where it would wait for minutes."""
    for module, name, seconds in (
        (daemon.sync, "HOLD_SECONDS", 1.0),
        (daemon.removals, "PATIENCE", 5.0),
        (daemon.removals, "RETRY", 0.2),
        (daemon.looks, "MOVED_RETRY", 0.1),
        (daemon.looks, "DOUBT_RETRY", 0.2),
        (daemon.worklist, "SHORTEST_RETRY", 0.1),
        (daemon.worklist, "LONGEST_RETRY", 0.5),
    ):
        monkeypatch.setattr(module, name, seconds)


class Ledger:
    """Knows what the store holds by its writes, and so which encodings were needed.

    :ivar needed: encodings of contents that the store did not have when they were written
    :ivar again: encodings of contents whose vector came by a fallback route
    """

    def __init__(self, running: Running) -> None:
        self.needed = self.again = 0
        self._proofs: dict[int, StoredImage] = {}
        self._fallbacks = running.parts.source.fallback_routes
        self._store: Any = running.parts.store
        self._upsert, self._remove = self._store.upsert, self._store.remove
        self._store.upsert, self._store.remove = self.upsert, self.remove

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        await self._upsert(collection, points)
        held = {proof.content for proof in self._proofs.values()}
        written = {point.image.content for point in points}
        mended = {
            point.image.content
            for point in points
            if (before := self._proofs.get(point.image.id))
            and before.content == point.image.content
            and before.route in self._fallbacks
        }
        self.needed += len(written - held)
        self.again += len(mended & held)
        self._proofs.update((point.image.id, point.image) for point in points)

    async def remove(self, collection: str, project_id: int, ids: Sequence[int]) -> int:
        removed: int = await self._remove(collection, project_id, ids)
        for image_id in ids:
            proof = self._proofs.get(image_id)
            if proof and proof.project_id == project_id:
                del self._proofs[image_id]
        return removed


@asynccontextmanager
async def following(emulator: Emulator, directory: Path, **more: Any) -> AsyncIterator[Running]:
    running = Running(emulator, directory, **more)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def wanted(world: World, project_id: int) -> dict[int, tuple[str, int, str]]:
    with world.lock:
        return {image.id: (_hash(image), image.dataset_id, image.name) for image in world.by_id(project_id)}


def _hash(image: Image) -> str:
    return content_hash(image.content.data) if image.link else image.content.hash


async def stored(running: Running, project_id: int) -> dict[int, StoredImage]:
    encoder_id = running.parts.encoder.id
    assert encoder_id
    return {
        proof.id: proof async for page in running.parts.store.scroll(encoder_id, project_id) for proof in page
    }


async def differences(running: Running, world: World, project_ids: Sequence[int]) -> list[str]:
    """Say what the store has otherwise than the platform, and what is shown that is not so."""
    found = []
    for project_id in project_ids:
        there, proofs = wanted(world, project_id), await stored(running, project_id)
        here = {one.id: (one.content, one.dataset_id, one.name) for one in proofs.values()}
        found += [
            f"image {one} of {project_id}: {there.get(one)} is {here.get(one)} here"
            for one in there.keys() | here.keys()
            if there.get(one) != here.get(one)
        ]
        found += [
            f"image {one} by {proof.route}"
            for one, proof in proofs.items()
            if proof.route in running.parts.source.fallback_routes and one in there
        ]
        found += [
            f"image {one} is not shown" for one in there if world.images[one].embeddings_updated_at is None
        ]
    for project in world.projects.values():
        if not project.archived and (project.embeddings_in_progress or STARTED_KEY in project.custom_data):
            found.append(f"project {project.id} is shown in progress")
        if project.id in project_ids and project.error_message:
            found.append(f"project {project.id} is shown with {project.error_message}")
    return found


async def converge(running: Running, walk: Walk, seconds: float) -> None:
    """Sweep once, and wait until the store is what the platform has."""
    running.parts.surveys.want_sweep()
    left = ["never compared"]
    try:
        async with asyncio.timeout(seconds):
            while left:
                await asyncio.sleep(0.3)
                await running.parts.controller.idle()
                await running.parts.settled()
                left = await differences(running, walk.world, walk.followed)
    except TimeoutError:
        pytest.fail(f"{len(left)} differences, such as {left[:5]}")


async def wrong_vectors(running: Running, walk: Walk, count: int) -> list[int]:
    """Make the vectors of a sample of images anew; return the images that have others."""
    ids = [one for project_id in walk.followed for one in walk.world.image_ids(project_id)]
    sample = Random(0).sample(ids, min(count, len(ids)))
    encoder = running.parts.encoder
    assert encoder.id
    points = await running.parts.store.embeddings(encoder.id, sample)
    assert len(points) == len(sample)
    pixels = [
        decode(_as_fetched(walk.world.images[one.image.id].content, one.image.route), encoder.picture_side)
        for one in points
    ]
    vectors = await encoder.encode_images(pixels)
    return [
        point.image.id for point, vector in zip(points, vectors, strict=True) if point.vector @ vector < SAME
    ]


def _as_fetched(content: Content, route: str) -> bytes:
    return content.data if route == LINK else resized(content.data, RESIZED.removesuffix("/plain"))[0]


async def walked(
    emulator: Emulator, directory: Path, seed: int, images: int, projects: int, steps: int, pace: float
) -> tuple[Ledger, Running]:
    """Walk while answers go wrong, then converge and look at everything."""
    walk = Walk(emulator, seed, images, projects)
    async with following(emulator, directory, update_interval=0.02) as running:
        ledger = Ledger(running)
        storm(emulator, methods=0.01, pictures=0.004)
        for _ in range(steps):
            walk.step()
            await asyncio.sleep(pace)
        emulator.faults.clear()
        await converge(running, walk, 20 + images / 50)
        assert await wrong_vectors(running, walk, SAMPLE) == []
        assert await running.parts.controller.quarantined(None, 10) == []
        assert running.encoded <= ledger.needed + ledger.again
        before = running.encoded
        await running.sweep()
        assert running.encoded == before
    return ledger, running


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.nightly)])
async def test_a_random_walk_with_faults_ends_with_the_store_equal_to_the_platform(
    emulator: Emulator, sly: Any, hasty: None, tmp_path: Path, seed: int
) -> None:
    await walked(emulator, tmp_path, seed, images=360, projects=6, steps=150, pace=0.03)


def test_half_a_picture_is_none_although_the_sdk_has_it_taken_for_one(sly: Any) -> None:
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # as the SDK says, for the whole process
    whole, _ = resized(Painted(1).data, RESIZED.removesuffix("/plain"))
    with pytest.raises(Rejected):
        decode(whole[: len(whole) // 2], side=64)


@pytest.mark.nightly
async def test_a_long_random_walk_over_many_images_does_too(
    emulator: Emulator, sly: Any, hasty: None, tmp_path: Path
) -> None:
    await walked(emulator, tmp_path, 3, images=5_000, projects=12, steps=1_500, pace=0.05)
