"""All encoders that can be asked: the one at work, behind any number of addresses, and others for texts.

A member is trusted only while its canaries say that it is the encoder asked for. One that fails is in doubt,
for what comes back may run another model: it is asked for them at once and given nothing until they are good
again. Who has nobody else to ask waits for that; a member that is in doubt for longer is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from daemon.breaker import Breaker
from daemon.encoders import canary
from daemon.encoders.soundness import SERVICE, encode_soundly
from daemon.turns import Lane
from state.errors import Rejected, Unavailable
from state.model import Pixels, TextEmbeddings, Vectors
from state.ports import Encoder

PAUSES = (0.1, 0.2, 0.4)
"""Seconds before a call that failed is made again; one that fails once more puts its member in doubt."""

LONGEST_PAUSES = 1.5
"""Most seconds of pauses in one call, those that the service asks for included."""

DOUBT_SECONDS = 2.0
"""How long a member that failed is waited for: with the pauses before, three seconds in all."""

TEXT_SECONDS = 20.0
"""Longest that texts may take one member: whoever waits for them has time left to ask another."""

CANARY_SECONDS = 30.0
"""Longest that the canaries may take, for a server that loads its model first."""

_Answer = TypeVar("_Answer")


class Member:
    """One encoder, asked again when it stumbles, and what is known of it.

    :param name: how people know it, without secrets
    :param for_texts_only: whether it is kept only to read texts for vectors it made once
    :ivar encoder_id: the encoder that its canaries showed it to be; ``None`` while nobody knows
    :ivar shown: its vectors of the canaries, as it gave them last; ``None`` while it is away
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


class Pool:
    """The `Encoder` port over all members.

    :param kind: of the members that are given pictures
    :param batch_size: pictures per call to begin with
    :param picture_side: longest side in pixels of the pictures they want
    :param patience: seconds that a member in doubt is waited for
    :ivar id: the encoder at work; stays while all its members are away
    :ivar problem: why no members are known
    :ivar lane: what texts go by, since somebody waits for them
    :ivar on_left_out: called when a member is in doubt, for somebody to ask for its canaries
    """

    def __init__(
        self,
        kind: str,
        batch_size: int,
        picture_side: int,
        members: Sequence[Member] = (),
        patience: float = DOUBT_SECONDS,
    ) -> None:
        self.kind, self.batch_size, self.picture_side = kind, batch_size, picture_side
        self.members = list(members)
        self.id: str | None = None
        self.dimension: int | None = None
        self.problem: str | None = None
        self.lane = Lane()
        self.on_left_out: Callable[[], None] = lambda: None
        self._patience = patience
        self._news = asyncio.Event()

    def work_as(self, encoder_id: str, dimension: int) -> None:
        """Put the members that are this encoder to work."""
        self.id, self.dimension = encoder_id, dimension

    def at_work(self) -> list[Member]:
        """Return the members that may be given pictures."""
        return self._known_as(self.id)

    def present(self) -> bool:
        """Whether pictures can be encoded: now, or as soon as a member is out of doubt."""
        return bool(self.at_work()) or self._returning(self.id)

    def tell(self) -> None:
        """Wake those who wait for a member in doubt: some canaries were looked at."""
        self._news.set()
        self._news.clear()

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        """Encode pictures by whichever member has least to do; by another one when that fails.

        :raises Rejected: when this batch cannot be encoded, or the answer is no vectors
        :raises Unavailable: when no member can be asked
        """
        dimension = self.dimension

        async def ask(member: Member) -> Vectors:
            member.owes = True
            vectors = await encode_soundly(member, pictures, dimension, member.shown)
            member.owes = True  # again: it may have been vouched for while it was at this
            return vectors

        return await self._ask(self.id, ask)

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts by the encoder at work.

        :raises Rejected: when a text means nothing to it
        """
        return await self.encode_texts_as(self.id, texts)

    async def encode_texts_as(self, encoder_id: str | None, texts: Sequence[str]) -> TextEmbeddings:
        """Encode texts by exactly that encoder, at work or not.

        :raises Rejected: when a text means nothing to it
        :raises Unavailable: when nobody who is that encoder can be asked
        """

        async def ask(member: Member) -> TextEmbeddings:
            try:
                async with asyncio.timeout(TEXT_SECONDS):
                    answer = await member.encode_texts(texts)
            except TimeoutError:
                raise Unavailable(SERVICE, f"no answer within {TEXT_SECONDS:g} s") from None
            if member.shown is not None and answer.vectors.shape != (len(texts), member.shown.shape[1]):
                raise Unavailable(SERVICE, "it answers with vectors of another dimension")
            return answer

        with self.lane.urgent():
            return await self._ask(encoder_id, ask, texts=True)

    async def close(self) -> None:
        """Close every member."""
        for member in self.members:
            await member.encoder.close()

    def _known_as(self, encoder_id: str | None, texts: bool = False) -> list[Member]:
        known = [one for one in self.members if one.encoder_id is not None and one.encoder_id == encoder_id]
        return [one for one in known if texts or not one.for_texts_only]

    async def _ask(
        self,
        encoder_id: str | None,
        ask: Callable[[Member], Awaitable[_Answer]],
        texts: bool = False,
    ) -> _Answer:
        """Ask the least loaded of those that are that encoder, and another when that one fails.

        One that failed is asked a second time when its canaries are good, and no third time.
        """
        failed: set[Member] = set()
        while members := await self._found(encoder_id, texts):
            member = min(members, key=lambda one: (one in failed, one.under_way))
            shown = member.shown
            try:
                answer = await ask(member)
            except Unavailable as problem:
                if member.encoder_id is not None and member.shown is shown:
                    member.doubt(problem, texts)
                    self.on_left_out()
                if member in failed:
                    raise
                failed.add(member)
                continue
            if member.encoder_id != encoder_id:
                # It came into doubt while it was at this; nobody knows which model answered, until they do.
                await self._found(encoder_id, texts)
            if member.encoder_id == encoder_id:
                member.answered(texts)
                return answer
        raise self._nobody(encoder_id)

    async def _found(self, encoder_id: str | None, texts: bool) -> list[Member]:
        """Return the members that are that encoder, after waiting for those in doubt when there are none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while not self._known_as(encoder_id, texts) and self._returning(encoder_id, texts):
                    await self._news.wait()
        return self._known_as(encoder_id, texts)

    def _returning(self, encoder_id: str | None, texts: bool = False) -> bool:
        """Whether somebody in doubt may soon be known as that encoder again.

        So it is while canaries are under way, and a little longer: when these fail too, they are soon asked
        once more.
        """
        return any(
            one.doubted_as is not None
            and one.doubted_as == encoder_id
            and (texts or not one.for_texts_only)
            and one.breaker.wait() < self._patience
            and not (one.away and one.breaker.open_for() >= self._patience)
            for one in self.members
        )

    def describe_absence(self) -> str:
        """Say why nobody who is the encoder at work can be asked."""
        away = [f"{one.name}: {one.problem}" for one in self.members if one.problem]
        return "; ".join(away) or self.problem or "not recognised yet"

    def _nobody(self, encoder_id: str | None) -> Unavailable:
        if encoder_id != self.id:
            return Unavailable(SERVICE, f"the encoder {encoder_id} cannot be asked now")
        waits = [one.breaker.wait() for one in self.members if one.problem]
        return Unavailable(SERVICE, self.describe_absence(), min(waits, default=None))
