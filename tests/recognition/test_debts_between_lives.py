"""Whose debts nobody may forget: those of a life that died, of one that was let off, of a round cut short."""

from __future__ import annotations

import asyncio

import pytest
from recognition_world import AWAY, DIMENSION, Server, World

from daemon.encoders import canary
from daemon.encoders.member import Member
from daemon.recognition import BUSY_CHECK_SECONDS, GRACE_SECONDS
from daemon.vouching import ABSENT_SECONDS
from state.errors import Unavailable
from state.model import EncoderRecord
from state.stores.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("hasty")


async def write_by(world: World, writer: Member, image_id: int) -> None:
    """Have this member, and no other, make the vector of an image."""
    others = [one for one in world.members if one is not writer]
    for one in others:
        one.under_way += 10
    await world.write(image_id)
    for one in others:
        one.under_way -= 10


async def vouched_for(world: World) -> list[int]:
    """Return the images of the first encoder whose vectors good canaries vouch for."""
    confirmed = await world.confirmed()
    pages = world.store.scroll("clip-24-1", 1)
    return [one.id async for page in pages for one in page if one.epoch <= confirmed]


@pytest.fixture
async def left() -> MemoryStore:
    """What is left of a life whose second member made image 1 as another encoder, `clip-24-2`, and died."""
    world = World(Server(), Server())
    await world.round()
    await world.store.set_pointer(1, "clip-24-1")
    world.servers[1].seed = 2
    await write_by(world, world.members[1], 1)
    live = await canary.encode(world.members[1])
    await world.store.add_encoder(EncoderRecord("clip-24-2", "clip", DIMENSION, live))
    assert await world.stored() == [1]
    return world.store


async def test_one_that_has_shown_itself_another_is_none_to_vouch_though_it_fails_before_the_round_ends(
    left: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(Server(), Server(2), store=left)

    async def away() -> dict[int, str]:
        raise Unavailable("qdrant", "away")

    with monkeypatch.context() as patched:
        patched.setattr(left, "pointers", away)
        with pytest.raises(Unavailable):
            await world.round()
    world.servers[1].problem = AWAY
    with pytest.raises(Unavailable):
        await world.pool.encode_texts_as("clip-24-2", ["a dog"])
    world.servers[1].problem = None
    world.servers[1].gate.clear()
    await world.round(after=5)
    assert world.pool.id == "clip-24-1"
    assert await vouched_for(world) == []
    await world.recognition.finish()


async def test_a_model_that_is_rolled_back_does_not_vouch_for_what_the_dead_life_made(
    left: MemoryStore,
) -> None:
    world = World(Server(), Server(2), store=left)
    world.servers[0].problem = AWAY
    await world.round()
    await world.round(after=GRACE_SECONDS)
    assert world.pool.id == "clip-24-2"
    await world.write(2)
    world.servers[1].seed = 1
    await world.round(after=BUSY_CHECK_SECONDS)
    assert world.pool.id == "clip-24-1"
    world.servers[0].problem = None
    for _ in range(2):
        await world.round(after=BUSY_CHECK_SECONDS)
    assert world.pool.at_work() == world.members
    assert await vouched_for(world) == []


async def test_a_round_that_is_cancelled_while_one_that_left_is_closed_forgets_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Server(), Server(), Server())
    staying, swapped, leaving = world.members
    await world.round()
    await write_by(world, leaving, 1)
    closing = asyncio.Event()

    async def close() -> None:
        closing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.servers[2], "close", close)
    world.servers[2].gate.clear()
    world.found = [staying, swapped]
    staying.problem = "away"
    await world.round(after=1)
    staying.problem = None
    world.servers[1].seed = 2
    await write_by(world, swapped, 2)
    world.servers[1].gate.clear()
    await world.round(after=1)
    await write_by(world, staying, 3)
    world.servers[0].gate.clear()
    world.servers[1].gate.set()
    world.servers[2].gate.set()
    cut_short = asyncio.create_task(world.recognition.round())
    await asyncio.wait_for(closing.wait(), 1)
    cut_short.cancel()
    await asyncio.wait([cut_short])
    world.servers[0].gate.set()
    await world.recognition.finish()
    assert 2 not in await vouched_for(world)


async def test_what_one_made_that_went_away_and_hangs_is_withdrawn_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Server(), Server())
    await world.round()
    await write_by(world, world.members[1], 1)
    world.servers[1].problem = AWAY
    await world.round(after=BUSY_CHECK_SECONDS)
    world.servers[1].problem = None
    world.servers[1].gate.clear()
    withdrawals, withdraw = 0, world.store.withdraw

    async def counting(encoder_id: str) -> int:
        nonlocal withdrawals
        withdrawals += 1
        return await withdraw(encoder_id)

    monkeypatch.setattr(world.store, "withdraw", counting)
    for _ in range(4):
        await world.write(2)
        await world.round(after=ABSENT_SECONDS)
    assert await world.stored() == [2]
    assert withdrawals == 1
    await world.recognition.finish()
