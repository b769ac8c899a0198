"""When a service that failed is asked again."""

from __future__ import annotations

import pytest

from daemon.breaker import LONGEST_ASKED_FOR, LONGEST_PAUSE, Breaker


class Time:
    """A clock that a test turns, and a die that always shows the same share of what it may."""

    def __init__(self, share: float = 1.0) -> None:
        self.now = 100.0
        self.share = share
        self.asked: list[float] = []

    def clock(self) -> float:
        return self.now

    def jitter(self, longest: float) -> float:
        self.asked.append(longest)
        return longest * self.share


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker("clip", time.clock, time.jitter)


def test_a_service_that_never_failed_may_be_asked(breaker: Breaker) -> None:
    assert breaker.open_for() == breaker.wait() == 0


def test_one_that_failed_is_left_alone_until_its_pause_is_over(breaker: Breaker, time: Time) -> None:
    breaker.failed()
    time.now += 0.4
    assert breaker.wait() == pytest.approx(0.6)
    time.now += 0.6
    assert breaker.wait() == 0
    assert breaker.open_for() == pytest.approx(1)


def test_one_in_doubt_may_be_looked_at_at_once_or_when_it_has_rested(breaker: Breaker, time: Time) -> None:
    breaker.doubted()
    time.now += 0.25
    assert (breaker.open_for(), breaker.wait()) == (0.25, 0)
    breaker.doubted(2)
    assert (breaker.open_for(), breaker.wait()) == (0.25, 2)
    assert time.asked == []
    time.now += 2
    breaker.failed()
    assert time.asked == [1]


def test_the_pauses_double_up_to_their_cap_and_begin_anew_after_a_success(
    breaker: Breaker, time: Time
) -> None:
    for _ in range(7):
        breaker.failed()
        time.now += breaker.wait()
    breaker.succeeded()
    assert breaker.open_for() == breaker.wait() == 0
    breaker.failed()
    assert time.asked == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, 1]


def test_a_pause_is_jittered_as_a_whole() -> None:
    time = Time(share=0.25)
    breaker = Breaker("clip", time.clock, time.jitter)
    breaker.failed()
    assert breaker.wait() == 0.25


def test_calls_that_fail_together_are_one_failure(breaker: Breaker, time: Time) -> None:
    for _ in range(5):
        breaker.failed()
        time.now += 0.01
    assert time.asked == [1]


def test_what_the_service_asked_for_is_the_least_to_wait(breaker: Breaker, time: Time) -> None:
    breaker.failed(20)
    assert breaker.wait() == 20
    breaker.failed(40)
    assert breaker.wait() == 40
    breaker.failed(3)
    assert breaker.wait() == 40


@pytest.mark.parametrize(("asked", "waited"), [(1e12, LONGEST_ASKED_FOR), (-5.0, 1.0), (0.0, 1.0)])
def test_a_service_cannot_ask_for_nonsense(breaker: Breaker, asked: float, waited: float) -> None:
    breaker.failed(asked)
    assert breaker.wait() == waited
