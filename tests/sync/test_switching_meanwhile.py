"""What else happens while one encoder takes over from another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest
from sync_pictures import DIMENSION, picture
from sync_world import World

from daemon.agreement import compare
from daemon.switch import LATE_SECONDS
from daemon.worklist import LONGEST_RETRY
from state.model import EncoderRecord, Matrix, Within

OLD = f"fake-{DIMENSION}"
NEW = f"fake-{DIMENSION}-2"


async def another_at_work(world: World) -> None:
    canaries = -np.eye(2, DIMENSION, dtype=np.float32)
    await world.store.add_encoder(EncoderRecord(NEW, "fake", DIMENSION, canaries))
    world.encoder.id = NEW


async def test_a_picture_that_is_late_delays_its_project_by_no_more_than_that(world: World) -> None:
    images = world.source.add_many(map(picture, range(12)))
    await world.sweep()
    await another_at_work(world)
    world.source.unreachable.add(images[3])
    await world.sweep(1)
    assert (await world.store.pointers())[1] == OLD
    world.source.unreachable.clear()
    await asyncio.sleep(60)
    assert (await world.store.pointers())[1] == NEW


async def test_a_picture_that_can_never_be_had_delays_its_project_by_an_hour_and_no_sweep(
    world: World,
) -> None:
    images = world.source.add_many(map(picture, range(12)))
    await world.sweep()
    await another_at_work(world)
    world.source.unreachable.add(images[3])
    await world.sweep(LATE_SECONDS - 60)
    assert (await world.store.pointers())[1] == OLD
    await asyncio.sleep(60 + 2 * LONGEST_RETRY)
    assert (await world.store.pointers())[1] == NEW


async def test_who_goes_back_while_a_project_is_about_to_move_has_the_last_word(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.add_many(map(picture, range(12)))
    await world.sweep()
    await another_at_work(world)
    count, go_on, asked = world.store.count, asyncio.Event(), asyncio.Event()

    async def slowly(collection: str, within: Within) -> int:
        asked.set()
        await go_on.wait()
        return await count(collection, within)

    monkeypatch.setattr(world.store, "count", slowly)
    world.daemon.surveys.want_sweep()
    await asked.wait()
    await world.daemon.switch.use(OLD)
    go_on.set()
    await asyncio.sleep(5)
    assert set((await world.store.pointers()).values()) == {OLD}


async def test_an_encoder_is_not_kept_longer_for_want_of_one_at_work(world: World) -> None:
    world.source.add_many(map(picture, range(12)))
    await world.sweep()
    await another_at_work(world)
    await world.sweep(60)
    await world.sweep(60)
    world.encoder.id = None
    await world.sweep(60)
    world.encoder.id = NEW
    world.ahead += 3700
    await world.sweep(60)
    assert {one.id for one in await world.store.encoders()} == {NEW}


def test_an_encoder_that_sees_too_few_of_the_images_does_not_take_over() -> None:
    vectors = np.eye(400, dtype=np.float32)
    ids = np.arange(400)
    old = Matrix(ids, ids, vectors)
    found: Mapping[int, str | None] = {
        kept: compare(old, Matrix(ids[:kept], ids[:kept], vectors[:kept]), np.random.default_rng(1)).problem
        for kept in (400, 330, 319, 0)
    }
    assert found[400] is None is found[330]
    assert found[319] == "of 400 images that have a vector now, 81 would have none"
    assert found[0]
