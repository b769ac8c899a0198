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

from daemon.encoders.member import Member
from daemon.encoders.soundness import SERVICE, encode_soundly
from daemon.turns import Lane
from state.errors import Unavailable
from state.model import Pixels, TextEmbeddings, Vectors

DOUBT_SECONDS = 2.0
"""How long a member that failed is waited for: with the pauses before, three seconds in all."""

TEXT_SECONDS = 20.0
"""Longest that texts may take one member: whoever waits for them has time left to ask another."""

_Answer = TypeVar("_Answer")


class Pool:
    """The `Encoder` port over all members.

    :param kind: of the members that are given pictures
    :param batch_size: pictures per call to begin with
    :param picture_side: longest side in pixels of the pictures they want
    :param patience: seconds that a member in doubt is waited for
    :ivar id: the encoder at work; stays while all its members are away
    :ivar problem: why no members are known
    :ivar lane: what texts go by, since somebody waits for them
    :ivar on_doubt: called when a member is in doubt, for somebody to ask for its canaries
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
        self.on_doubt: Callable[[], None] = lambda: None
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
                    self.on_doubt()
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
