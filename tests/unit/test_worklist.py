"""Keys that need a look: fair, merged, backing off."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from still_clock import Clock

from daemon.worklist import LONGEST_RETRY, SHORTEST_RETRY, Worklist
from state.model import FULL, MAX_SCOPE_IDS, Scope


@pytest.fixture
def worklist(clock: Clock) -> Worklist:
    return Worklist(clock, jitter=lambda longest: longest)


def some(*ids: int) -> Scope:
    return Scope(ids=frozenset(ids))


async def due(worklist: Worklist) -> tuple[int, Scope] | None:
    """Take what is due now."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            return await worklist.take()
    return None


async def test_keys_are_taken_in_the_order_they_were_marked(worklist: Worklist) -> None:
    for project_id in (3, 1, 2, 1, 3):
        worklist.mark(project_id, FULL)
    assert [(await worklist.take())[0] for _ in range(3)] == [3, 1, 2]
    assert await due(worklist) is None


async def test_a_key_marked_all_the_time_starves_no_other(worklist: Worklist) -> None:
    worklist.mark(1, FULL)
    worklist.mark(2, FULL)
    taken = []
    for _ in range(4):
        project_id, _ = await worklist.take()
        taken.append(project_id)
        worklist.mark(1, FULL)
        worklist.mark(2, FULL)
        worklist.done(project_id)
    assert taken == [1, 2, 1, 2]


async def test_marks_of_a_key_that_is_due_merge(worklist: Worklist) -> None:
    worklist.mark(1, some(1))
    worklist.mark(1, some(2))
    assert await worklist.take() == (1, some(1, 2))


async def test_marks_of_a_running_key_wait_for_their_turn_together(worklist: Worklist) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.mark(1, some(1))
    worklist.mark(1, some(2))
    assert worklist.queued(1)
    assert await due(worklist) is None
    worklist.done(1)
    assert await worklist.take() == (1, some(1, 2))


async def test_a_key_is_never_taken_twice_at_once(worklist: Worklist) -> None:
    takers = [asyncio.create_task(worklist.take()) for _ in range(5)]
    for _ in range(3):
        worklist.mark(7, FULL)
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert sum(taker.done() for taker in takers) == 1
    for taker in takers:
        taker.cancel()
    await asyncio.wait(takers)


async def test_every_waiting_taker_gets_a_key(worklist: Worklist) -> None:
    takers = [asyncio.create_task(worklist.take()) for _ in range(20)]
    await asyncio.sleep(0)
    for project_id in range(20):
        worklist.mark(project_id, FULL)
    taken = await asyncio.wait_for(asyncio.gather(*takers), 1)
    assert sorted(project_id for project_id, _ in taken) == list(range(20))


async def test_a_taker_that_is_cancelled_loses_no_key(worklist: Worklist) -> None:
    first = asyncio.create_task(worklist.take())
    second = asyncio.create_task(worklist.take())
    await asyncio.sleep(0)
    worklist.mark(1, FULL)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == (1, FULL)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_the_back_off_doubles_up_to_its_bound_and_is_jittered_as_a_whole(clock: Clock) -> None:
    longest: list[float] = []

    def jitter(most: float) -> float:
        longest.append(most)
        return most / 2

    worklist = Worklist(clock, jitter)
    worklist.mark(1, FULL)
    for _ in range(30):
        await worklist.take()
        worklist.failed(1, FULL, "away")
        waiting = worklist.waiting(1)
        assert waiting is not None
        assert waiting.until - clock() == longest[-1] / 2
        clock.seconds = waiting.until
    assert longest[:4] == [SHORTEST_RETRY, 2.0, 4.0, 8.0]
    assert longest == sorted(longest)
    assert set(longest[10:]) == {LONGEST_RETRY}


async def test_success_starts_the_back_off_anew(worklist: Worklist, clock: Clock) -> None:
    delays = []
    for ends_well in (False, False, True, False):
        worklist.mark(1, FULL, at_once=True)
        await worklist.take()
        if ends_well:
            worklist.done(1)
            continue
        worklist.failed(1, FULL, "away")
        waiting = worklist.waiting(1)
        assert waiting is not None
        delays.append(waiting.until - clock())
    assert delays == [1.0, 2.0, 1.0]


