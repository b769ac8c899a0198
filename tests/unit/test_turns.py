from __future__ import annotations

import asyncio

from daemon.turns import Lane, Turns


async def test_a_free_place_goes_to_whoever_holds_fewest() -> None:
    turns, large, small = Turns(2), object(), object()
    order: list[str] = []

    async def take(who: object, name: str) -> None:
        await turns.acquire(who)
        order.append(name)

    await take(large, "large")
    await take(large, "large")
    waiting = [asyncio.create_task(take(large, "large")), asyncio.create_task(take(small, "small"))]
    await asyncio.sleep(0)
    turns.release(large)
    turns.release(large)
    await asyncio.wait(waiting)
    assert order == ["large", "large", "small", "large"]


async def test_whoever_gives_up_waiting_takes_no_place() -> None:
    turns, one, other = Turns(1), object(), object()
    await turns.acquire(one)
    impatient = asyncio.create_task(turns.acquire(other))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    turns.release(one)
    async with asyncio.timeout(1):
        await turns.acquire(one)


async def test_a_place_granted_to_someone_cancelled_is_given_on() -> None:
    turns, one, other = Turns(1), object(), object()
    await turns.acquire(one)
    late = asyncio.create_task(turns.acquire(other))
    await asyncio.sleep(0)
    turns.release(one)
    late.cancel()
    await asyncio.wait([late])
    async with asyncio.timeout(1):
        await turns.acquire(one)


async def test_places_that_are_added_are_given_out_at_once() -> None:
    turns, one = Turns(1), object()
    await turns.acquire(one)
    waiting = [asyncio.create_task(turns.acquire(one)) for _ in range(3)]
    await asyncio.sleep(0)
    turns.resize(3)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, True, False]
    turns.release(one)
    await asyncio.wait(waiting)


async def test_places_that_are_taken_away_are_not_given_out_again() -> None:
    turns, one = Turns(3), object()
    for _ in range(3):
        await turns.acquire(one)
    turns.resize(1)
    waiting = asyncio.create_task(turns.acquire(one))
    for _ in range(2):
        turns.release(one)
        await asyncio.sleep(0)
        assert not waiting.done()
    turns.release(one)
    await waiting


async def test_nobody_gives_way_while_nothing_is_urgent() -> None:
    async with asyncio.timeout(1):
        await Lane(patience=60).give_way()


async def test_work_gives_way_until_the_last_urgent_call_has_ended() -> None:
    lane = Lane(patience=60)
    with lane.urgent():
        with lane.urgent():
            work = asyncio.create_task(lane.give_way())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not work.done()
    async with asyncio.timeout(1):
        await work


async def test_work_does_not_give_way_for_ever() -> None:
    lane = Lane(patience=0.01)
    with lane.urgent():
        async with asyncio.timeout(1):
            await lane.give_way()
