"""The pace of an encoder: how many batches it is given at once, and how large, found by its throughput.

A server that works on one batch at a time gains nothing from more than two: one in work, and one that
waits beside it. A server that works on several gains nearly as much from each. So a further batch is only
tried where the last one paid, and the first kind never sees a third, behind which a search would wait.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from math import ceil
from statistics import linear_regression

WORTH = 1.05
"""How many times the throughput a step up must bring to be kept."""

PAYS = 0.5
"""A batch at once paid when it brought this share of what the others bring each."""

ROUNDS, LEAST_BATCHES = 6, 12
"""A measurement takes so many batches for each that is in flight, and no fewer than that."""

SATURATED = 0.7
"""Share of the allowed batches that must have been in flight for their throughput to be the encoder's."""

FALLEN = 0.75
"""Share of the throughput found last below which another pace is looked for at once."""

REST_SECONDS, RECOVERY_SECONDS = 600.0, 60.0
"""Until another pace is looked for again; and after the encoder failed, or had too little to do to tell."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an encoder is given: batches at once, and pictures in each."""

    in_flight: int
    batch: int


class _Measurement:
    """Batches that ended under one load.

    :param skip: how many do not count, since they were begun under another one
    """

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._ends: list[float] = []
        self._seconds = 0.0

    def __len__(self) -> int:
        return max(0, len(self._ends) - 1)

    def add(self, seconds: float, now: float) -> None:
        """Add a batch; the first one that is not skipped only begins the measurement."""
        if self._skip:
            self._skip -= 1
            return
        self._seconds += seconds if self._ends else 0.0
        self._ends.append(now)

    def rate(self, load: Load) -> float | None:
        """Return the pictures per second; ``None`` when the encoder could have had more to do."""
        elapsed = self._ends[-1] - self._ends[0]
        # Little's law: those in flight are the batches per second times the seconds that each takes.
        if elapsed <= 0 or self._seconds < SATURATED * load.in_flight * elapsed:
            return None
        # Batches end in bursts, and where the first and the last one fell in theirs says nothing.
        return load.batch / linear_regression(range(len(self._ends)), self._ends).slope


_Climb = Generator[Load, float, tuple[Load, float]]
"""Yields loads to measure, is sent each one's pictures per second, returns the best with its own."""


class Pace:
    """Climbs to the load with the highest throughput; of two as good as each other, to the lower one.

    :param batch: pictures per batch to begin with, and at least
    :param most_in_flight: batches at once at most; at least there are two, where that is allowed
    :param most_batch: pictures per batch at most
    :ivar load: what the encoder is to be given now
    """

    def __init__(self, batch: int, most_in_flight: int, most_batch: int) -> None:
        self._least = self._home = self.load = Load(min(2, most_in_flight), min(batch, most_batch))
        self._most = Load(most_in_flight, most_batch)
        self._best = 0.0
        self._rested = 0.0
        self._climb: _Climb | None = self._begun()
        self._measurement = _Measurement()

    def note(self, pictures: int, seconds: float, now: float) -> None:
        """Take notice of a batch that was encoded.

        :param seconds: from when it took one of the places until it gave it back
        :param now: monotonic seconds
        """
        if pictures != self.load.batch:
            self._measurement = _Measurement(skip=self.load.in_flight)
            return
        self._measurement.add(seconds, now)
        if len(self._measurement) < _batches_to_tell(self.load.in_flight):
            return
        rate = self._measurement.rate(self.load)
        self._measurement = _Measurement()
        if rate is not None:
            self._measured(rate, now)
        elif self.load != self._home:
            self._settle(self._home, now + RECOVERY_SECONDS)

    def failed(self, now: float) -> None:
        """Go back to the beginning: the encoder could not answer."""
        self._best = 0.0
        self._settle(self._least, now + RECOVERY_SECONDS)

    def _measured(self, rate: float, now: float) -> None:
        if self._climb is None:
            if rate >= FALLEN * self._best and now < self._rested:
                return
            self._climb = self._begun()
        try:
            load = self._climb.send(rate)
        except StopIteration as end:
            load, self._best = end.value
            self._settle(load, now + REST_SECONDS)
        else:
            self._take(load)

    def _settle(self, load: Load, until: float) -> None:
        self._climb, self._home, self._rested = None, load, until
        self._take(load)

    def _take(self, load: Load) -> None:
        if load != self.load:
            self._measurement = _Measurement(skip=max(load.in_flight, self.load.in_flight))
            self.load = load

    def _begun(self) -> _Climb:
        climb = self._climbing(self.load)
        next(climb)
        return climb

    def _climbing(self, at: Load) -> _Climb:
        rate = yield at
        if self._least.in_flight < self._most.in_flight:
            at, rate = yield from self._climbing_in_flight(at, rate)
        return (yield from self._climbing_in_size(at, rate))

    def _climbing_in_flight(self, at: Load, rate: float) -> _Climb:
        below = yield _more(at, -1)
        while at.in_flight > self._least.in_flight and rate < WORTH * below:
            at, rate = _more(at, -1), below
            below = yield _more(at, -1)
        while at.in_flight < self._most.in_flight and rate - below >= PAYS * below / (at.in_flight - 1):
            above = yield _more(at, 1)
            if above < WORTH * rate:
                break
            at, rate, below = _more(at, 1), above, rate
        return at, rate

    def _climbing_in_size(self, at: Load, rate: float) -> _Climb:
        while at.batch > self._least.batch:
            smaller = replace(at, batch=max(at.batch // 2, self._least.batch))
            below = yield smaller
            if rate >= WORTH * below:
                break
            at, rate = smaller, below
        while at.batch < self._most.batch:
            larger = replace(at, batch=min(at.batch * 2, self._most.batch))
            above = yield larger
            if above < WORTH * rate:
                break
            at, rate = larger, above
        return at, rate


def _batches_to_tell(in_flight: int) -> int:
    """Return a whole number of rounds, for batches that are begun together end together."""
    return in_flight * max(ROUNDS, ceil(LEAST_BATCHES / in_flight))


def _more(load: Load, batches: int) -> Load:
    return replace(load, in_flight=load.in_flight + batches)
