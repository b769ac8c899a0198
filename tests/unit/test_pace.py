"""The pace over servers that are simulated to the millisecond."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random

import pytest

from daemon.pace import REST_SECONDS, Load, Pace

Cost = Callable[[int], float]
"""Seconds of a server's work on a batch of so many pictures."""


def linear(pictures: int) -> float:
    return 0.150 * pictures / 32


def with_overhead(pictures: int) -> float:
    return 0.100 + 0.002 * pictures


class Server:
    """So many batches are worked on at once, the others wait; each also spends some time on the way.

    :ivar loads: every load it was under
    """

    def __init__(self, workers: int, cost: Cost = linear, way: float = 0.004, noise: float = 0.0) -> None:
        self.workers, self.cost, self.way, self.noise = workers, cost, way, noise
        self.random = Random(0)
        self.now = 0.0
        self.loads: list[Load] = []
        self._free = [0.0] * 64
        self._ends: list[tuple[float, int, float, int]] = []
        self._numbers = count()

    def serve(self, pace: Pace, seconds: float, idle: float = 0.0) -> None:
        """Let time pass while there is always a batch to encode, or after `idle` seconds there is."""
        until = self.now + seconds
        while self.now < until:
            self.loads.append(pace.load)
            while len(self._ends) < pace.load.in_flight:
                self._begin(pace.load.batch, idle)
            self.now, _, took, pictures = heapq.heappop(self._ends)
            pace.note(pictures, took, self.now)

    def _begin(self, pictures: int, idle: float) -> None:
        asked = self.now + idle
        worker = min(range(self.workers), key=self._free.__getitem__)
        begun = max(asked + self.way, self._free[worker])
        ends = begun + self.cost(pictures) * self.random.uniform(1 - self.noise, 1 + self.noise)
        self._free[worker] = ends
        heapq.heappush(self._ends, (ends, next(self._numbers), ends - asked, pictures))


def pace(batch: int = 32, most_in_flight: int = 8, most_batch: int = 32) -> Pace:
    return Pace(batch, most_in_flight, most_batch)


@pytest.mark.parametrize("way", [0.0, 0.004, 0.050])
def test_a_server_that_works_on_one_batch_at_a_time_never_has_a_third_in_flight(way: float) -> None:
    server, found = Server(1, way=way, noise=0.1), pace(most_batch=64)
    server.serve(found, 3 * REST_SECONDS)
    assert max(load.in_flight for load in server.loads) == 2
    assert found.load.in_flight == 2


@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_a_server_that_works_on_several_gets_as_many(workers: int) -> None:
    server, found = Server(workers, way=0.0), pace()
    server.serve(found, 60)
    assert found.load.in_flight == workers


@pytest.mark.parametrize("workers", [2, 3, 4, 6])
def test_where_batches_take_longer_at_times_one_may_wait_beside_those_in_work(workers: int) -> None:
    server, found = Server(workers, noise=0.1), pace()
    server.serve(found, 60)
    assert workers <= found.load.in_flight <= workers + 1


def test_no_more_are_in_flight_than_allowed() -> None:
    server, found = Server(16), pace(most_in_flight=5)
    server.serve(found, 60)
    assert max(load.in_flight for load in server.loads) == 5


def test_where_one_batch_is_allowed_no_other_is_tried() -> None:
    server, found = Server(4), pace(most_in_flight=1)
    server.serve(found, 60)
    assert {load.in_flight for load in server.loads} == {1}


def test_where_each_batch_has_a_fixed_cost_they_grow() -> None:
    server, found = Server(1, with_overhead), pace(most_batch=100)
    server.serve(found, 60)
    assert found.load == Load(2, 100)


def test_where_a_larger_batch_takes_longer_in_proportion_they_stay_as_they_are() -> None:
    server, found = Server(1), pace(most_batch=256)
    server.serve(found, 60)
    assert found.load.batch == 32


def test_a_server_that_lost_its_workers_gets_less_soon() -> None:
    server, found = Server(4), pace()
    server.serve(found, 30)
    server.workers = 1
    server.serve(found, 30)
    assert found.load.in_flight == 2


def test_a_server_that_got_more_workers_gets_more_in_time() -> None:
    server, found = Server(1), pace()
    server.serve(found, 30)
    server.workers = 3
    server.serve(found, REST_SECONDS + 30)
    assert found.load.in_flight >= 3


def test_while_it_rests_nothing_is_tried() -> None:
    server, found = Server(1, noise=0.1), pace(most_batch=64)
    server.serve(found, 30)
    server.loads.clear()
    server.serve(found, REST_SECONDS - 60)
    assert set(server.loads) == {Load(2, 32)}


def test_an_encoder_that_failed_gets_no_more_than_at_first_for_a_while() -> None:
    server, found = Server(4, with_overhead), pace(most_batch=64)
    server.serve(found, 60)
    assert found.load == Load(4, 64)
    found.failed(server.now)
    server.serve(found, 50)
    assert found.load == Load(2, 32)
    server.serve(found, 60)
    assert found.load == Load(4, 64)


def test_nothing_is_concluded_while_the_encoder_waits_for_pictures() -> None:
    server, found = Server(4), pace(most_batch=64)
    server.serve(found, 60, idle=0.5)
    assert set(server.loads) == {Load(2, 32)}


def test_what_is_being_tried_when_the_pictures_run_short_is_given_up() -> None:
    server, found = Server(4), pace()
    while found.load.in_flight < 4:
        server.serve(found, 0.1)
    server.serve(found, 20, idle=0.5)
    assert found.load == Load(2, 32)


def test_batches_that_are_not_full_tell_nothing() -> None:
    found = pace()
    for number in range(1_000):
        found.note(31, 0.3, 0.15 * number)
        assert found.load == Load(2, 32)
