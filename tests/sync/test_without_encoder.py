"""While the encoder is away, and while another one takes over, what answers searches stays true."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from sync_pictures import DIMENSION, away, broken, picture, poison
from sync_world import World

from state.model import EncoderRecord, Within

OLD = f"fake-{DIMENSION}"
NEW = f"fake-{DIMENSION}-2"


@pytest.fixture
async def images(world: World) -> list[int]:
    """Twelve pictures that are embedded."""
    images = world.source.add_many(map(picture, range(12)))
    await world.sweep()
    return images


async def another_at_work(world: World) -> None:
    """Have another model at work, and everything compared with what it made: nothing."""
    canaries = -np.eye(2, DIMENSION, dtype=np.float32)
    await world.store.add_encoder(EncoderRecord(NEW, "fake", DIMENSION, canaries))
    world.encoder.id = NEW


async def test_images_that_go_or_are_renamed_while_the_encoder_is_away_do_so_in_the_store_too(
    world: World, images: list[int]
) -> None:
    world.encoder.sickness, world.reachable = away(), False
    world.source.add_many(map(picture, range(100, 104)))
    world.source.delete(images[0])
    renamed = world.source.rename(images[1], "renamed.png")
    await world.sweep(120)
    assert set(world.stored()) == {renamed, *images[2:]}
    assert world.stored()[renamed][1] == "renamed.png"


async def test_nothing_is_fetched_for_an_encoder_that_cannot_be_asked(
    world: World, images: list[int]
) -> None:
    world.reachable = False
    world.source.add_many(map(picture, range(100, 104)))
    fetched = world.source.calls["fetch"]
    await world.sweep(120)
    assert world.source.calls["fetch"] == fetched
    assert world.daemon.worklist.waiting(1).why == "clip: 4 images wait for the encoder"
    world.reachable = True
    world.daemon.worklist.wake("clip")
    await asyncio.sleep(60)
    assert world.stored() == world.wanted()


async def test_before_any_encoder_is_recognised_too(world: World, images: list[int]) -> None:
    world.encoder.id = None
    world.source.delete(images[0])
    await world.sweep(120)
    world.encoder.id = OLD
    assert set(world.stored()) == set(images[1:])


async def test_a_project_moves_when_all_of_it_is_made_and_not_before(world: World, images: list[int]) -> None:
    await another_at_work(world)
    world.encoder.seconds = 1.0
    world.daemon.surveys.want_sweep()
    await asyncio.sleep(1.6)
    assert 0 < await world.store.count(NEW, Within(1)) < 12
    assert (await world.store.pointers())[1] == OLD
    await asyncio.sleep(10)
    assert (await world.store.pointers())[1] == NEW
    assert await world.store.count(OLD, Within(1)) == 12


async def test_a_picture_that_cannot_be_had_keeps_the_old_vectors_answering_for_an_hour_and_not_for_ever(
    world: World, images: list[int]
) -> None:
    await another_at_work(world)
    world.source.unreachable.add(images[3])
    await world.sweep(120)
    assert (await world.store.pointers())[1] == OLD
    await world.sweep(3300)
    assert (await world.store.pointers())[1] == OLD
    await world.sweep(1300)
    assert (await world.store.pointers())[1] == NEW
    world.source.unreachable.clear()
    await world.sweep(1300)
    assert await world.store.count(NEW, Within(1)) == 12


async def test_many_pictures_that_cannot_be_had_keep_the_old_vectors_answering(world: World) -> None:
    images = world.source.add_many(map(picture, range(30)))
    await world.sweep()
    await another_at_work(world)
    world.source.unreachable.update(images[:15])
    await world.sweep(4000)
    await world.sweep(4000)
    assert (await world.store.pointers())[1] == OLD
    world.source.unreachable.clear()
    await world.sweep(1300)
    assert (await world.store.pointers())[1] == NEW


async def test_unreadable_pictures_do_not_keep_a_project_from_moving(world: World, images: list[int]) -> None:
    world.source.add(poison(1))
    world.source.add(broken(2))
    await world.sweep(60)
    await another_at_work(world)
    await world.sweep(120)
    assert (await world.store.pointers())[1] == NEW
    assert await world.store.count(NEW, Within(1)) == 12


async def test_a_project_of_unreadable_pictures_alone_moves_too(world: World) -> None:
    world.source.add(poison(1))
    await world.sweep(60)
    await another_at_work(world)
    await world.sweep(120)
    assert (await world.store.pointers())[1] == NEW


async def test_while_another_takes_over_changes_reach_the_vectors_that_answer(
    world: World, images: list[int]
) -> None:
    await another_at_work(world)
    world.encoder.sickness, world.reachable = away(), False
    world.source.delete(images[0])
    renamed = world.source.rename(images[1], "renamed.png")
    world.source.replace(images[2], picture(200))
    await world.sweep(120)
    assert (await world.store.pointers())[1] == OLD
    kept = {one.image.id: one.image.name for one in world.store.points(OLD)}
    assert set(kept) == {renamed, *images[3:]}
    assert kept[renamed] == "renamed.png"


async def test_what_goes_while_another_takes_over_is_gone_from_both(world: World, images: list[int]) -> None:
    await another_at_work(world)
    world.source.delete(images[0])
    await world.sweep(120)
    assert images[0] not in {one.image.id for one in world.store.points(OLD)}
    assert images[0] not in {one.image.id for one in world.store.points(NEW)}


async def test_a_project_that_is_gone_leaves_every_collection(world: World, images: list[int]) -> None:
    await another_at_work(world)
    await world.store.pin(OLD)
    world.source.add_many(map(picture, range(300, 304)), 2)
    await world.sweep(60)
    assert {one.image.project_id for one in world.store.points(NEW)} == {1, 2}
    world.source.hidden.add(1)
    for _ in range(3):
        await world.sweep(13 * 3600)
    assert {one.image.project_id for one in world.store.points(OLD)} == set()
    assert {one.image.project_id for one in world.store.points(NEW)} == {2}


async def test_an_encoder_nobody_uses_is_kept_for_its_time_and_then_forgotten(
    world: World, images: list[int]
) -> None:
    await another_at_work(world)
    await world.sweep(60)
    await world.sweep(60)
    assert {one.id for one in await world.store.encoders()} == {OLD, NEW}
    world.ahead += 3700
    await world.sweep(60)
    assert {one.id for one in await world.store.encoders()} == {NEW}
