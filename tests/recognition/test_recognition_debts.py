"""What nobody vouches for: debts of members that are away, late, or gone while another takes their place."""

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from recognition_world import AWAY, DIMENSION, Server, World, picture, project

from daemon import recognition
from daemon.recognition import BUSY_CHECK_SECONDS, CHECK_SECONDS, GRACE_SECONDS, RETRY_SECONDS
from state.errors import Unavailable
from state.model import TextEmbeddings


async def test_a_batch_whose_model_was_replaced_meanwhile_ends() -> None:
    world = World(Server())
    await world.round()
    server = world.servers[0]
    server.gate.clear()
    late = asyncio.create_task(world.pool.encode_images([picture(1)]))
    await asyncio.sleep(0)
    gate, server.gate = server.gate, asyncio.Event()
    server.gate.set()
    server.seed = 2
    await world.round(BUSY_CHECK_SECONDS)
    assert world.pool.id == "clip-24-2"
    gate.set()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(late, 1)


async def test_one_that_was_left_out_and_not_asked_since_has_not_vouched() -> None:
    world = World(Server(), Server())
    await world.round()
    before = await world.confirmed()
    world.servers[0].seed = 2
    await world.write(1)
    world.members[0].leave_out(Unavailable("clip", "busy", 300.0))
    world.members[1].owes = True
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.confirmed() == before
    await world.round(301)
    assert await world.stored() == []


async def test_a_model_that_is_known_gets_no_second_id_when_it_comes_back() -> None:
    world = World(Server(), Server())
    await world.round()
    world.servers[0].problem = world.servers[1].problem = AWAY
    world.members[0].leave_out(AWAY)
    world.members[1].leave_out(Unavailable("clip", "busy", 300.0))
    world.servers[1].problem = None
    await world.round(GRACE_SECONDS)
    await world.round(GRACE_SECONDS + 1)
    assert [one.id for one in await world.store.encoders()] == ["clip-24-1"]


async def test_a_stranger_met_before_anybody_is_at_work_is_remembered() -> None:
    first = World(Server(1))
    await first.round()
    await first.store.set_pointer(1, "clip-24-1")
    await first.write(1)
    world = World(Server(2), Server(1), store=first.store)
    world.epochs.begin(await world.store.next_epoch())
    world.servers[1].problem = AWAY
    await world.round()
    assert world.pool.id is None
    world.servers[1].problem = None
    await world.round(31)
    assert world.pool.id == "clip-24-1"
    assert await world.stored() == []


async def test_what_one_that_is_away_made_is_withdrawn_when_another_encoder_takes_over() -> None:
    world = World(Server(), Server())
    await world.round()
    await world.store.set_pointer(1, "clip-24-1")
    await world.write(1)
    world.members[0].owes, world.members[1].owes = True, False
    world.servers[0].problem = AWAY
    world.members[0].leave_out(AWAY)
    world.servers[1].seed = 2
    await world.round(CHECK_SECONDS + 1)
    await world.round(GRACE_SECONDS + 1)
    assert world.pool.id == "clip-24-2"
    assert await world.stored() == []


async def test_a_vector_read_while_it_is_being_withdrawn_is_not_written_afterwards() -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    withdraw, begun, go_on = world.store.withdraw, asyncio.Event(), asyncio.Event()

    async def slowly(collection: str) -> int:
        begun.set()
        await go_on.wait()
        return await withdraw(collection)

    world.store.withdraw = slowly
    world.servers[0].seed = 2
    checking = asyncio.create_task(world.round(BUSY_CHECK_SECONDS))
    await begun.wait()
    began = world.epochs.current
    [doomed] = await world.store.embeddings("clip-24-1", [1])
    go_on.set()
    await checking
    with suppress(Unavailable):
        async with world.epochs.writing(began):
            await world.store.upsert("clip-24-1", [doomed])
    assert await world.stored() == []
    async with world.epochs.writing(world.epochs.current):
        pass


async def test_a_withdrawal_that_failed_is_made_up_for_within_seconds() -> None:
    world = World(Server(), Server())
    await world.round()
    await world.write(1)
    withdraw = world.store.withdraw

    async def away(collection: str) -> int:
        raise Unavailable("qdrant", "away")

    world.store.withdraw = away
    world.servers[0].seed = 2
    world.members[0].owes = True
    with pytest.raises(Unavailable):
        await world.round(BUSY_CHECK_SECONDS)
    world.store.withdraw = withdraw
    await world.round(RETRY_SECONDS)
    assert await world.stored() == []


