"""One that hangs delays only itself; one that leaves is asked once more for what it made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from recognition_world import AWAY, Server, World, picture

from daemon.encoders import pool
from daemon.recognition import BUSY_CHECK_SECONDS, CHECK_SECONDS
from state.errors import Unavailable
from state.model import TextEmbeddings

pytestmark = pytest.mark.usefixtures("hasty")


async def hanging(world: World) -> None:
    """Have the second member hang when it is asked for its canaries."""
    world.servers[1].gate.clear()
    await world.round(after=CHECK_SECONDS)


async def end(world: World) -> None:
    world.servers[1].gate.set()
    await world.recognition.finish()


async def test_one_that_failed_is_let_in_again_while_another_hangs() -> None:
    world = World(Server(), Server())
    await world.round()
    await hanging(world)
    world.members[0].doubt(AWAY, texts=True)
    async with asyncio.timeout(1):
        await world.round()
    assert world.members[0] in world.pool.at_work()
    await end(world)


async def test_what_others_made_is_vouched_for_while_one_hangs() -> None:
    world = World(Server(), Server())
    await world.round()
    await hanging(world)
    world.members[1].under_way = 10  # so the first one gets the picture
    await world.write(1)
    made = world.epochs.current
    await world.round(after=BUSY_CHECK_SECONDS)
    assert await world.confirmed() >= made
    await end(world)


async def test_one_that_answers_late_vouches_for_what_it_made_before_it_was_asked() -> None:
    world = World(Server(), Server())
    await world.round()
    world.members[0].under_way = 10
    await world.write(1)
    before, made = await world.confirmed(), world.epochs.current
    await hanging(world)
    gate, world.servers[1].gate = world.servers[1].gate, world.servers[0].gate
    await world.write(2)
    await world.round(after=BUSY_CHECK_SECONDS)
    assert await world.confirmed() == before
    gate.set()
    await asyncio.sleep(0.1)
    await world.round()
    assert await world.confirmed() == made
    await world.round()
    assert await world.confirmed() > made


async def test_what_one_made_that_hangs_and_turns_out_to_be_another_is_withdrawn() -> None:
    world = World(Server(), Server())
    await world.round()
    world.members[0].under_way = 10
    world.servers[1].seed = 2
    await world.write(1)
    await hanging(world)
    assert await world.stored() == [1]
    world.servers[1].gate.set()
    await asyncio.sleep(0.1)
    await world.round()
    assert await world.stored() == []
    assert world.pool.at_work() == [world.members[0]]


async def test_texts_leave_one_that_hangs_for_another_and_the_next_do_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "TEXT_SECONDS", 0.1)
    world = World(Server(), Server())
    await world.round()
    world.servers[0].gate.clear()
    async with asyncio.timeout(1):
        await world.pool.encode_texts(["a dog"])
    assert world.pool.at_work() == [world.members[1]]


async def test_a_batch_is_not_tried_again_at_one_whose_canaries_were_not_had_meanwhile() -> None:
    world = World(Server(), Server())
    await world.round()
    server = world.servers[0]
    server.gate.clear()
    world.members[1].under_way = 1  # so the first one gets the picture
    before = server.batches
    batch = asyncio.create_task(world.pool.encode_images([picture(1)]))
    await asyncio.sleep(0)
    world.members[0].leave_out(AWAY)
    server.problem = AWAY
    server.gate.set()
    await batch
    assert server.batches == before + 1


async def test_another_takes_over_while_one_that_is_no_use_hangs() -> None:
    world = World(Server(), Server(3))
    await world.round()
    await hanging(world)
    world.servers[0].seed = 2
    await world.round(after=CHECK_SECONDS)
    assert world.pool.id == "clip-24-2"
    await end(world)


@pytest.mark.parametrize("seed", [1, 2])
async def test_one_that_leaves_vouches_once_more_for_what_it_made(seed: int) -> None:
    world = World(Server(), Server())
    await world.round()
    world.members[0].under_way = 10
    world.servers[1].seed = seed
    await world.write(1)
    world.found = world.members[:1]
    world.members[0].problem = "away"
    await world.round()
    assert world.pool.members == world.members[:1]
    assert world.servers[1].closed
    assert await world.stored() == ([1] if seed == 1 else [])
    world.members[0].under_way = 0
    made = world.epochs.current
    await world.write(2)
    await world.round(after=BUSY_CHECK_SECONDS)
    assert await world.confirmed() >= made


async def test_what_one_made_that_left_and_cannot_be_asked_is_made_again() -> None:
    world = World(Server(), Server())
    await world.round()
    world.members[0].under_way = 10
    await world.write(1)
    world.servers[1].problem = AWAY
    with pytest.raises(Unavailable):
        await world.members[1].encode_images([picture(1)])
    world.members[1].leave_out(AWAY)
    world.found = world.members[:1]
    await world.round()
    assert await world.stored() == []
    assert world.servers[1].closed


async def test_an_end_asks_for_what_was_made_last() -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    made = world.epochs.current
    await world.recognition.finish()
    assert await world.confirmed() >= made


async def test_an_end_does_not_wait_for_one_that_hangs() -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    made = world.epochs.current
    world.servers[0].gate.clear()
    async with asyncio.timeout(1):
        await world.recognition.finish()
    assert await world.confirmed() < made
    assert world.members[0].owes


async def test_an_end_does_not_wait_for_a_newcomer_that_hangs_once_it_is_to_take_over() -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    server = world.servers[0]
    server.seed = 2
    encode_texts = server.encode_texts

    async def for_the_last_time(texts: Sequence[str]) -> TextEmbeddings:
        vectors = await encode_texts(texts)
        server.gate.clear()
        return vectors

    server.encode_texts = for_the_last_time
    async with asyncio.timeout(4):
        await world.recognition.finish()
    assert not server.gate.is_set()


async def test_an_end_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    monkeypatch.setattr(world.store, "next_epoch", asyncio.Event().wait)
    async with asyncio.timeout(4):
        await world.recognition.finish()
    assert world.members[0].owes
