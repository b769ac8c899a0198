import asyncio
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest
from recognition_world import AWAY, Server, World, picture

from daemon.recognition import BUSY_CHECK_SECONDS, CHECK_SECONDS, GRACE_SECONDS
from daemon.vouching import ABSENT_SECONDS
from state.errors import Inconsistent, Unavailable
from state.model import TextEmbeddings, Within


async def test_the_first_model_becomes_the_encoder_at_work() -> None:
    world = World(Server())
    await world.round()
    assert (world.pool.id, world.pool.dimension) == ("clip-24-1", 24)
    assert world.events == ["changed", "returned"]


async def test_the_same_model_keeps_its_id_in_the_next_life_and_at_another_address() -> None:
    first = World(Server())
    await first.round()
    second = World(Server(), Server(), store=first.store)
    await second.round()
    assert second.pool.id == first.pool.id
    assert second.pool.at_work() == second.members
    assert len(await second.store.encoders()) == 1


async def test_good_canaries_vouch_for_what_was_made_before() -> None:
    world = World(Server())
    await world.round()
    await world.write(1)
    epoch = world.epochs.current
    assert await world.confirmed() < epoch
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.confirmed() == epoch
    assert await world.store.withdraw(world.pool.id) == 0


async def test_what_was_made_between_a_good_and_a_bad_canary_is_withdrawn() -> None:
    world = World(Server())
    await world.round()
    old = world.pool.id
    await world.write(1)
    await world.round(BUSY_CHECK_SECONDS)
    await world.write(2)
    world.servers[0].seed = 2
    await world.write(3)
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.stored(old) == [1]
    assert world.pool.id == "clip-24-2"
    assert world.events.count("changed") >= 2


async def test_an_answer_of_the_new_model_never_comes_to_stand_under_the_old_id() -> None:
    world = World(Server())
    await world.round()
    old, server = world.pool.id, world.servers[0]
    server.seed = 2
    server.gate.clear()
    late = asyncio.create_task(world.write(1))
    await asyncio.sleep(0)
    checking = asyncio.create_task(world.round(BUSY_CHECK_SECONDS))
    await asyncio.sleep(0)
    server.gate.set()
    await checking
    with suppress(Unavailable, AssertionError):
        await late
    assert await world.stored(old) == []


async def test_a_batch_begun_before_a_withdrawal_is_not_written_after_it() -> None:
    world = World(Server())
    await world.round()
    began = world.epochs.current
    await world.pool.encode_images([picture(1)])
    world.servers[0].seed = 2
    await world.round(BUSY_CHECK_SECONDS)
    with pytest.raises(Unavailable, match="withdrawn"):
        async with world.epochs.writing(began):
            pytest.fail("nothing may be written now")


async def test_a_withdrawal_waits_for_what_is_being_written() -> None:
    world = World(Server())
    await world.round()
    world.servers[0].seed = 2
    async with world.epochs.writing(world.epochs.current):
        world.members[0].owes = True
        checking = asyncio.create_task(world.round(BUSY_CHECK_SECONDS))
        await asyncio.sleep(0.05)
        assert not checking.done()
    await checking
    assert world.pool.id == "clip-24-2"


async def test_the_former_model_is_known_again_when_it_comes_back() -> None:
    world = World(Server())
    for seed in (1, 2, 1):
        world.servers[0].seed = seed
        await world.round(CHECK_SECONDS)
    assert world.pool.id == "clip-24-1"
    assert len(await world.store.encoders()) == 2


async def test_of_several_addresses_one_with_another_model_is_left_out() -> None:
    world = World(Server(), Server(), Server(2))
    await world.round()
    assert world.pool.at_work() == world.members[:2]
    assert world.members[2].problem == "it runs another model"


async def test_when_one_of_several_changes_its_model_the_others_go_on() -> None:
    world = World(Server(), Server())
    await world.round()
    await world.write(1)
    await world.round(BUSY_CHECK_SECONDS)
    world.servers[0].seed = 2
    await world.write(2)
    await world.round(BUSY_CHECK_SECONDS)
    assert world.pool.id == "clip-24-1"
    assert world.pool.at_work() == [world.members[1]]
    assert await world.stored() == [1]


async def test_a_server_that_comes_back_with_another_model_is_not_let_in() -> None:
    world = World(Server(), Server())
    await world.round()
    world.servers[0].problem = AWAY
    await world.pool.encode_images([picture(1)])
    world.servers[0].problem, world.servers[0].seed = None, 2
    await world.round(31)
    assert world.pool.at_work() == [world.members[1]]


async def test_a_server_that_comes_back_goes_on_and_says_so() -> None:
    world = World(Server())
    await world.round()
    world.servers[0].problem = AWAY
    with pytest.raises(Unavailable):
        await world.pool.encode_images([picture(1)])
    await world.round(31)
    world.servers[0].problem = None
    assert world.events == ["changed", "returned"]
    await world.round(31)
    assert world.events == ["changed", "returned", "returned"]
    assert world.pool.at_work() == world.members


async def test_without_an_answer_at_the_start_nothing_is_at_work_until_there_is_one() -> None:
    world = World(Server())
    world.servers[0].problem = AWAY
    await world.round()
    assert world.pool.id is None
    world.servers[0].problem = None
    await world.round(31)
    assert world.pool.id == "clip-24-1"


