"""One daemon at a time on the collections of a source: a counter in the catalogue that its holder moves.

Best effort: a server knows no locks. Two that start within the same instant may both believe to hold
it, until the one whose claim was overwritten reads that at its next beat, and goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from state.errors import Inconsistent, Occupied, Unavailable
from state.stores.qdrant_catalogue import Catalogue, Record

BEAT_SECONDS = 10.0
"""Between two moves of the counter."""

PATIENCE_SECONDS = 30.0
"""A counter that stood still for so long belongs to nobody."""

LOOK_SECONDS = 1.0
RELEASE_SECONDS = 5.0

RECORD = "holder"
PROBE = "probe"


class Holder:
    """The right to write, from entering to leaving; whoever may only read needs none.

    :param name: of this process, for the others to name it
    :param instance: no other process that lives has the same; one that died may have had it
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        catalogue: Catalogue,
        may_write: Callable[[], bool],
        name: str,
        instance: str,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._catalogue = catalogue
        self._may_write = may_write
        self._name = name
        self._instance = instance
        self._clock = clock
        self._sleep = sleep
        self._count = 0
        self._holds = False

    async def __aenter__(self) -> Self:
        """Claim it, when nobody moves the counter.

        :raises Occupied: naming who does
        """
        try:
            await self._catalogue.drop(PROBE)
        except Unavailable:
            if self._may_write():
                raise
            return self
        await self._watch()
        await self._move()
        self._check(await self._catalogue.get(RECORD))
        self._holds = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go, so that the next one need not wait."""
        if self._holds:
            self._holds = False
            with suppress(Unavailable, Inconsistent, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    record = await self._catalogue.get(RECORD)
                    if record is not None and self._is_mine(record):
                        await self._catalogue.drop(RECORD)

    async def beat(self) -> None:
        """Move the counter for ever.

        :raises Occupied: when another has taken it over, because this one was long away
        """
        while True:
            await self._sleep(BEAT_SECONDS)
            try:
                if self._holds:
                    self._check(await self._catalogue.get(RECORD))
                    await self._move()
                else:
                    await self._catalogue.load()
            except Unavailable:
                continue

    async def _watch(self) -> None:
        """Return once the counter stood still, or there is none."""
        first = await self._catalogue.get(RECORD)
        if first is not None and first["instance"] == self._instance:
            return
        started = self._clock()
        while first is not None and self._clock() - started < PATIENCE_SECONDS:
            await self._sleep(LOOK_SECONDS)
            now = await self._catalogue.get(RECORD)
            if now is None:
                return
            if now != first:
                raise Occupied(f"{self._catalogue.collection} is held by {now['name']}")

    async def _move(self) -> None:
        self._count += 1
        await self._catalogue.put(RECORD, name=self._name, instance=self._instance, count=self._count)

    def _check(self, record: Record | None) -> None:
        if record is not None and not self._is_mine(record):
            self._holds = False
            raise Occupied(f"{self._catalogue.collection} was taken over by {record['name']}")

    def _is_mine(self, record: Record) -> bool:
        """Tell whether this very process wrote it, and not one on a copy of its state."""
        return (record["instance"], record["name"]) == (self._instance, self._name)
