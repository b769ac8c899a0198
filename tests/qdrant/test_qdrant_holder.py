"""Two daemons on one server: the second goes, and names the first."""

import asyncio

import pytest
from qdrant_emulator import Fault, QdrantEmulator
from qdrant_opening import Opener, Time

from state.errors import Occupied
from state.stores.qdrant import QdrantStore


async def _third_while_it_beats(store: QdrantStore, open_store: Opener) -> None:
    beating = asyncio.create_task(store.beat())
    try:
        await open_store("third")
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def test_a_second_daemon_is_told_who_holds_the_store(open_store: Opener) -> None:
    first = await open_store("process 7 on host a")
    with pytest.raises(Occupied, match="process 7 on host a"):
        await _third_while_it_beats(first, open_store)


async def test_after_a_clean_end_nobody_waits(open_store: Opener, time_passing: Time) -> None:
    await (await open_store("first")).close()
    await open_store("second")
    assert time_passing.slept == []


async def test_what_a_dead_one_held_is_taken_over_after_half_a_minute(
    open_store: Opener, time_passing: Time
) -> None:
    await open_store("first")
    await open_store("second")
    assert 30 <= time_passing.now < 32


async def test_who_comes_back_after_it_was_replaced_goes(open_store: Opener) -> None:
    first = await open_store("first")
    await open_store("second")
    with pytest.raises(Occupied, match="second"):
        await asyncio.wait_for(first.beat(), 10)


async def test_one_on_a_copy_of_the_state_does_not_write_beside_the_first_for_ever(
    open_store: Opener,
) -> None:
    first = await open_store("process 7", instance="copied")
    await open_store("process 8", instance="copied")
    with pytest.raises(Occupied, match="process 8"):
        await asyncio.wait_for(first.beat(), 10)


@pytest.mark.parametrize("noticed", [True, False])
async def test_one_that_was_replaced_does_not_let_go_of_what_is_another_s(
    open_store: Opener, noticed: bool
) -> None:
    first, second = await open_store("first"), await open_store("second")
    if noticed:
        with pytest.raises(Occupied):
            await asyncio.wait_for(first.beat(), 10)
    await first.close()
    with pytest.raises(Occupied, match="second"):
        await _third_while_it_beats(second, open_store)


async def test_a_server_away_for_a_while_stops_no_heart(
    open_store: Opener, emulator: QdrantEmulator, time_passing: Time
) -> None:
    store = await open_store("first")
    emulator.faults.add(Fault("retrieve", "status", times=9))
    beats = emulator.calls["upsert"]
    beating = asyncio.create_task(store.beat())
    async with asyncio.timeout(10):
        while emulator.calls["upsert"] < beats + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