async def test_an_index_is_not_given_up_while_its_model_may_only_be_late() -> None:
    first = World(Server(1))
    await first.round()
    await first.store.set_pointer(1, "clip-24-1")
    world = World(Server(1), Server(2), store=first.store)
    world.servers[0].problem = AWAY
    await world.round()
    assert world.pool.id is None
    await world.round(GRACE_SECONDS + 1)
    assert world.pool.id == "clip-24-2"


async def test_nothing_is_vouched_for_while_somebody_who_made_some_of_it_is_away() -> None:
    world = World(Server(), Server())
    await world.round()
    before = await world.confirmed()
    world.members[1].owes = True
    world.servers[1].problem = AWAY
    world.members[1].leave_out(AWAY)
    await world.write(1)
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.confirmed() == before
    world.servers[1].problem = None
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.confirmed() > before
    assert await world.stored(world.pool.id) == [1]


async def test_what_somebody_made_who_never_comes_back_is_made_again() -> None:
    world = World(Server(), Server())
    await world.round()
    await world.write(1)
    world.members[0].owes = world.members[1].owes = True
    world.servers[1].problem = AWAY
    world.members[1].leave_out(AWAY)
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.stored(world.pool.id) == [1]
    await world.round(ABSENT_SECONDS + 1)
    assert await world.stored(world.pool.id) == []
    await world.write(1)
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.confirmed() >= world.epochs.current - 2


async def test_what_a_dead_process_left_unvouched_for_is_withdrawn_when_the_model_changed() -> None:
    first = World(Server(1))
    await first.round()
    await first.write(1)
    second = World(Server(2), store=first.store)
    second.epochs.begin(await second.store.next_epoch())
    await second.round()
    assert second.pool.id == "clip-24-2"
    assert await second.stored() == []


async def test_what_a_dead_process_left_is_vouched_for_by_the_same_model() -> None:
    first = World(Server(1))
    await first.round()
    await first.write(1)
    second = World(Server(1), store=first.store)
    second.epochs.begin(await second.store.next_epoch())
    await second.round()
    assert await second.store.withdraw("clip-24-1") == 0
    assert await second.store.count("clip-24-1", Within(1)) == 1


async def test_a_withdrawal_that_failed_is_made_up_for() -> None:
    world = World(Server(), Server())
    await world.round()
    await world.write(1)
    await world.write(2)
    withdraw, failing = world.store.withdraw, True

    async def sometimes(collection: str) -> int:
        if failing:
            raise Unavailable("qdrant", "away")
        return await withdraw(collection)

    world.store.withdraw = sometimes
    world.servers[0].seed = 2
    world.members[0].owes = True
    with pytest.raises(Unavailable):
        await world.round(BUSY_CHECK_SECONDS)
    failing = False
    await world.round(BUSY_CHECK_SECONDS)
    assert await world.stored(world.pool.id) == []


async def test_other_addresses_replace_the_members() -> None:
    world = World(Server())
    await world.round()
    world.members[0].leave_out(AWAY)
    moved = world.member("moved", Server())
    world.found = [moved]
    await world.round(31)
    assert world.pool.at_work() == [moved]
    assert world.servers[0].closed
    assert world.pool.id == "clip-24-1"


async def test_a_name_that_stands_for_other_vectors_is_refused() -> None:
    world = World(Server(1))
    world.servers[0].id = "palette-24-1"
    await world.round()
    impostor = World(Server(2), store=world.store)
    impostor.servers[0].id = "palette-24-1"
    with pytest.raises(Inconsistent, match="palette-24-1"):
        await impostor.round()


async def test_a_model_being_swapped_while_it_is_asked_gets_no_id() -> None:
    world = World(Server())
    await world.round()
    server = world.servers[0]
    encode_texts = server.encode_texts

    async def swapped(texts: Sequence[str]) -> TextEmbeddings:
        server.seed = 2
        return await encode_texts(texts)

    server.encode_texts = swapped
    server.seed = 1
    await world.round(BUSY_CHECK_SECONDS)
    await world.round(CHECK_SECONDS)
    server.encode_texts = encode_texts
    await world.round(31)
    assert [record.id for record in await world.store.encoders()] == ["clip-24-1", "clip-24-2"]
    assert world.pool.id == "clip-24-2"


async def test_rounds_go_on_by_themselves() -> None:
    world = World(Server())
    world.servers[0].problem = AWAY
    running = asyncio.create_task(world.recognition.run())
    await asyncio.sleep(0.01)
    world.servers[0].problem = None
    world.now += 31
    world.recognition.doubted()
    for _ in range(500):
        await asyncio.sleep(0.01)
        if world.pool.at_work():
            break
    assert world.pool.at_work() == world.members
    running.cancel()
    await asyncio.wait([running])


async def test_vectors_of_both_models_stand_under_their_own_ids_only() -> None:
    world = World(Server())
    await world.round()
    for image_id in range(8):
        world.servers[0].seed = 1 + image_id // 4
        with suppress(Unavailable):
            await world.write(image_id)
    await world.round(BUSY_CHECK_SECONDS)
    for image_id in range(8, 12):
        await world.write(image_id)
    for collection, seed in (("clip-24-1", 1), ("clip-24-2", 2)):
        model = Server(seed)
        for embedding in await world.store.embeddings(collection, range(12)):
            [expected] = await model.encode_images([picture(embedding.image.id)])
            assert float(expected @ embedding.vector) == pytest.approx(1, abs=1e-5)
    assert await world.stored("clip-24-2") == [8, 9, 10, 11]
    assert np.isfinite(world.now)
