"""Time that leaps: a wait costs nothing, and everything that is due happens in a fixed order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

BUSY_STEPS = 50_000
"""So many steps of the loop without a wait mean that somebody runs in circles."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while there is work, and leaps to the next timer."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_Leaping(self._leap))

    def time(self) -> float:
        return self._seconds

    def _leap(self, seconds: float) -> None:
        self._seconds += seconds


class _Leaping(selectors.SelectSelector):
    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap
        self._steps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self._steps += 1
        if self._steps > BUSY_STEPS:
            self._steps = 0
            raise AssertionError("there is always something to do, and time stands still")
        if not ready and timeout != 0:
            assert timeout is not None, "everything waits for something that never comes"
            self._steps = 0
            self._leap(timeout)
        return ready


class InlineExecutor(Executor):
    """Does the work at once, in place of a pool of threads, so that every run is the same.

    What the work raises is raised where it was asked for, which is where it would be awaited.
    """

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*arguments, **named))
        return future
