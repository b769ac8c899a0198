"""What following the platform costs, counted where the platform answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_emulator import Emulator, Fault, World
from running import Running

from daemon.pictures import content_hash
from daemon.platform.listing import PER_PAGE
from daemon.platform.pictures import IMGPROXY, LINK
from state.model import FULL, Embedding, ImageRef, StoredImage

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

NEWS = "teams.activity"
IN_PROGRESS = "projects.embeddings-in-progress.update"
LARGE = pytest.mark.parametrize("size", [PER_PAGE + 100, pytest.param(100_000, marks=pytest.mark.nightly)])


@pytest.fixture
async def running(emulator: Emulator, sly: Any, prompt: None, tmp_path: Path) -> AsyncIterator[Running]:
    emulator.world.project("small", images=3)
    daemon = Running(emulator, tmp_path)
    await daemon.start()
    await daemon.has(min(emulator.world.projects), 3)
    yield daemon
    await daemon.stop()


async def embedded(running: Running, images: int, links: int = 0) -> int:
    """Make a project, put vectors into the store as if they had been made, and have it followed."""
    world = running.emulator.world
    project_id = await asyncio.to_thread(world.project, "large", images=images, enabled=False)
    if links:
        world.add_links(world.dataset_ids(project_id)[0], count=links)
    store, encoder = running.parts.store, running.parts.encoder
    assert encoder.id
    vector = np.zeros(encoder.dimension, np.float32)
    vector[0] = 1.0
    async for page in running.parts.source.images(project_id, FULL):
        await store.upsert(encoder.id, [Embedding(_proof(world, image), vector) for image in page])
    for one in world.by_id(project_id):
        one.embeddings_updated_at = one.updated_at
    world.set_ai_search(project_id, True)
    await running.sweep()
    assert (running.encoded, await running.stored(project_id)) == (3, images + links)
    return project_id


def _proof(world: World, image: ImageRef) -> StoredImage:
    return StoredImage(
        image.id,
        image.project_id,
        image.dataset_id,
        image.name,
        image.content or content_hash(world.images[image.id].content.data),
        image.path,
        image.updated_at,
        IMGPROXY if image.content else LINK,
    )


def asked(running: Running) -> Counter[str]:
    """Return the calls since the counters were cleared, but for the news, which is always asked for."""
    calls = Counter(running.emulator.counters.calls)
    del calls[NEWS]
    return calls


async def at_rest(running: Running) -> None:
    """Wait until the news was asked for twice more, and all of it is dealt with."""
    news = running.emulator.counters.calls[NEWS]
    await running.until(lambda: running.emulator.counters.calls[NEWS] >= news + 2)
    await running.parts.controller.idle()
    await running.parts.settled()


@LARGE
async def test_a_sweep_with_nothing_to_do_costs_the_pages_of_one_listing(running: Running, size: int) -> None:
    await embedded(running, size)
    running.emulator.counters.clear()
    await running.sweep()
    pages = -(-size // PER_PAGE)
    one_each_for_the_count = 2
    assert asked(running) == {
        "projects.list.all": 1,
        "images.list": pages + 1 + one_each_for_the_count,
    }


async def surveyed(running: Running) -> None:
    running.parts.surveys.want()
    await asyncio.sleep(0.3)
    await at_rest(running)


@LARGE
async def test_a_survey_after_a_bulk_import_lists_none_of_it(running: Running, size: int) -> None:
    await embedded(running, size)
    running.emulator.counters.clear()
    await surveyed(running)
    assert asked(running) == {"projects.list.all": 1, "images.list": 1 + 2}
    assert running.emulator.counters.rows["images.list"] == 3, "those of the small project"


async def test_an_image_written_later_at_the_time_of_a_bulk_import_is_found(
    running: Running, world: World
) -> None:
    project_id = await embedded(running, PER_PAGE + 100)
    running.emulator.counters.clear()
    (late,) = world.add(world.dataset_ids(project_id)[0], logged=False)
    world.images[late].updated_at = world.images[world.image_ids(project_id)[0]].updated_at
    await surveyed(running)
    assert (running.encoded, await running.stored(project_id)) == (4, PER_PAGE + 101)
    assert running.emulator.counters.rows["images.list"] == 3 + 1


@LARGE
async def test_one_changed_image_costs_a_handful_of_calls_and_no_listing(
    running: Running, world: World, size: int
) -> None:
    project_id = await embedded(running, size)
    running.emulator.counters.clear()
    world.replace(world.image_ids(project_id)[size // 2 : size // 2 + 1])
    await running.until(lambda: running.encoded == 4)
    await at_rest(running)
    calls, rows = asked(running), running.emulator.counters.rows
    assert (calls["images.list"], rows["images.list"]) == (1, 1)
    assert calls.total() <= 10


@LARGE
async def test_one_labelled_image_costs_one_call(running: Running, world: World, size: int) -> None:
    project_id = await embedded(running, size)
    running.emulator.counters.clear()
    world.label(world.image_ids(project_id)[size // 2 : size // 2 + 1])
    await at_rest(running)
    await surveyed(running)
    assert asked(running).total() <= 5
    assert running.emulator.counters.rows["images.list"] <= 10
    assert running.encoded == 3


async def test_labelling_a_thousand_images_costs_no_encoding_and_the_flags_do_not_flap(
    running: Running, world: World
) -> None:
    project_id = await embedded(running, 800, links=200)
    shown: list[bool] = []
    project = world.projects[project_id]
    running.emulator.faults.add(
        Fault(IN_PROGRESS, "call", None, action=lambda: shown.append(project.embeddings_in_progress))
    )
    running.emulator.counters.clear()
    world.label(world.image_ids(project_id))
    await at_rest(running)
    await surveyed(running)
    await running.sweep()
    assert running.encoded == 3
    assert running.emulator.counters.calls["remote"] == 200
    assert True not in shown
    assert not project.embeddings_in_progress