async def test_a_failed_key_is_due_when_its_time_has_come_and_not_before(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.failed(1, some(4), "away")
    clock.seconds += 0.999
    assert await due(worklist) is None
    clock.seconds += 0.001
    assert await worklist.take() == (1, some(4))


async def test_a_taker_wakes_by_itself_when_a_key_falls_due() -> None:
    worklist = Worklist(asyncio.get_running_loop().time, lambda longest: longest)
    worklist.mark(1, FULL, delay=0.05)
    assert await asyncio.wait_for(worklist.take(), 1) == (1, FULL)


@pytest.mark.parametrize(("retry_after", "waits"), [(None, 1.0), (0.5, 1.0), (90.0, 90.0)])
async def test_what_the_service_asked_for_is_the_least_to_wait(
    worklist: Worklist, clock: Clock, retry_after: float | None, waits: float
) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.failed(1, FULL, "away", retry_after)
    waiting = worklist.waiting(1)
    assert waiting is not None
    assert (waiting.until - clock(), waiting.why) == (waits, "away")


async def test_news_about_a_failed_key_do_not_shorten_its_wait(worklist: Worklist, clock: Clock) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.failed(1, some(1), "away")
    worklist.mark(1, some(2))
    assert await due(worklist) is None
    clock.seconds += 1
    assert await worklist.take() == (1, some(1, 2))


async def test_a_person_need_not_wait(worklist: Worklist) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.failed(1, some(1), "away")
    worklist.mark(1, some(2), at_once=True)
    assert await worklist.take() == (1, some(1, 2))


async def test_what_was_marked_while_a_key_failed_is_looked_at_with_it(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.mark(1, some(2))
    worklist.failed(1, some(1), "away")
    clock.seconds += 1
    assert await worklist.take() == (1, some(1, 2))


async def test_a_delayed_mark_is_due_later_and_earlier_if_somebody_asks(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.mark(1, some(1), delay=10)
    assert await due(worklist) is None
    assert worklist.waiting(1) is None
    worklist.mark(1, some(2), delay=5)
    worklist.mark(1, some(3), delay=50)
    clock.seconds += 5
    assert await worklist.take() == (1, some(1, 2, 3))


async def test_a_delayed_mark_of_a_running_key_is_still_delayed(worklist: Worklist, clock: Clock) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.mark(1, some(1), delay=10)
    clock.seconds += 4
    worklist.done(1)
    clock.seconds += 5
    assert await due(worklist) is None
    clock.seconds += 1
    assert await worklist.take() == (1, some(1))


async def test_a_key_that_is_gone_is_forgotten(worklist: Worklist, clock: Clock) -> None:
    worklist.mark(1, FULL)
    worklist.mark(2, FULL, delay=1)
    worklist.drop(1)
    worklist.drop(2)
    worklist.drop(3)
    clock.seconds += 10
    assert await due(worklist) is None
    assert not worklist.queued(1)
    assert len(worklist) == 0


async def test_a_key_dropped_while_it_runs_can_still_be_put_away(worklist: Worklist) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.drop(1)
    worklist.done(1)
    assert worklist.resting()


async def test_keys_are_dirty_until_they_were_diffed(worklist: Worklist) -> None:
    for project_id in (1, 2, 3, 4):
        worklist.mark(project_id, FULL)
    for _ in range(3):
        await worklist.take()
    worklist.diffed(1)
    worklist.failed(2, FULL, "away")
    assert worklist.dirty() == {3, 4}
    worklist.done(3)
    assert worklist.dirty() == {4}


async def test_waiting_for_dirty_keys_ends_when_each_was_diffed_or_failed(worklist: Worklist) -> None:
    for project_id in (1, 2, 3):
        worklist.mark(project_id, FULL)
    waiter = asyncio.create_task(worklist.all_diffed({1, 2, 3}, 2_000.0))
    ends: list[Callable[[int], None]] = [
        worklist.diffed,
        lambda project_id: worklist.failed(project_id, FULL, "away"),
        worklist.done,
    ]
    for end in ends:
        project_id, _ = await worklist.take()
        await asyncio.sleep(0.005)
        assert not waiter.done()
        end(project_id)
    assert await asyncio.wait_for(waiter, 1)


async def test_a_key_marked_again_after_its_diff_is_not_waited_for_twice(worklist: Worklist) -> None:
    worklist.mark(1, FULL)
    worklist.mark(2, FULL)
    waiter = asyncio.create_task(worklist.all_diffed({1, 2}, 2_000.0))
    await worklist.take()
    await worklist.take()
    worklist.diffed(1)
    await asyncio.sleep(0.005)
    worklist.done(1)
    worklist.mark(1, FULL)
    await asyncio.sleep(0.005)
    worklist.diffed(2)
    assert await asyncio.wait_for(waiter, 1)


async def test_waiting_for_dirty_keys_has_an_end(clock: Clock) -> None:
    loop = asyncio.get_running_loop()
    worklist = Worklist(loop.time, lambda longest: longest)
    worklist.mark(1, FULL)
    assert not await asyncio.wait_for(worklist.all_diffed({1}, loop.time() + 0.02), 1)


async def test_keys_nobody_marked_are_not_waited_for(worklist: Worklist) -> None:
    assert await worklist.all_diffed({1, 2}, 0.0)


async def test_only_failed_keys_may_be_left_at_rest(worklist: Worklist) -> None:
    assert worklist.resting()
    worklist.mark(1, FULL, delay=5)
    assert not worklist.resting()
    worklist.mark(1, FULL, at_once=True)
    await worklist.take()
    assert not worklist.resting()
    worklist.failed(1, FULL, "away")
    assert worklist.resting()


STEPS = st.lists(st.tuples(st.sampled_from("mtdfx"), st.integers(1, 3), st.integers(0, 5)), max_size=40)


@given(STEPS)
async def test_no_mark_is_ever_lost(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    worklist = Worklist(clock, lambda longest: longest)
    wanted: dict[int, set[int]] = {}
    meanwhile: dict[int, set[int]] = {}
    running: dict[int, Scope] = {}
    for step, project_id, image_id in steps:
        if step == "m":
            worklist.mark(project_id, some(image_id), delay=float(image_id % 2))
            marks = meanwhile if project_id in running else wanted
            marks.setdefault(project_id, set()).add(image_id)
        elif step == "t" and (taken := await _take_if_due(worklist)):
            assert taken[0] not in running
            running[taken[0]] = taken[1]
        elif step == "d" and project_id in running:
            worklist.done(project_id)
            del running[project_id]
            wanted[project_id] = meanwhile.pop(project_id, set())
        elif step == "f" and project_id in running:
            worklist.failed(project_id, running.pop(project_id), "away")
            wanted[project_id] |= meanwhile.pop(project_id, set())
        elif step == "x":
            clock.seconds += image_id
    for project_id, scope in running.items():
        worklist.failed(project_id, scope, "away")
        wanted[project_id] |= meanwhile.pop(project_id, set())
    clock.seconds += LONGEST_RETRY
    found: dict[int, set[int]] = {}
    while taken := await _take_if_due(worklist):
        found[taken[0]] = set(taken[1].ids)
    assert found == {project_id: ids for project_id, ids in wanted.items() if ids}


async def _take_if_due(worklist: Worklist) -> tuple[int, Scope] | None:
    """Take without waiting: one step of the loop is enough when something is due."""
    taker = asyncio.ensure_future(worklist.take())
    await asyncio.sleep(0)
    if taker.done():
        return taker.result()
    taker.cancel()
    await asyncio.wait([taker])
    return None


async def test_the_ids_of_a_scope_never_grow_without_bound(worklist: Worklist) -> None:
    worklist.mark(1, Scope(ids=frozenset(range(MAX_SCOPE_IDS))))
    worklist.mark(1, some(MAX_SCOPE_IDS))
    assert await worklist.take() == (1, FULL)


async def test_what_was_marked_while_a_key_was_taken_is_dropped_when_it_is_stopped(
    worklist: Worklist,
) -> None:
    worklist.mark(1, FULL)
    await worklist.take()
    worklist.mark(1, some(4))
    worklist.stopped(1)
    assert not worklist.queued(1)
    worklist.mark(1, some(5))
    assert await worklist.take() == (1, some(5))
