"""Recognition: which encoder is at work, asked of every member's canaries again and again.

Each round begins an epoch, and then asks. Where all that may have made vectors pass, they vouch for the
epochs before. Where one fails, what nobody vouches for is withdrawn, and made again. Where none is left
that is the encoder at work, another takes its place, with a collection of its own. Who is slow to answer is
heard in a later round, and delays only itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import structlog

from daemon.asking import Asked, Asking
from daemon.encoders import canary
from daemon.encoders.member import CANARY_SECONDS, Member
from daemon.encoders.pool import Pool
from daemon.encoders.soundness import SERVICE
from daemon.epochs import Epochs
from daemon.presence import UNKNOWN, Presence
from daemon.vouching import Vouching
from state.errors import EmbedsyncError, Unavailable
from state.model import EncoderRecord, Vectors
from state.ports import Store

CHECK_SECONDS = 600.0
"""Longest between two looks at a member's canaries."""

BUSY_CHECK_SECONDS = 60.0
"""The same while it makes vectors, for so much of them may have to be made again, and while it is left out
for running another model."""

GRACE_SECONDS = 60.0
"""How long a member that is away may hold up the choice of another encoder."""

HURRY_SECONDS = 1.0
"""How long a round waits for those it asks."""

LAST_SECONDS = 3.0
"""How long one may take for its canaries that is asked for the last time."""

RETRY_SECONDS = 5.0
"""Seconds until a round that the store did not allow to end is begun again."""

Find = Callable[[Sequence[Member]], Awaitable[Sequence[Member]]]
"""Returns the members there are now; those it is given, where nothing changed."""

log = structlog.get_logger()


