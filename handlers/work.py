"""How much is done at once: CPU work in a few threads off the loop, and a count of who is inside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from handlers.errors import Busy

P = ParamSpec("P")
T = TypeVar("T")

FEW_ROWS = 1_000
"""So many items take about a millisecond, less than a thread is worth."""


class WorkPool:
    """Threads for CPU work, with a queue that refuses instead of growing.

    :param queue: how many calls may wait for a thread
    """

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(threads + queue)
        self._taken: set[Future[Any]] = set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread.

        A place is taken until the thread is done: giving up the wait does not stop the work.

        :raises Busy: when every thread and every place in the queue is taken
        """
        if not self._places.acquire(blocking=False):
            raise Busy("All threads are taken.")
        future: Future[T] = self._executor.submit(function, *args, **kwargs)
        self._taken.add(future)
        future.add_done_callback(self._free)
        return await asyncio.wrap_future(future)

    async def sized(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` here if it has few rows to go through, else in a thread.

        :raises Busy: as :meth:`run` does
        """
        if size <= FEW_ROWS:
            return function(*args, **kwargs)
        return await self.run(function, *args, **kwargs)

    async def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        await asyncio.gather(*map(asyncio.wrap_future, tuple(self._taken)), return_exceptions=True)
        self._executor.shutdown()

    def _free(self, future: Future[Any]) -> None:
        self._taken.discard(future)
        self._places.release()


class Gate:
    """Lets so many through at once, and turns the next away."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place.

        :raises Busy: when none is free
        """
        if self._inside >= self._places:
            raise Busy(f"{self._places} requests are being answered.")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
