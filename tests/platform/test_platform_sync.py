"""The whole daemon against the platform, with the real SDK in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from platform_emulator import Emulator, Fault, World
from running import Running

from state.model import FULL

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


@pytest.fixture
async def running(emulator: Emulator, sly: Any, prompt: None, tmp_path: Path) -> AsyncIterator[Running]:
    emulator.world.project("first", images=20)
    daemon = Running(emulator, tmp_path)
    await daemon.start()
    yield daemon
    await daemon.stop()


@pytest.fixture
async def first(running: Running, world: World) -> int:
    """A project of twenty images that are embedded."""
    (project_id,) = world.projects
    await running.has(project_id, 20)
    return project_id


async def test_projects_with_ai_search_are_embedded_and_shown_so(
    running: Running, world: World, first: int
) -> None:
    project = world.projects[first]
    assert running.encoded == 20
    assert project.embeddings_in_progress is False
    assert project.embeddings_updated_at is not None
    assert all(world.images[one].embeddings_updated_at for one in world.image_ids(first))
    assert not project.custom_data


async def test_an_added_image_is_followed_by_the_news(running: Running, world: World, first: int) -> None:
    world.add(world.dataset_ids(first)[0], count=3)
    await running.has(first, 23)
    assert running.encoded == 23


async def test_labelling_costs_no_encoding_links_included(running: Running, world: World, first: int) -> None:
    links = world.add_links(world.dataset_ids(first)[0], count=5)
    await running.has(first, 25)
    before = running.encoded
    world.label([*world.image_ids(first)[:10], *links])
    await running.sweep()
    assert running.encoded == before
    assert world.projects[first].embeddings_in_progress is False


async def test_a_flag_that_was_cleared_is_set_again_and_costs_no_encoding(
    running: Running, world: World, first: int
) -> None:
    world.clear_embeddings_updated_at(world.image_ids(first)[:5])
    await running.sweep()
    assert all(world.images[one].embeddings_updated_at for one in world.image_ids(first))
    assert running.encoded == 20


async def test_other_keys_of_the_custom_data_survive(running: Running, world: World, first: int) -> None:
    world.set_custom_data(first, {"theirs": {"kept": True}})
    world.add(world.dataset_ids(first)[0], count=3)
    await running.has(first, 23)
    assert world.projects[first].custom_data == {"theirs": {"kept": True}}


async def test_a_cloned_project_costs_no_encoding(running: Running, world: World, first: int) -> None:
    clone = world.clone(first, "clone")
    running.parts.surveys.want()
    await running.has(clone, 20)
    assert running.encoded == 20


async def test_disabled_images_leave_and_restored_ones_come_back(
    running: Running, world: World, first: int
) -> None:
    some = world.image_ids(first)[:3]
    world.disable(some)
    await running.has(first, 17)
    world.restore(some)
    await running.has(first, 20)


async def test_an_image_that_moves_to_another_project_finds_its_vector(
    running: Running, world: World, first: int
) -> None:
    second = world.project("second", images=1)
    running.parts.surveys.want()
    await running.has(second, 1)
    before = running.encoded
    world.move(world.image_ids(first)[:4], world.dataset_ids(second)[0])
    await running.has(second, 5)
    await running.has(first, 16)
    assert running.encoded == before


async def test_a_listing_that_ends_early_removes_nothing(running: Running, world: World, first: int) -> None:
    running.emulator.faults.add(Fault("images.list", "early_end", times=2))
    listings = running.emulator.counters.calls["images.list"]
    running.parts.surveys.want_sweep()
    await running.until(lambda: running.emulator.counters.calls["images.list"] >= listings + 2)
    await running.parts.looks.idle()
    (status,) = await running.parts.controller.status(first)
    assert (await running.stored(first), running.removed, status.held_removals) == (20, 0, 0)


async def test_an_empty_listing_removes_nothing_and_has_all_of_it_held(
    running: Running, world: World, first: int
) -> None:
    running.emulator.faults.add(Fault("images.list", "empty", times=2))
    running.parts.surveys.want_sweep()

    async def held() -> bool:
        (status,) = await running.parts.controller.status(first)
        return status.held_removals == 20

    await running.until(held)
    assert (await running.stored(first), running.removed) == (20, 0)


async def test_a_listing_that_never_adds_up_is_told_in_the_status(
    running: Running, world: World, first: int
) -> None:
    running.emulator.faults.add(Fault("images.list", "early_end", times=None, keep=0.4))
    running.parts.surveys.want_sweep()

    async def told() -> bool:
        (status,) = await running.parts.controller.status(first)
        return "images are counted, and none is listed" in (status.waiting_for or "")

    await running.until(told)
    assert (await running.stored(first), running.removed) == (20, 0)


async def test_a_project_without_ai_search_is_left_alone(running: Running, world: World, first: int) -> None:
    quiet = world.project("quiet", images=5, enabled=False)
    await running.sweep()
    assert await running.stored(quiet) == 0


async def test_flags_left_by_a_process_that_died_are_put_right(
    running: Running, world: World, first: int
) -> None:
    await running.stop()
    world.projects[first].embeddings_in_progress = True
    world.clear_embeddings_updated_at(world.image_ids(first)[:5])
    await running.start()
    await running.sweep()
    assert world.projects[first].embeddings_in_progress is False
    assert all(world.images[one].embeddings_updated_at for one in world.image_ids(first))
    assert running.encoded == 0


async def test_one_label_in_a_large_project_costs_a_handful_of_calls(
    running: Running, world: World, first: int
) -> None:
    world.add(world.dataset_ids(first)[0], count=100)
    await running.has(first, 120)
    rows = running.emulator.counters.rows["images.list"]
    world.replace(world.image_ids(first)[7:8])
    await running.until(lambda: running.encoded == 121)
    assert running.emulator.counters.rows["images.list"] - rows <= 5


async def test_a_problem_that_has_passed_is_shown_no_more(running: Running, world: World, first: int) -> None:
    running.emulator.faults.add(Fault("images.list", "status", times=None, status=400))
    running.parts.surveys.want_sweep()
    await running.until(lambda: world.projects[first].error_message)
    running.emulator.faults.clear()
    running.parts.controller.mark(first, FULL)
    await running.until(lambda: world.projects[first].error_message is None)
