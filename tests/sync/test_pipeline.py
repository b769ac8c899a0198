from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from math import log2

import numpy as np
import pytest
from sync_pictures import DIMENSION, away, broken, content_of, picture, poison
from sync_world import World

from state.errors import Rejected
from state.model import EncoderRecord, ImageRef, Picture, TaskStatus
from state.ports import Reserve


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


async def test_an_encoder_that_works_on_several_batches_at_once_is_given_more_and_larger_ones(
    world: World,
) -> None:
    world.limits = replace(world.limits, batches=4, batch=16)
    await world.restart()
    world.encoder.seconds = 1.0
    world.source.page_size = 200
    world.source.add_many(map(picture, range(2_000)))
    await world.look_at_all_of(1, seconds=120)
    assert world.stored() == world.wanted()
    assert {4, 8, 16} <= {len(batch) for batch in world.encoder.batches}
    assert world.encoder.most_at_once == 4


async def test_the_pictures_being_fetched_are_bounded_by_their_volume(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, most, fetch = 0, 0, world.source.fetch

    async def slow(image: ImageRef, reserve: Reserve) -> Picture:
        nonlocal held, most
        await reserve(40)
        held += 40
        most = max(most, held)
        await asyncio.sleep(1)
        held -= 40
        return await fetch(image, reserve)

    world.limits = replace(world.limits, fetch_bytes=100)
    await world.restart()
    monkeypatch.setattr(world.source, "fetch", slow)
    world.source.add_many(map(picture, range(12)))
    await world.look_at_all_of(1, seconds=7)
    assert most == 80
    assert world.stored() == world.wanted()


async def test_room_is_given_back_whatever_becomes_of_the_picture(world: World) -> None:
    world.limits = replace(world.limits, fetch_bytes=100)
    await world.restart()
    images = world.source.add_many([*map(picture, range(8)), *map(broken, range(8))])
    world.source.unreachable.update(images[:4])
    await world.sweep(60)
    world.source.unreachable.clear()
    await world.sweep(600)
    assert world.stored() == world.wanted()
    assert await world.quarantined() == world.unreadable()


async def test_no_batch_starts_while_somebody_waits_for_a_search(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(40)))
    await world.look_at_all_of(1, seconds=1.2)
    begun = len(world.encoder.batches)
    with world.lane.urgent():
        await asyncio.sleep(1.8)
        assert len(world.encoder.batches) == begun
    await asyncio.sleep(0.1)
    assert len(world.encoder.batches) == begun + 2


async def test_searches_without_end_do_not_starve_a_sync(world: World) -> None:
    world.source.add_many(map(picture, range(40)))
    with world.lane.urgent():
        await world.sweep(60)
    assert world.stored() == world.wanted()


async def test_a_vector_belongs_to_the_epoch_in_which_its_answer_came(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(8)))
    await world.look_at_all_of(1)
    began = world.daemon.epochs.current
    world.daemon.epochs.current = began + 5
    await asyncio.sleep(1)
    assert {point.image.epoch for point in world.store.points(world.collection)} == {began + 5}


async def test_what_an_encoder_answered_that_is_another_meanwhile_is_not_written(world: World) -> None:
    world.encoder.seconds = 1.0
    world.source.add_many(map(picture, range(8)))
    await world.look_at_all_of(1)
    another = EncoderRecord("another-8", "fake", DIMENSION, np.eye(2, DIMENSION, dtype=np.float32))
    await world.store.add_encoder(another)
    known, world.encoder.id = world.encoder.id, another.id
    await asyncio.sleep(0.6)
    world.encoder.id = known
    assert world.stored() == {}
    await asyncio.sleep(60)
    assert world.stored() == world.wanted()


async def test_each_culprit_of_a_batch_is_found_and_the_others_are_encoded_once(world: World) -> None:
    world.encoder.batch_size = 64
    await world.restart()
    bad = {3: 1, 4: 2, 40: 3, 63: 4}
    world.source.add_many(poison(bad[one]) if one in bad else picture(one) for one in range(64))
    await world.sweep()
    assert world.stored() == world.wanted()
    assert await world.quarantined() == world.unreadable()
    assert len(world.encoder.batches) - 1 <= 2 * log2(64) * len(bad)
    assert set(world.encoder.encoded.values()) == {1}


async def test_nothing_is_condemned_when_the_canaries_fail_after_the_last_culprit(world: World) -> None:
    world.encoder.batch_size = 16
    await world.restart()
    world.source.add_many([*map(picture, range(10)), poison(1), *map(picture, range(10, 14)), poison(2)])
    encode = world.encoder.on_encode

    def sicken(contents: Collection[str]) -> None:
        encode(contents)
        if contents == [content_of(poison(2))]:
            world.encoder.on_encode = encode
            world.encoder.faults += [Rejected("sick"), Rejected("sick")]

    world.encoder.on_encode = sicken
    await world.sweep(0.4)
    assert world.encoder.on_encode is encode
    assert await world.quarantined() == {}
    await world.sweep(60)
    assert await world.quarantined() == world.unreadable()
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


async def test_health_says_why_nothing_is_written_until_something_is(world: World) -> None:
    world.source.add_many(map(picture, range(3)))
    world.store.faults += ["before"]
    world.daemon.surveys.want_sweep()
    await asyncio.sleep(0.5)
    assert (await world.daemon.controller.health())["qdrant"] == "unhealthy: qdrant: connection refused"
    await world.sweep()
    assert (await world.daemon.controller.health())["qdrant"] == "healthy"
