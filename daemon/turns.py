"""Who goes first: a newcomer before what a large project has waiting, and a search before any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Turns:
    """Places that are taken in turn: a free one goes to whoever holds fewest, then to who waited longest."""

    def __init__(self, places: int) -> None:
        self._places = self._free = places
        self._held: dict[int, int] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def resize(self, places: int) -> None:
        """Have so many places from now on; those held beyond it are not given out again."""
        self._free += places - self._places
        self._places = places
        self._grant()

    async def acquire(self, who: object) -> None:
        """Wait for a place."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((id(who), turn))
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((id(who), turn))
            else:
                self.release(who)
            raise

    def release(self, who: object) -> None:
        """Give a place back."""
        self._free += 1
        self._held[id(who)] -= 1
        if not self._held[id(who)]:
            del self._held[id(who)]
        self._grant()

    def _grant(self) -> None:
        while self._free > 0 and (waiting := [one for one in self._waiting if not one[1].done()]):
            who, turn = min(waiting, key=lambda one: self._held.get(one[0], 0))
            self._waiting.remove((who, turn))
            self._free -= 1
            self._held[who] = self._held.get(who, 0) + 1
            turn.set_result(None)


class Lane:
    """A lane for what somebody waits for; other work gives way to it before it starts.

    :param patience: seconds that work gives way at most, so that it is never starved
    """

    def __init__(self, patience: float = 2.0) -> None:
        self._patience = patience
        self._urgent = 0
        self._clear = asyncio.Event()
        self._clear.set()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Go first while the context lasts."""
        self._urgent += 1
        self._clear.clear()
        try:
            yield
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._clear.set()

    async def give_way(self) -> None:
        """Wait until nothing urgent is left, or patience ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while self._urgent:
                    await self._clear.wait()
