from __future__ import annotations

import asyncio

import pytest
from sync_pictures import picture
from sync_world import World

from state.model import Start


@pytest.fixture
async def images(world: World) -> list[int]:
    """Twelve pictures that are embedded, and an encoder that takes a second a batch."""
    images = world.source.add_many(map(picture, range(12)))
    await world.sweep()
    world.encoder.seconds = 1.0
    world.forced = True
    return images


async def test_force_encodes_every_picture_once_more(world: World, images: list[int]) -> None:
    assert await world.daemon.controller.start(1, None, force=True) is Start.STARTED
    await asyncio.sleep(10)
    assert [*world.encoder.encoded.values()] == [2] * 12
    await world.sweep(10)
    assert world.encoded == 24


async def test_force_of_some_images_encodes_them_alone(world: World, images: list[int]) -> None:
    await world.daemon.controller.start(1, images[:2], force=True)
    await asyncio.sleep(10)
    assert world.encoded == 14
    await world.sweep(10)
    assert world.encoded == 14


async def test_while_forced_every_old_vector_stays_until_it_is_replaced(
    world: World, images: list[int]
) -> None:
    await world.daemon.controller.start(1, None, force=True)
    for _ in range(50):
        await asyncio.sleep(0.1)
        assert world.stored() == world.wanted()


async def test_force_survives_a_restart_and_repeats_only_the_batches_in_flight(
    world: World, images: list[int]
) -> None:
    await world.daemon.controller.start(1, None, force=True)
    await asyncio.sleep(1.5)
    await world.restart()
    await asyncio.sleep(10)
    epochs = {point.image.epoch for point in world.store.points(world.collection)}
    assert min(epochs) > 1
    assert min(world.encoder.encoded.values()) == 2
    assert world.encoded <= 24 + 8


async def test_force_survives_an_encoder_that_is_away(world: World, images: list[int]) -> None:
    world.store.faults += ["before"] * 3
    await world.daemon.controller.start(1, None, force=True)
    await asyncio.sleep(600)
    assert min(point.image.epoch for point in world.store.points(world.collection)) > 1


async def test_a_force_that_comes_while_a_forced_sync_runs_is_not_lost(
    world: World, images: list[int]
) -> None:
    await world.daemon.controller.start(1, None, force=True)
    await asyncio.sleep(1.5)
    await world.daemon.controller.start(1, None, force=True)
    await asyncio.sleep(20)
    in_flight = 4  # their answer comes after the second wish, and fulfils it
    assert sorted(world.encoder.encoded.values()) == [2] * in_flight + [3] * (12 - in_flight)


async def test_a_new_copy_of_a_forced_picture_is_made_again_too(world: World, images: list[int]) -> None:
    world.source.copy(images[0], 1, "copy.png")
    await world.daemon.controller.start(1, None, force=True)
    await world.sweep(20)
    assert min(point.image.epoch for point in world.store.points(world.collection)) > 1


async def test_without_force_a_fresh_project_needs_nothing(world: World, images: list[int]) -> None:
    assert await world.daemon.controller.start(1, None, force=False) is Start.NOTHING