async def test_a_model_of_another_dimension_put_in_between_two_canaries_ends_no_round() -> None:
    world = World(Server())
    await world.round()
    server = world.servers[0]

    async def wider(texts: list[str]) -> TextEmbeddings:
        return TextEmbeddings(np.eye(len(texts), 2 * DIMENSION, dtype=np.float32))

    encode_texts, server.encode_texts = server.encode_texts, wider
    await world.round(CHECK_SECONDS)
    assert world.pool.at_work() == []
    server.encode_texts = encode_texts
    await world.round(31)
    assert world.pool.at_work() == world.members
    assert len(await world.store.encoders()) == 1


async def test_a_text_of_another_dimension_is_no_answer() -> None:
    world = World(Server())
    await world.round()

    async def wider(texts: list[str]) -> TextEmbeddings:
        return TextEmbeddings(np.eye(len(texts), 2 * DIMENSION, dtype=np.float32))

    world.servers[0].encode_texts = wider
    with pytest.raises(Unavailable, match="dimension"):
        await world.pool.encode_texts(["a dog"])


async def test_members_that_are_gone_leave_nothing_behind() -> None:
    world = World(Server())
    await world.round()
    for number in range(20):
        world.found[0].leave_out(AWAY)
        world.found = [world.member(f"moved-{number}", Server())]
        await world.round(31)
    kept = [one for one in vars(world.recognition).values() if isinstance(one, dict | set)]
    assert max(map(len, kept)) <= 1


@pytest.mark.usefixtures("hasty")
async def test_one_that_left_and_hangs_when_it_is_asked_once_more_is_closed_at_the_end() -> None:
    world = World(Server(), Server())
    await world.round()
    world.members[0].under_way = 10
    await world.write(1)
    world.servers[1].gate.clear()
    world.found = world.members[:1]
    world.members[0].problem = "away"
    await world.round()
    assert not world.servers[1].closed
    await world.recognition.finish()
    assert world.servers[1].closed


async def test_one_that_hangs_at_the_start_does_not_hold_up_the_others() -> None:
    first = World(Server())
    await first.round()
    world = World(Server(), Server(), store=first.store)
    world.servers[0].gate.clear()
    started = asyncio.get_running_loop().time()
    await world.recognition.round(everyone=True, patience=0.2)
    assert asyncio.get_running_loop().time() - started < 2
    assert world.pool.at_work() == [world.members[1]]


async def test_texts_read_by_a_model_that_was_replaced_are_forgotten() -> None:
    world = World(Server())
    await world.round()
    assert world.events.count("doubted") == 0
    world.members[0].leave_out(AWAY)
    await world.round(31)
    assert world.events.count("doubted") == 0
    world.servers[0].seed = 2
    await world.round(CHECK_SECONDS)
    assert world.events.count("doubted") == 1


async def test_a_picture_that_a_replaced_model_refuses_is_not_to_blame() -> None:
    world = World(Server())
    await world.round()
    world.servers[0].seed = 2
    black = np.zeros((224, 224, 3), np.uint8)
    with pytest.raises(Unavailable), np.errstate(all="ignore"):
        await world.pool.encode_images([black])
    assert project([[1.0]], 2).shape == (1, DIMENSION)


async def test_one_that_is_given_work_is_asked_soon_and_not_when_one_at_rest_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recognition, "BUSY_CHECK_SECONDS", 0.02)
    world = World(Server())
    await world.round()
    running = asyncio.create_task(world.recognition.run())
    await asyncio.sleep(0)
    await world.write(1)
    world.now += 1
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.wait([running])
    assert not world.members[0].owes
    assert await world.confirmed() >= 1


async def test_who_waits_since_vectors_were_withdrawn_is_woken() -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    world.servers[0].seed = 2
    await world.round(BUSY_CHECK_SECONDS)
    assert world.pool.id == "clip-24-2"
    assert world.events.count("returned") == 2


async def test_one_that_does_nothing_but_its_canaries_is_left_alone_for_longer_each_time() -> None:
    world = World(Server())
    await world.round()
    await world.pool.encode_texts(["a dog"])
    waits = []
    for _ in range(7):
        world.servers[0].fails_at_pictures = True
        with pytest.raises(Unavailable):
            await world.pool.encode_images([picture(1)])
        world.servers[0].fails_at_pictures = False
        await world.round()
        waits.append(world.members[0].breaker.wait())
        await world.round(waits[-1])
        assert world.pool.at_work() == world.members
        await world.pool.encode_texts(["a dog"])
    assert waits == [0, 1, 2, 4, 8, 16, 30]


async def test_one_that_fails_now_and_then_is_asked_for_its_canaries_at_once() -> None:
    world = World(Server())
    await world.round()
    for _ in range(5):
        await world.pool.encode_images([picture(1)])
        world.servers[0].fails_at_pictures = True
        with pytest.raises(Unavailable):
            await world.pool.encode_images([picture(1)])
        world.servers[0].fails_at_pictures = False
        await world.round()
        assert world.pool.at_work() == world.members