class Recognition:
    """Keeps the pool's members recognised.

    :param on_changed: told that another encoder is at work, or that vectors were withdrawn
    :param on_return: told that the encoder at work can be asked again
    :param clock: monotonic seconds
    :ivar on_mistaken: told that what an encoder answered of late may be another's
    """

    def __init__(
        self,
        pool: Pool,
        store: Store,
        epochs: Epochs,
        find: Find,
        on_changed: Callable[[], None],
        on_return: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._pool, self._store, self._epochs = pool, store, epochs
        self._find = find
        self._on_changed, self._on_return = on_changed, on_return
        self._clock = clock
        self.on_mistaken: Callable[[], None] = lambda: None
        self._wanted = asyncio.Event()
        self._presence = Presence(clock)
        self._asking = Asking(self._wanted.set)
        self._vouching = Vouching(pool, store, epochs, self._asking, self._presence, self._withdrawn)
        self._asked: dict[Member, float] = {}
        self._idle_since: float | None = clock()
        self._unfinished = False
        self._working = False

    def doubted(self) -> None:
        """Hear that a member is in doubt: who fails for that is woken by the next round that ends well."""
        self._working = False
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Look at who is due, for ever."""
        pause, said = 0.0, ""
        try:
            while True:
                with suppress(TimeoutError):
                    # One at rest may be given work at any time, which makes it due sooner.
                    async with asyncio.timeout(max(pause, min(self._next(), BUSY_CHECK_SECONDS))):
                        await self._wanted.wait()
                self._wanted.clear()
                try:
                    await self.round()
                    pause, said = 0.0, ""
                except EmbedsyncError as problem:
                    if said != str(problem):
                        said = str(problem)
                        log.warning("encoder.not_checked", problem=said)
                    pause = RETRY_SECONDS
        finally:
            await self._asking.stop()

    async def finish(self) -> None:
        """Ask those that owe something once more: the next life may have other members.

        To be called when nothing is encoded any more. What nobody vouches for is left to the next life.
        """
        owing = [one for one in self._pool.at_work() if one.owes and one not in self._asking]
        with suppress(EmbedsyncError, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS + 2):
                if owing or self._unfinished:
                    await self._look_at(owing, LAST_SECONDS, LAST_SECONDS + 1)
        await self._asking.stop()
        for one in self._vouching.leaving():
            await one.encoder.close()

    async def round(self, everyone: bool = False, patience: float = CANARY_SECONDS) -> None:
        """Ask the members that are due for their canaries, and act on the answers there are.

        What a round could not end is ended by the next.

        :param everyone: ask all that may be asked, and wait for each of them
        :param patience: longest, in seconds, that a member may take
        :raises Unavailable: when the store is away
        :raises Inconsistent: when an encoder goes by a name that stands for other vectors
        """
        await self._refresh()
        for one in self._pool.members:
            if one.absent and one in self._asked:
                self._presence.missed(one)
        due = [
            one
            for one in self._pool.members
            if one not in self._asking
            and one.breaker.wait() <= 0
            and (everyone or one.owes or self._due_in(one) <= 0)
        ]
        due += [one for one in self._vouching.leaving() if one not in self._asking]
        try:
            await self._look_at(due, patience, patience + 1 if everyone else HURRY_SECONDS)
        except asyncio.CancelledError:
            await self._asking.stop()
            raise

    async def _look_at(self, due: Sequence[Member], patience: float, hurry: float) -> None:
        """Ask these, and act on all answers that are there when these have had time to hurry."""
        if not self._pool.at_work():
            self._working = False
        if not (due or self._unfinished or self._asking.answered()):
            return
        self._unfinished = True
        before = self._pool.id
        made = self._epochs.current
        self._epochs.begin(await self._store.next_epoch())
        for one in due:
            self._asked[one] = self._clock()
            self._asking.ask(one, made, patience)
        await self._asking.wait(due, hurry)
        known = await self._store.encoders()
        gone = [asked.member for asked in self._asking.take() if self._hear(asked, known)]
        self._pool.tell()
        for one in gone:
            await one.encoder.close()
        if not self._pool.at_work():
            self._working = False
        if before is not None:
            await self._vouching.withdraw_of_strangers(before)
        if not self._pool.at_work():
            await self._choose()
        if before is None and self._pool.id is not None:
            await self._vouching.withdraw_of_strangers(self._pool.id)
        await self._vouching.vouch(made)
        if self._pool.at_work():
            self._idle_since = None
            if not self._working:
                self._working = True
                self._on_return()
        elif self._idle_since is None:
            self._idle_since = self._clock()
        self._unfinished = False

    async def _refresh(self) -> None:
        """See whether there are other members now, where one is away or none is known."""
        members = self._pool.members
        if members and all(one.merely_doubted or not one.problem for one in members):
            return
        try:
            found = await self._find(members)
        except Unavailable as problem:
            if self._pool.problem != problem.problem:
                log.warning("encoder.not_found", problem=problem.problem)
            self._pool.problem = problem.problem
            return
        self._pool.problem = None
        self._pool.members = list(found)
        self._presence.keep(found)
        for one in members:
            if one not in found:
                one.retire()
                self._asked.pop(one, None)
                await self._asking.stop([one])
                if not self._vouching.leave(one):
                    await one.encoder.close()

    def _next(self) -> float:
        """Return the seconds until somebody is due."""
        idle = [one for one in self._pool.members if one not in self._asking]
        waits = [max(self._due_in(one), one.breaker.wait()) for one in idle]
        return max(0.0, min(waits, default=RETRY_SECONDS))

    def _due_in(self, member: Member) -> float:
        if member.absent:
            return member.breaker.wait()
        at_rest = member.encoder_id == self._pool.id and not member.owes
        wanted = CHECK_SECONDS if at_rest or member.for_texts_only else BUSY_CHECK_SECONDS
        return self._asked.get(member, -wanted) + wanted - self._clock()

    def _hear(self, asked: Asked, known: Sequence[EncoderRecord]) -> bool:
        """Note what a member's canaries show it to be; return whether it was leaving and is gone now."""
        member, live, problem = asked.member, None, None
        try:
            live = asked.task.result()
        except Unavailable as away:
            problem = away
        record = None if live is None else canary.match(live, known)
        encoder_id = record.id if record else None
        if self._vouching.left(member, encoder_id):
            self._asked.pop(member, None)
            return True
        if problem is not None:
            self._presence.lost(member, problem)
        elif not asked.overtaken:
            member.shown = live
            self._vouching.heard(asked, encoder_id)
            if self._presence.recognised(member, encoder_id, self._pool.id):
                self.on_mistaken()
        return False

    def _withdrawn(self, count: int) -> None:
        self._working = False  # who came too late waits for an encoder, and is to be woken
        if count:
            self._on_changed()

    async def _choose(self) -> None:
        """Put a member to work: one that is the encoder most projects are answered by, if there is one."""
        present = [one for one in self._pool.members if one.shown is not None and not one.for_texts_only]
        answering = Counter((await self._store.pointers()).values()).most_common()
        ranks = {encoder_id: -number for encoder_id, number in answering}
        wanted = [one for one in present if one.encoder_id in ranks]
        late = bool(self._asking) or self._presence.away(self._pool.members)
        if not wanted and answering and late and not self._waited():
            return
        candidates = sorted(wanted or present, key=lambda one: ranks.get(one.encoder_id or "", 0))
        candidates.sort(key=lambda one: one.encoder_id is None)
        if candidates:
            await self._put_to_work(candidates[0], present)

    def _waited(self) -> bool:
        return self._idle_since is not None and self._clock() - self._idle_since >= GRACE_SECONDS

    async def _put_to_work(self, chosen: Member, present: Sequence[Member]) -> None:
        live = chosen.shown
        assert live is not None
        if chosen.encoder_id is None:
            if not await self._is_steady(chosen, live):
                return
            record = await canary.enter(chosen.encoder, live, self._store)
            for one in self._pool.members:
                if one.shown is not None and canary.agree(record.canaries, one.shown):
                    self._presence.recognised(one, record.id, None)
        before, encoder_id = self._pool.id, chosen.encoder_id
        assert encoder_id is not None
        if before not in (None, encoder_id):
            await self._vouching.settle(before)
        self._pool.work_as(encoder_id, live.shape[1])
        for one in present:
            if one.encoder_id != encoder_id:
                log.error(
                    "encoder.left_out", at=one.name, encoder=encoder_id, seems=one.encoder_id or UNKNOWN
                )
        if before != encoder_id:
            log.info("encoder.at_work", encoder=encoder_id, before=before, at=chosen.name)
            self._on_changed()

    async def _is_steady(self, member: Member, live: Vectors) -> bool:
        """Whether a model nobody knows answers the same again: one just being swapped is none to keep."""
        try:
            if canary.agree(live, await member.canaries()):
                return True
            problem = Unavailable(SERVICE, "its canaries differ from one time to the next")
        except Unavailable as away:
            problem = away
        self._presence.lost(member, problem)
        return False
