from __future__ import annotations

import asyncio

from daemon.turns import Turns


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
