"""Epochs: which span of time a vector was made in, and that none of a withdrawn span is written late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.encoders.soundness import SERVICE
from state.errors import Unavailable


class Epochs:
    """Knows the epoch that an encoder's answers belong to, and who is writing.

    :ivar current: that of an answer that arrives now; it only grows
    """

    def __init__(self, current: int) -> None:
        self.current = current
        self._withdrawn = -1
        self._writers = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._open = asyncio.Event()
        self._open.set()

    def begin(self, epoch: int) -> None:
        """Begin an epoch: what arrives from now on belongs to it."""
        self.current = max(self.current, epoch)

    @asynccontextmanager
    async def writing(self, began: int) -> AsyncIterator[None]:
        """Write what was begun in the epoch `began`, while nothing is withdrawn.

        :raises Unavailable: when vectors of that epoch were withdrawn since, for these may be of them
        """
        while not self._open.is_set():
            await self._open.wait()
        if began <= self._withdrawn:
            raise Unavailable(SERVICE, "vectors of another model were withdrawn meanwhile")
        self._writers += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._writers -= 1
            if not self._writers:
                self._quiet.set()

    @asynccontextmanager
    async def withdrawing(self) -> AsyncIterator[None]:
        """Withdraw vectors while nobody writes; what was begun in the current epoch or before comes too late.

        So another epoch is to begin before this ends.
        """
        self._withdrawn = self.current
        self._open.clear()
        try:
            await self._quiet.wait()
            yield
        finally:
            self._open.set()
