import asyncio

import numpy as np
import pytest
from recognition_world import Server, World, picture, project

from state.errors import Rejected, Unavailable


async def test_a_batch_goes_to_whoever_has_least_to_do() -> None:
    world = World(Server(), Server())
    await world.round()
    for server in world.servers:
        server.batches = 0
        server.gate.clear()
    calls = [asyncio.create_task(world.pool.encode_images([picture(i)])) for i in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [server.batches for server in world.servers] == [2, 2]
    for server in world.servers:
        server.gate.set()
    await asyncio.gather(*calls)


async def test_a_server_that_stumbles_is_asked_again_and_stays() -> None:
    world = World(Server())
    await world.round()
    world.servers[0].failures_left = 3
    assert (await world.pool.encode_images([picture(1)])).shape == (1, 24)
    assert world.slept == [0.1, 0.2, 0.4]
    assert world.pool.at_work() == world.members


async def test_a_server_that_fails_is_left_out_and_another_takes_its_batch() -> None:
    world = World(Server(), Server())
    await world.round()
    world.servers[0].problem = Unavailable("clip", "refused")
    vectors = await world.pool.encode_images([picture(1)])
    np.testing.assert_allclose(vectors, project([picture(1)[::28, ::28].ravel() / 255], 1), atol=1e-6)
    assert world.pool.at_work() == [world.members[1]]


async def test_a_server_that_asks_for_time_is_not_asked_again_at_once() -> None:
    world = World(Server())
    await world.round()
    world.servers[0].problem = Unavailable("clip", "busy", 20.0)
    with pytest.raises(Unavailable, match="clip-0: busy") as failure:
        await world.pool.encode_images([picture(1)])
    assert world.slept == []
    assert failure.value.retry_after == 20.0


async def test_nobody_is_asked_before_the_canaries_were_good() -> None:
    world = World(Server())
    with pytest.raises(Unavailable, match="not recognised yet"):
        await world.pool.encode_images([picture(1)])
    assert world.servers[0].asked == 0


async def test_an_answer_that_was_under_way_when_the_canaries_turned_bad_is_dropped() -> None:
    world = World(Server())
    await world.round()
    server, member = world.servers[0], world.members[0]
    server.gate.clear()
    call = asyncio.create_task(world.pool.encode_images([picture(1)]))
    await asyncio.sleep(0)
    member.recognised_as(None)
    server.gate.set()
    with pytest.raises(Unavailable):
        await call


async def test_a_picture_is_to_blame_only_where_the_same_server_takes_its_canaries() -> None:
    world = World(Server(), Server())
    await world.round()
    world.servers[0].refuses = True
    assert (await world.pool.encode_images([picture(1)])).shape == (1, 24)
    assert world.pool.at_work() == [world.members[1]]
    world.servers[1].refuses = True
    with pytest.raises(Unavailable, match="rejects its canaries too"):
        await world.pool.encode_images([picture(1)])


async def test_a_refused_picture_of_a_sound_server_is_rejected() -> None:
    world = World(Server())
    await world.round()
    black = np.zeros((224, 224, 3), np.uint8)
    with pytest.raises(Rejected, match="finite"), np.errstate(all="ignore"):
        await world.pool.encode_images([black])
    assert world.pool.at_work() == world.members


async def test_texts_are_read_by_the_encoder_that_made_the_vectors() -> None:
    world = World(Server(1), Server(2))
    await world.round()
    old = world.pool.id
    world.servers[0].seed = 2
    await world.round(601)
    assert world.pool.id != old
    with pytest.raises(Unavailable, match=f"{old} cannot be asked now"):
        await world.pool.encode_texts_as(old, ["a dog"])
    standby = world.member("old", Server(1), for_texts_only=True)
    world.found = [*world.members, standby]
    world.members[1].leave_out(Unavailable("clip", "away"))
    await world.round(60)
    answer = await world.pool.encode_texts_as(old, ["a dog"])
    np.testing.assert_allclose(answer.vectors, project([[ord(c) / 100 for c in "a dog"]], 1), atol=1e-6)


async def test_an_encoder_kept_for_texts_gets_no_pictures() -> None:
    world = World(Server())
    standby = world.member("old", Server(), for_texts_only=True)
    world.found = [*world.members, standby]
    await world.round()
    assert standby.encoder_id == world.pool.id
    assert world.pool.at_work() == world.members
