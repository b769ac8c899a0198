from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sync_pictures import picture
from sync_world import World

from state.model import StoredImage


async def test_every_picture_is_encoded_once(world: World) -> None:
    world.source.add_many(map(picture, range(10)))
    await world.sweep()
    assert world.stored() == world.wanted()
    assert sorted(world.encoder.encoded.values()) == [1] * 10


async def test_a_sweep_without_changes_asks_for_no_picture(world: World) -> None:
    world.source.add_many(map(picture, range(10)))
    await world.sweep()
    fetched = world.source.calls["fetch"]
    await world.sweep()
    assert (world.encoded, world.source.calls["fetch"]) == (10, fetched)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["from first", "to first"])
async def test_a_move_between_projects_costs_no_encoding(world: World, order: tuple[int, int]) -> None:
    image = world.source.add(picture(1))
    world.source.add(picture(2))
    await world.sweep()
    world.source.move(image, project_id=2)
    await world.look_at_all_of(*order, seconds=10)
    assert (world.stored(1), world.stored(2)) == (world.wanted(1), world.wanted(2))
    assert world.encoded == 2


async def test_a_move_between_datasets_costs_no_encoding(world: World) -> None:
    image = world.source.add(picture(1))
    await world.sweep()
    world.source.move(image, project_id=1, dataset=1)
    await world.sweep(70)
    assert world.stored() == world.wanted()
    assert world.encoded == 1


async def test_a_rename_costs_no_encoding(world: World) -> None:
    image = world.source.add(picture(1))
    await world.sweep()
    world.source.rename(image, "better.png")
    await world.sweep(70)
    assert world.stored() == world.wanted()
    assert world.encoded == 1


async def test_labelling_an_image_costs_no_encoding(world: World) -> None:
    image = world.source.add(picture(1))
    await world.sweep()
    world.source.label(image)
    await world.sweep()
    assert (world.encoded, world.source.calls["fetch"]) == (1, 1)


@pytest.mark.parametrize("source", ["platform"], indirect=True)
async def test_labelling_a_link_costs_one_fetch_and_no_encoding(world: World) -> None:
    image = world.source.add(picture(1), link=True)
    await world.sweep()
    world.source.label(image)
    await world.sweep()
    assert (world.encoded, world.source.calls["fetch"]) == (1, 2)
    await world.sweep()
    assert world.source.calls["fetch"] == 2


@pytest.mark.parametrize("source", ["platform"], indirect=True)
async def test_a_link_that_leads_to_another_picture_is_encoded_anew(world: World) -> None:
    image = world.source.add(picture(1), link=True)
    await world.sweep()
    world.source.replace(image, picture(2))
    await world.sweep()
    assert world.stored() == world.wanted()


async def test_the_same_bytes_many_times_in_a_project_are_encoded_once(world: World) -> None:
    world.source.add_many([picture(number % 3) for number in range(30)])
    await world.sweep()
    assert world.stored() == world.wanted()
    assert world.encoded == 3


async def test_the_same_bytes_in_two_projects_at_once_are_encoded_once(world: World) -> None:
    world.encoder.seconds = 1.0
    for project_id in (1, 2):
        world.source.add_many(map(picture, range(8)), project_id)
    await world.look_at_all_of(1, 2)
    running = {
        one.project_id for one in world.daemon.controller.progress().values() if one.status == "running"
    }
    assert running == {1, 2}
    await asyncio.sleep(10)
    assert (world.stored(1), world.stored(2)) == (world.wanted(1), world.wanted(2))
    assert world.encoded == 8


async def test_a_copied_project_costs_no_encoding(world: World) -> None:
    images = world.source.add_many(map(picture, range(20)))
    await world.sweep()
    for image in images:
        world.source.copy(image, 2, f"copy of {image}.png")
    await world.sweep()
    assert world.stored(2) == world.wanted(2)
    assert world.encoded == 20


async def test_replaced_bytes_are_encoded_and_nothing_else(world: World) -> None:
    images = world.source.add_many(map(picture, range(10)))
    await world.sweep()
    world.source.replace(images[4], picture(99))
    await world.sweep()
    assert world.stored() == world.wanted()
    assert world.encoded == 11


@pytest.mark.parametrize("source", ["platform"], indirect=True)
async def test_a_late_rename_puts_no_vector_under_bytes_it_was_not_made_from(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = world.source.add(picture(1))
    await world.sweep()
    world.source.rename(image, "new.png")
    retag = world.store.retag

    async def late(collection: str, images: Sequence[StoredImage]) -> None:
        monkeypatch.setattr(world.store, "retag", retag)
        world.source.move(image, project_id=2)
        world.source.replace(image, picture(3))
        await world.look_at_all_of(2, seconds=5)
        await retag(collection, images)

    monkeypatch.setattr(world.store, "retag", late)
    await world.look_at_all_of(1, seconds=20)
    assert world.stored(2) == world.wanted(2)
