"""One encoder of the pool: how it is asked, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from daemon.breaker import Breaker
from daemon.encoders import canary
from daemon.encoders.soundness import SERVICE
from state.errors import Rejected, Unavailable
from state.model import Pixels, TextEmbeddings, Vectors
from state.ports import Encoder

PAUSES = (0.1, 0.2, 0.4)
"""Seconds before a call that failed is made again; one that fails once more puts its member in doubt."""

LONGEST_PAUSES = 1.5
"""Most seconds of pauses in one call, those that the service asks for included."""

CANARY_SECONDS = 30.0
"""Longest that the canaries may take, for a server that loads its model first."""

_Answer = TypeVar("_Answer")


class Member:
    """One encoder, asked again when it stumbles, and what is known of it.

    After good canaries it is known as an encoder, or a stranger. Otherwise it is `absent`: not asked yet, in
    doubt since a call failed (`merely_doubted`), or `away` since its canaries could not be had.

    :param name: how people know it, without secrets
    :param for_texts_only: whether it is kept only to read texts for vectors it made once
    :ivar encoder_id: the encoder that its canaries showed it to be; ``None`` while nobody knows
    :ivar shown: its vectors of the canaries, as it gave them last; ``None`` while it is absent
    :ivar owes: whether it may have made vectors that no good canary vouches for yet
    :ivar problem: why it is left out; ``None`` while it answers
    :ivar doubted_as: the encoder it was until it failed; ``None`` when its canaries were had since
    :ivar away: whether its canaries could not be had when they were asked for last
    :ivar barren: whether it failed before it did anything of the kind since it was let in
    :ivar under_way: calls it is at
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        breaker: Breaker,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        for_texts_only: bool = False,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.breaker = breaker
        self.for_texts_only = for_texts_only
        self.batch_size = encoder.batch_size
        self.encoder_id: str | None = None
        self.shown: Vectors | None = None
        self.owes = not for_texts_only
        self.problem: str | None = "not asked yet"
        self.doubted_as: str | None = None
        self.away = True
        self.barren = False
        self.under_way = 0
        self._answered: set[bool] = set()
        self._sleep = sleep

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures, as the `Encoder` port says."""
        return await self._persistently(lambda: self.encoder.encode_images(pictures))

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts, as the `Encoder` port says."""
        return await self._persistently(lambda: self.encoder.encode_texts(texts))

    async def canaries(self, patience: float = CANARY_SECONDS) -> Vectors:
        """Return its vectors of the canaries, shape ``(n, dimension)``.

        :param patience: seconds they may take
        :raises Unavailable: when it does not answer, or refuses them
        """
        try:
            async with asyncio.timeout(patience):
                try:
                    return await canary.encode(self)
                except (Rejected, Unavailable) as problem:
                    # One that only stumbles, as over a NaN or a restart, is not to be called away for that.
                    pause = max(PAUSES[0], getattr(problem, "retry_after", None) or 0.0)
                    if self.away or pause > LONGEST_PAUSES:
                        raise
                await self._sleep(pause)
                return await canary.encode(self)
        except Rejected as problem:
            raise Unavailable(SERVICE, f"rejects its canaries: {problem}") from problem
        except TimeoutError:
            raise Unavailable(SERVICE, f"no answer within {patience:g} s") from None

    def recognised_as(self, encoder_id: str | None) -> None:
        """Note what its canaries show it to be; ``None``: nothing the catalogue knows."""
        if self.encoder_id is None:
            self._answered.clear()
        self.encoder_id = encoder_id
        self.problem = None if encoder_id else "it runs another model"
        self.doubted_as, self.away = None, False
        self.breaker.succeeded()

    def answered(self, texts: bool) -> None:
        """Note that a call for texts, or for pictures, came to a good end."""
        self._answered.add(texts)

    def doubt(self, problem: Unavailable, texts: bool) -> None:
        """Ask it nothing but its canaries, and these at once: a call for texts, or for pictures, failed."""
        self.barren = texts not in self._answered
        self.away = False
        self._forget(problem)
        self.breaker.doubted(problem.retry_after)

    def leave_out(self, problem: Unavailable) -> bool:
        """Ask it nothing for a while, as its canaries could not be had; return whether the reason is news."""
        self.away = True
        self.breaker.failed(problem.retry_after)
        return self._forget(problem)

    def retire(self) -> None:
        """Give it nothing any more: it is not among the members now."""
        self.encoder_id = self.shown = self.doubted_as = None

    @property
    def absent(self) -> bool:
        """Whether it is not there to be judged: not asked yet, in doubt, or away."""
        return bool(self.problem) and self.shown is None

    @property
    def merely_doubted(self) -> bool:
        """Whether all that is known against it is a call that failed."""
        return self.doubted_as is not None and not self.away

    def _forget(self, problem: Unavailable) -> bool:
        before, self.problem = self.problem, problem.problem.removeprefix(f"{self.name}: ")
        self.doubted_as = self.encoder_id or self.doubted_as
        self.encoder_id = self.shown = None
        return self.problem != before

    async def _persistently(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        self.under_way += 1
        left, shown = LONGEST_PAUSES, self.shown
        try:
            for pause in PAUSES:
                try:
                    return await ask()
                except Unavailable as problem:
                    seconds = max(pause, problem.retry_after or 0.0)
                    left -= seconds
                    if left < 0 or self.shown is not shown:
                        raise
                    await self._sleep(seconds)
            return await ask()
        finally:
            self.under_way -= 1
