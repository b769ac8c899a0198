from __future__ import annotations

import asyncio

import pytest
from sync_pictures import away, picture
from sync_world import World

from state.model import TaskStatus


async def test_a_small_project_overtakes_a_large_one(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(80)), 1)
    world.source.add_many(map(picture, range(100, 104)), 2)
    await world.look_at_all_of(1, 2, seconds=3.5)
    assert world.stored(2) == world.wanted(2)
    assert 0 < len(world.stored(1)) < 80
    await asyncio.sleep(20)
    assert world.stored(1) == world.wanted(1)


async def test_the_encoder_is_kept_busy_by_two_batches_at_once(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(80)))
    await world.look_at_all_of(1, seconds=10.5)
    assert world.stored() == world.wanted()


async def test_a_picture_that_cannot_be_had_stops_no_other(world: World) -> None:
    images = world.source.add_many(map(picture, range(10)))
    world.source.unreachable.add(images[3])
    await world.sweep()
    assert world.stored().keys() == {*images} - {images[3]}
    assert await world.quarantined() == {}


async def test_a_picture_that_cannot_be_had_is_stale_and_had_later(world: World) -> None:
    images = world.source.add_many(map(picture, range(10)))
    world.source.unreachable.add(images[3])
    await world.sweep()
    assert not await world.daemon.controller.up_to_date(1)
    (status,) = await world.daemon.controller.status(1)
    assert (status.fresh, status.stale, status.waiting_for) == (9, 1, "source: time-out")
    full = world.source.calls["full"]
    world.source.unreachable.clear()
    await asyncio.sleep(600)
    assert world.stored() == world.wanted()
    assert world.source.calls["full"] == full
    assert await world.daemon.controller.up_to_date(1)


async def test_a_broken_project_delays_no_other(world: World) -> None:
    world.source.unreachable.update(world.source.add_many(map(picture, range(10)), 1))
    world.source.add_many(map(picture, range(20, 30)), 2)
    await world.sweep()
    assert world.stored(2) == world.wanted(2)


@pytest.mark.parametrize("part", ["source", "store", "encoder"])
async def test_whatever_was_away_is_made_good_when_it_is_back(world: World, part: str) -> None:
    world.source.add_many(map(picture, range(10)))
    if part == "encoder":
        world.encoder.sickness = away()
    else:
        getattr(world, part).down = True
    await world.sweep(300)
    assert world.stored() == {}
    world.heal()
    await world.sweep(600)
    assert world.stored() == world.wanted()
    assert await world.quarantined() == {}


async def test_an_encoder_that_is_away_is_asked_less_and_less_often(world: World) -> None:
    world.encoder.sickness = away()
    world.source.add(picture(1))
    await world.sweep(3600)
    hour = len(world.encoder.batches)
    assert 6 <= hour <= 60
    await asyncio.sleep(24 * 3600)
    assert len(world.encoder.batches) - hour < 24 * hour


@pytest.mark.parametrize(("fault", "encoded"), [("before", 8), ("after", 4)])
async def test_a_write_that_fails_is_done_again_and_one_whose_answer_was_lost_is_not(
    world: World, fault: str, encoded: int
) -> None:
    world.source.add_many(map(picture, range(4)))
    world.store.faults.append(fault)
    await world.sweep(600)
    assert world.stored() == world.wanted()
    assert world.encoded == encoded


@pytest.mark.parametrize("steps", range(0, 120, 10))
async def test_a_death_at_any_step_costs_at_most_the_batches_in_flight(world: World, steps: int) -> None:
    world.source.add_many(map(picture, range(20)))
    world.daemon.surveys.want_sweep()
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.restart()
    await asyncio.sleep(1)
    assert world.stored() == world.wanted()
    assert world.encoded <= 20 + 2 * world.encoder.batch_size
    assert max(world.encoder.encoded.values()) <= 2


async def test_a_cancelled_sync_stops_between_batches_and_keeps_what_was_written(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(40)))
    await world.look_at_all_of(1, seconds=2.5)
    assert await world.daemon.controller.cancel(1)
    written = world.stored()
    assert len(written) == 16
    await asyncio.sleep(60)
    assert world.stored() == written
    assert world.daemon.controller.progress()[1].status is TaskStatus.CANCELLED


async def test_what_a_cancelled_sync_left_is_done_at_the_next_sweep(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(40)))
    await world.look_at_all_of(1, seconds=2.5)
    await world.daemon.controller.cancel(1)
    await world.sweep(60)
    assert world.stored() == world.wanted()
    assert world.encoded == 40 - 8 + 8


async def test_without_a_sync_there_is_nothing_to_cancel(world: World) -> None:
    assert not await world.daemon.controller.cancel(1)


async def test_a_picture_that_changes_while_it_is_embedded_ends_with_its_last_bytes(world: World) -> None:
    world.encoder.seconds = 1.0
    image = world.source.add(picture(1))
    await world.look_at_all_of(1)
    world.source.replace(image, picture(2))
    world.source.announce(image)
    await asyncio.sleep(5)
    assert world.stored() == world.wanted()


async def test_a_project_that_is_marked_again_at_any_moment_is_looked_at_again(world: World) -> None:
    for number in range(60):
        image = world.source.add(picture(number))
        world.source.announce(image)
        for _ in range(number):
            await asyncio.sleep(0)
    await asyncio.sleep(5)
    assert world.stored() == world.wanted()
