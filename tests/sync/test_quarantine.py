from __future__ import annotations

import asyncio
from dataclasses import replace
from math import log2

import numpy as np
import pytest
from sync_pictures import DISTORTIONS, Distortion, broken, content_of, picture, poison, too_short
from sync_world import World

from state.model import ImageRef, Picture
from state.ports import Reserve

DAY = 24 * 3600.0
WITHOUT_A_HASH = pytest.mark.parametrize("source", ["platform"], indirect=True)


@pytest.mark.parametrize(
    "bad", [broken(1), poison(1), b"", b"<html>"], ids=["torn", "poison", "empty", "html"]
)
async def test_a_picture_that_cannot_be_encoded_is_set_aside_with_a_reason(world: World, bad: bytes) -> None:
    world.source.add_many([picture(1), bad, picture(2)])
    await world.sweep()
    (aside,) = await world.daemon.controller.quarantined(1, 10)
    assert (aside.content, aside.name) == (content_of(bad), world.source.files[aside.image_id].name)
    assert aside.reason
    assert world.stored() == world.wanted()
    assert await world.daemon.controller.up_to_date(1)


@pytest.mark.parametrize("bad", [broken(1), poison(1)], ids=["torn", "poison"])
async def test_it_is_left_alone_for_a_day_and_tried_again_then(world: World, bad: bytes) -> None:
    world.source.add(bad)
    await world.sweep()
    for _ in range(5):
        await world.sweep(DAY / 6)
    assert world.source.calls["fetch"] == 1
    await asyncio.sleep(DAY / 6)
    await world.sweep()
    assert world.source.calls["fetch"] == 2
    await world.sweep(DAY / 2)
    await world.sweep()
    assert world.source.calls["fetch"] == 2, "the second trial begins another day"


@WITHOUT_A_HASH
@pytest.mark.parametrize("bad", [broken(1), poison(1)], ids=["torn", "poison"])
async def test_one_without_a_hash_is_left_alone_for_a_day_too(world: World, bad: bytes) -> None:
    world.source.add(bad, link=True)
    await world.sweep()
    (aside,) = await world.daemon.controller.quarantined(1, 10)
    for _ in range(5):
        await world.sweep(DAY / 6)
    assert world.source.calls["fetch"] == 1
    assert await world.daemon.controller.quarantined(1, 10) == [aside]
    await asyncio.sleep(DAY / 6)
    await world.sweep()
    assert world.source.calls["fetch"] == 2


@WITHOUT_A_HASH
async def test_one_without_a_hash_is_tried_again_when_its_time_moves(world: World) -> None:
    image = world.source.add(broken(1), link=True)
    await world.sweep()
    world.source.label(image)
    await world.sweep()
    assert world.source.calls["fetch"] == 2
    await world.sweep()
    assert world.source.calls["fetch"] == 2
    world.source.replace(image, picture(1))
    await world.sweep()
    assert world.stored().keys() == {image}
    assert await world.quarantined() == {}


@WITHOUT_A_HASH
async def test_a_person_may_have_one_without_a_hash_tried_again(world: World) -> None:
    world.source.add(broken(1), link=True)
    await world.sweep()
    assert await world.daemon.controller.retry(1, None) == 1
    await asyncio.sleep(0.5)
    assert world.source.calls["fetch"] == 2


async def test_it_is_left_alone_after_a_restart(world: World) -> None:
    world.source.add(broken(1))
    await world.sweep()
    await world.restart()
    await asyncio.sleep(1)
    assert world.source.calls["fetch"] == 1


async def test_it_is_released_when_its_bytes_change(world: World) -> None:
    image = world.source.add(broken(1))
    await world.sweep()
    world.source.replace(image, picture(1))
    await world.sweep()
    assert world.stored() == world.wanted()
    assert await world.quarantined() == {}


async def test_it_is_released_when_it_is_deleted(world: World) -> None:
    world.source.add(picture(1))
    image = world.source.add(broken(1))
    await world.sweep()
    world.source.delete(image)
    await world.sweep()
    assert await world.quarantined() == {}


async def test_it_is_released_when_its_project_is_forgotten(world: World) -> None:
    world.source.add(picture(1))
    world.source.add(broken(1), 2)
    await world.sweep()
    world.source.hidden.add(2)
    await world.sweep(DAY)
    await world.sweep()
    assert await world.quarantined() == {}


