"""Sharing places fairly: a newcomer does not queue behind all that a large project has waiting."""

from __future__ import annotations

import asyncio


class Turns:
    """Places that are taken in turn: a free one goes to whoever holds fewest, then to who waited longest."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._held: dict[int, int] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

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
        while self._free and (waiting := [one for one in self._waiting if not one[1].done()]):
            who, turn = min(waiting, key=lambda one: self._held.get(one[0], 0))
            self._waiting.remove((who, turn))
            self._free -= 1
            self._held[who] = self._held.get(who, 0) + 1
            turn.set_result(None)
