"""Room for bytes: who wants to hold many waits until others have let go of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from state.ports import Reserve


@dataclass(eq=False, slots=True)
class _Claim:
    """What one picture holds, and what it waits for."""

    held: int = 0
    wanted: int = 0
    granted: asyncio.Future[None] | None = None


class Room:
    """So many bytes may be held at once, handed out to the oldest claim first.

    Two things are let in although they do not fit, for nothing would ever make room for them: what is
    larger than all the room, once it is empty; and the oldest claim, when all that is held is held by
    claims that wait for more.

    :param size: in bytes
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._claims: list[_Claim] = []

    @contextmanager
    def claim(self) -> Iterator[Reserve]:
        """Give the means to reserve; what was reserved is given back at the end of the context."""
        claim = _Claim()
        self._claims.append(claim)
        try:
            yield partial(self._reserve, claim)
        finally:
            self._claims.remove(claim)
            self._free += claim.held
            self._grant()

    async def _reserve(self, claim: _Claim, size: int) -> None:
        if size <= claim.held:
            return
        claim.wanted = size
        claim.granted = asyncio.get_running_loop().create_future()
        self._grant()
        try:
            await claim.granted
        finally:
            claim.granted = None

    def _grant(self) -> None:
        for claim in self._claims:
            if claim.granted is None or claim.granted.done():
                continue
            more = claim.wanted - claim.held
            if more > self._free and any(one.held and not _waits(one) for one in self._claims):
                return
            self._free -= more
            claim.held = claim.wanted
            claim.granted.set_result(None)


def _waits(claim: _Claim) -> bool:
    return claim.granted is not None and not claim.granted.done()