async def test_a_person_may_have_it_tried_again(world: World) -> None:
    world.source.add(broken(1))
    await world.sweep()
    assert await world.daemon.controller.retry(1, None) == 1
    await asyncio.sleep(0.5)
    assert world.source.calls["fetch"] == 2


@pytest.mark.parametrize("bad", [broken(1), poison(1)], ids=["torn", "poison"])
async def test_what_was_made_of_its_former_bytes_is_gone(world: World, bad: bytes) -> None:
    image = world.source.add(picture(1))
    other = world.source.add(picture(2))
    await world.sweep()
    world.source.replace(image, bad)
    await world.sweep()
    assert world.stored().keys() == {other}


async def test_what_was_made_of_its_former_bytes_is_gone_when_it_is_known_to_be_bad(world: World) -> None:
    image = world.source.add(picture(1))
    world.source.add(broken(1))
    await world.sweep()
    world.source.replace(image, broken(1))
    await world.sweep()
    assert world.stored() == {}


async def test_the_same_bad_bytes_elsewhere_are_set_aside_without_a_trial(world: World) -> None:
    image = world.source.add(broken(1))
    await world.sweep()
    copy = world.source.copy(image, 2, "copy.png")
    await world.sweep()
    assert (await world.quarantined()).keys() == {image, copy}
    assert world.source.calls["fetch"] == 1


async def test_a_rejected_batch_is_halved_until_the_culprit_stands_alone(world: World) -> None:
    world.encoder.batch_size = 16
    await world.restart()
    world.source.add_many([*map(picture, range(11)), poison(1), *map(picture, range(11, 15))])
    await world.sweep()
    assert world.stored() == world.wanted()
    assert (await world.quarantined()).keys() == world.unreadable().keys()
    assert len(world.encoder.batches) - 1 <= 2 * log2(16)
    assert max(world.encoder.encoded.values()) == 1


@pytest.mark.parametrize("sickness", DISTORTIONS)
async def test_an_answer_that_is_no_vector_writes_nothing_and_condemns_no_picture(
    world: World, sickness: Distortion
) -> None:
    world.encoder.sickness = sickness
    world.source.add_many(map(picture, range(6)))
    await world.sweep(60)
    assert world.stored() == {}
    assert await world.quarantined() == {}
    assert not await world.daemon.controller.up_to_date(1)
    world.encoder.sickness = None
    await asyncio.sleep(600)
    assert world.stored() == world.wanted()


async def test_a_vector_is_not_lost_because_it_could_not_be_made_again(world: World) -> None:
    image = world.source.add(picture(1))
    await world.sweep()
    world.forced = True
    world.encoder.faults.append(too_short)
    await world.daemon.controller.start(1, None, force=True)
    await asyncio.sleep(0.5)
    assert world.stored().keys() == {image}
    await world.sweep()
    assert world.stored().keys() == {image}


@pytest.mark.parametrize("source", ["folder"], indirect=True)
async def test_a_clock_that_was_ahead_does_not_prolong_it(world: World) -> None:
    world.ahead += 1000 * DAY
    world.source.add(broken(1))
    await world.sweep()
    world.ahead -= 1000 * DAY
    await world.sweep()
    await asyncio.sleep(DAY)
    await world.sweep()
    assert world.source.calls["fetch"] == 2
    assert np.isclose((await world.daemon.controller.quarantined(1, 1))[0].since, world.now(), atol=60)


async def test_a_download_that_comes_damaged_is_condemned_only_after_three_tries_that_agree(
    world: World,
) -> None:
    world.source.delivers_whole = False
    world.source.add_many([broken(1), picture(1)])
    await world.sweep(300)
    assert await world.quarantined() == {}
    assert not await world.daemon.controller.up_to_date(1)
    await asyncio.sleep(600)
    assert len(await world.quarantined()) == 1
    assert 3 <= world.source.calls["fetch"] - 1 <= 6
    assert world.stored() == world.wanted()


async def test_a_download_that_comes_whole_the_next_time_is_embedded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.delivers_whole = False
    world.source.add(picture(1))
    fetch = world.source.fetch

    async def damaged(image: ImageRef, reserve: Reserve) -> Picture:
        monkeypatch.setattr(world.source, "fetch", fetch)
        return replace(await fetch(image, reserve), data=b"\xff\xd8\xff torn")

    monkeypatch.setattr(world.source, "fetch", damaged)
    await world.sweep(300)
    assert world.stored() == world.wanted()
    assert await world.quarantined() == {}
