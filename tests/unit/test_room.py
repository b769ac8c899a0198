from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from daemon.room import Room
from state.ports import Reserve


class Visitors:
    """Claims that run as tasks, and what each was granted, in order."""

    def __init__(self, size: int) -> None:
        self.room = Room(size)
        self.granted: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def enter(self, name: str, *sizes: int) -> None:
        """Reserve these sizes one after the other, then hold them until told to leave."""
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name, sizes))
        await settled()

    async def _visit(self, name: str, sizes: tuple[int, ...]) -> None:
        with self.room.claim() as reserve:
            for size in sizes:
                await reserve(size)
            self.granted.append(name)
            await self.leave[name].wait()

    async def go(self, *names: str) -> None:
        for name in names:
            self.leave[name].set()
        await settled()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.wait([self.tasks[name]])
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_does_not_fit_waits_until_others_have_left() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 60)
    await visitors.enter("b", 60)
    assert visitors.granted == ["a"]
    await visitors.go("a")
    assert visitors.granted == ["a", "b"]
    await visitors.go("b")


async def test_a_small_one_does_not_overtake_a_large_one_that_waits() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 60)
    await visitors.enter("large", 60)
    await visitors.enter("small", 10)
    assert visitors.granted == ["a"]
    await visitors.go("a")
    assert visitors.granted == ["a", "large", "small"]
    await visitors.go("large", "small")


async def test_one_that_is_larger_than_all_the_room_passes_alone() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 10)
    await visitors.enter("huge", 1_000)
    await visitors.enter("b", 10)
    assert visitors.granted == ["a"]
    await visitors.go("a")
    assert visitors.granted == ["a", "huge"]
    await visitors.go("huge")
    assert visitors.granted == ["a", "huge", "b"]
    await visitors.go("b")


async def test_who_gives_up_waiting_leaves_the_room_to_those_behind() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 60)
    await visitors.enter("large", 60)
    await visitors.enter("small", 10)
    await visitors.cancel("large")
    assert visitors.granted == ["a", "small"]
    await visitors.cancel("a")
    await visitors.enter("b", 90)
    assert visitors.granted == ["a", "small", "b"]
    await visitors.go("small", "b")


async def test_who_is_cancelled_at_the_moment_of_the_grant_holds_nothing() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 100)
    await visitors.enter("b", 100)
    visitors.leave["a"].set()
    await asyncio.sleep(0)
    await visitors.cancel("b")
    await visitors.enter("c", 100)
    assert visitors.granted[-1] == "c"
    await visitors.go("c")


async def test_when_all_wait_for_more_the_oldest_goes_on() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 50)
    growing = asyncio.Event()

    async def grow(reserve: Reserve) -> None:
        await growing.wait()
        await reserve(80)

    with visitors.room.claim() as first, visitors.room.claim() as second:
        await first(20)
        await second(30)
        waiting = [asyncio.create_task(grow(reserve)) for reserve in (first, second)]
        growing.set()
        await settled()
        assert not any(task.done() for task in waiting), "a may still leave"
        await visitors.go("a")
        assert [task.done() for task in waiting] == [True, False]
        waiting[1].cancel()
        await asyncio.wait(waiting)


async def test_reserving_less_than_is_held_takes_no_more() -> None:
    visitors = Visitors(100)
    await visitors.enter("a", 60, 20, 60)
    await visitors.enter("b", 40)
    assert visitors.granted == ["a", "b"]
    await visitors.go("a", "b")


async def test_whatever_the_sizes_everybody_gets_through_and_the_room_is_kept() -> None:
    random, room, held = Random(1), Room(1_000), dict[int, int]()
    most = 0

    async def visit(number: int, nap: Callable[[], float]) -> None:
        nonlocal most
        with room.claim() as reserve:
            for size in sorted(random.choices(range(1, 600), k=random.choice([1, 1, 3]))):
                await reserve(size)
                held[number] = size
                most = max(most, sum(held.values()))
                await asyncio.sleep(nap())
            del held[number]

    async with asyncio.timeout(10):
        await asyncio.gather(*(visit(one, lambda: random.random() / 500) for one in range(300)))
    assert 900 < most <= 1_000 + 600
