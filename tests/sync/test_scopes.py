from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from sync_pictures import picture
from sync_world import World


@pytest.fixture
async def images(world: World) -> list[int]:
    """Forty pictures that are embedded; what the daemon asks of the source is counted from here on."""
    images = world.source.add_many(map(picture, range(40)))
    await world.sweep()
    world.source.calls.clear()
    return images


async def test_a_look_at_some_images_costs_no_listing(world: World, images: list[int]) -> None:
    world.source.replace(images[5], picture(99))
    await world.look(images[5], images[6])
    assert world.stored() == world.wanted()
    assert world.source.calls == Counter(project=1, ids=1, page=1, fetch=1)


async def test_one_label_in_a_large_project_costs_one_small_question(world: World, images: list[int]) -> None:
    world.source.label(images[5])
    world.source.announce(images[5])
    await asyncio.sleep(1)
    assert world.source.calls == Counter(project=1, ids=1, page=1)


async def test_a_look_at_what_is_new_costs_no_listing(world: World, images: list[int]) -> None:
    watermark = world.source.files[images[-1]].updated_at
    world.source.add(picture(99))
    await world.look(since=watermark)
    assert world.stored() == world.wanted()
    assert world.source.calls == Counter(project=1, since=1, page=1, fetch=1)


async def test_a_look_at_what_is_new_removes_nothing(world: World, images: list[int]) -> None:
    world.source.delete(images[5])
    await world.look(since="")
    await asyncio.sleep(60)
    assert len(world.stored()) == 40


@pytest.mark.parametrize("source", ["platform"], indirect=True)
async def test_a_routine_survey_looks_at_what_is_new_alone(world: World, images: list[int]) -> None:
    world.daemon.surveys.want()
    await asyncio.sleep(1)
    world.source.calls.clear()
    world.source.add(picture(99))
    world.daemon.surveys.want()
    await asyncio.sleep(1)
    assert world.stored() == world.wanted()
    assert world.source.calls["full"] == world.source.calls["ids"] == 0


async def test_ten_news_of_a_waiting_project_are_one_look(world: World, images: list[int]) -> None:
    for image in images[:10]:
        world.source.announce(image)
    await asyncio.sleep(1)
    assert world.source.calls["ids"] <= 2


async def test_doubled_late_and_foreign_news_do_no_harm(world: World, images: list[int]) -> None:
    world.source.announce(images[0], images[0], 12_345)
    world.source.announce(images[0], project_ids=[2, 77])
    await asyncio.sleep(60)
    assert world.stored() == world.wanted()
    assert world.encoded == 40
