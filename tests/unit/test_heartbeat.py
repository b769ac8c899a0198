"""The heartbeat beats while looks get on, and not when one hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest

from daemon.heartbeat import BEATS_PER_LIMIT, STUCK_SECONDS, Heartbeat

LIMIT = 60.0


class Supervised:
    """A heartbeat over looks that a test moves, in hours that take no time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks: dict[int, Hashable] = {}
        self.beats: list[tuple[float, str]] = []
        self.heartbeat = Heartbeat(
            lambda status: self.beats.append((self.now, status)),
            LIMIT,
            lambda: self.now,
            self._sleep,
        )
        self._until = 0.0

    async def _sleep(self, seconds: float) -> None:
        if self.now >= self._until:
            raise asyncio.CancelledError
        self.now += seconds

    async def run(self, seconds: float) -> None:
        self._until = self.now + seconds
        with self.heartbeat.watching(lambda: self.looks), pytest.raises(asyncio.CancelledError):
            await self.heartbeat.run()


async def test_with_nothing_to_do_it_beats_well_within_the_limit() -> None:
    one = Supervised()
    await one.run(LIMIT)
    assert one.beats == [(at, "idle") for at in (0.0, 20.0, 40.0, 60.0)]
    assert BEATS_PER_LIMIT > 2


async def test_a_look_that_gets_on_may_take_for_ever() -> None:
    one = Supervised()
    for page in range(5):
        one.looks = {7: page}
        await one.run(STUCK_SECONDS / 2)
    assert one.beats[-1] == (one.now, "looking at 1 projects")


async def test_a_look_that_hangs_ends_the_beat_though_others_get_on() -> None:
    one = Supervised()
    for page in range(5):
        one.looks = {7: "hangs", 8: page}
        await one.run(STUCK_SECONDS / 2)
    assert one.now > 2 * STUCK_SECONDS
    assert STUCK_SECONDS - LIMIT <= one.beats[-1][0] < STUCK_SECONDS


async def test_a_look_that_moves_after_all_is_forgiven() -> None:
    one = Supervised()
    one.looks = {7: 1}
    await one.run(2 * STUCK_SECONDS)
    withheld = len(one.beats)
    one.looks = {7: 2}
    await one.run(LIMIT)
    assert len(one.beats) > withheld


async def test_another_look_at_the_same_project_starts_afresh() -> None:
    one = Supervised()
    one.looks = {7: "Task-1"}
    await one.run(STUCK_SECONDS - LIMIT)
    one.looks = {}
    await one.run(LIMIT)
    one.looks = {7: "Task-1"}
    await one.run(STUCK_SECONDS - LIMIT)
    assert one.beats[-1][0] == one.now


async def test_between_two_controllers_there_is_nothing_to_hang() -> None:
    one = Supervised()
    one.looks = {7: "hangs"}
    await one.run(LIMIT)
    assert one.heartbeat.stuck() == []
    one.now += STUCK_SECONDS
    assert one.heartbeat.stuck() == []
