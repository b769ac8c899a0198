"""Recognition: which encoder is at work, asked of every member's canaries again and again.

Each round begins an epoch, and then asks. Where all that may have made vectors pass, they vouch for the
epochs before. Where one fails, what nobody vouches for is withdrawn, and made again. Where none is left
that is the encoder at work, another takes its place, with a collection of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import structlog

from daemon.encoders import canary
from daemon.encoders.pool import CANARY_SECONDS, Member, Pool
from daemon.encoders.soundness import SERVICE
from daemon.epochs import Epochs
from daemon.presence import UNKNOWN, Presence
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

ABSENT_SECONDS = 300.0
"""How long the vectors of a member that went away wait for it to vouch for them, while others work."""

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
    :ivar on_doubted: told that what an encoder answered of late may be another's
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
        self.on_doubted: Callable[[], None] = lambda: None
        self._presence = Presence(clock)
        self._asked: dict[Member, float] = {}
        self._owing: set[Member] = set()
        self._idle_since: float | None = clock()
        self._to_withdraw: set[str] = set()
        self._looked_back = False
        self._unfinished = False
        self._working = False
        self._wanted = asyncio.Event()

    def left_out(self) -> None:
        """Hear that a member was left out: who fails for that is woken by the next round that ends well."""
        self._working = False
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Look at who is due, for ever."""
        pause, said = 0.0, ""
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

    async def round(self, everyone: bool = False, patience: float = CANARY_SECONDS) -> None:
        """Ask the members that are due, or all, for their canaries, and act on the answers.

        What a round could not end is ended by the next.

        :param patience: longest, in seconds, that a member may hold up the others
        :raises Unavailable: when the store is away
        :raises Inconsistent: when an encoder goes by a name that stands for other vectors
        """
        await self._refresh()
        for one in self._pool.members:
            if one.problem and one.shown is None and one in self._asked:
                self._presence.missed(one)
        if not self._pool.at_work():
            self._working = False
        due = [
            one
            for one in self._pool.members
            if one.breaker.wait() <= 0 and (everyone or one.owes or self._due_in(one) <= 0)
        ]
        if not (due or self._unfinished):
            return
        self._unfinished = True
        before = self._pool.id
        vouched_for = self._epochs.current
        self._epochs.begin(await self._store.next_epoch())
        self._owing.update(one for one in due if one.owes)
        known = await self._store.encoders()
        await asyncio.gather(*(self._ask(one, known, patience) for one in due))
        if not self._pool.at_work():
            self._working = False
        if before is not None:
            await self._withdraw_of_strangers(before)
        if not self._pool.at_work():
            await self._choose()
        if before is None and self._pool.id is not None:
            await self._withdraw_of_strangers(self._pool.id)
        await self._vouch(vouched_for)
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
        if self._pool.members and not any(one.problem for one in self._pool.members):
            return
        try:
            found = await self._find(self._pool.members)
        except Unavailable as problem:
            if self._pool.problem != problem.problem:
                log.warning("encoder.not_found", problem=problem.problem)
            self._pool.problem = problem.problem
            return
        self._pool.problem = None
        gone = [one for one in self._pool.members if one not in found]
        self._pool.members = list(found)
        self._presence.keep(found)
        for one in gone:
            self._asked.pop(one, None)
            await one.encoder.close()

    def _next(self) -> float:
        """Return the seconds until somebody is due."""
        waits = [max(self._due_in(one), one.breaker.wait()) for one in self._pool.members]
        return max(0.0, min(waits, default=RETRY_SECONDS))

    def _due_in(self, member: Member) -> float:
        if member.problem and member.shown is None:
            return member.breaker.wait()
        at_rest = member.encoder_id == self._pool.id and not member.owes
        wanted = CHECK_SECONDS if at_rest or member.for_texts_only else BUSY_CHECK_SECONDS
        return self._asked.get(member, -wanted) + wanted - self._clock()

    async def _ask(self, member: Member, known: Sequence[EncoderRecord], patience: float) -> None:
        """Ask a member for its canaries, and note what they show it to be."""
        owed, member.owes = member.owes, False
        self._asked[member] = self._clock()
        try:
            live = await member.canaries(patience)
        except Unavailable as problem:
            self._presence.lost(member, problem)
            member.owes |= owed
        except asyncio.CancelledError:
            member.owes |= owed
            raise
        else:
            record = canary.match(live, known)
            member.shown = live
            if self._presence.recognised(member, record.id if record else None, self._pool.id):
                self.on_doubted()

    async def _withdraw_of_strangers(self, encoder_id: str) -> None:
        """Take away what nobody vouches for, where somebody may have made it who turned out to be another."""
        if any(one.shown is not None and one.encoder_id != encoder_id for one in self._owing):
            self._to_withdraw.add(encoder_id)
        self._owing.clear()
        for doubtful in tuple(self._to_withdraw):
            await self._withdraw(doubtful)

    async def _withdraw(self, encoder_id: str) -> None:
        self._epochs.begin(await self._store.next_epoch())
        async with self._epochs.withdrawing():
            count = await self._store.withdraw(encoder_id)
            # What was begun meanwhile may have read what is gone now, and comes too late as well.
            self._epochs.begin(await self._store.next_epoch())
        self._to_withdraw.discard(encoder_id)
        self._working = False  # who came too late waits for an encoder, and is to be woken
        if count:
            log.warning("encoder.vectors_withdrawn", encoder=encoder_id, count=count)
            self._on_changed()

    async def _choose(self) -> None:
        """Put a member to work: one that is the encoder most projects are answered by, if there is one."""
        present = [one for one in self._pool.members if one.shown is not None and not one.for_texts_only]
        answering = Counter((await self._store.pointers()).values()).most_common()
        ranks = {encoder_id: -number for encoder_id, number in answering}
        wanted = [one for one in present if one.encoder_id in ranks]
        if not wanted and answering and self._presence.away(self._pool.members) and not self._waited():
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
            await self._settle(before)
        self._pool.work_as(encoder_id, live.shape[1])
        for one in present:
            if one.encoder_id != encoder_id:
                log.error(
                    "encoder.left_out", at=one.name, encoder=encoder_id, seems=one.encoder_id or UNKNOWN
                )
        if before != encoder_id:
            log.info("encoder.at_work", encoder=encoder_id, before=before, at=chosen.name)
            self._on_changed()

    async def _settle(self, encoder_id: str) -> None:
        """Withdraw what those who are away may have made for an encoder that another takes over from."""
        late = [one for one in self._pool.members if one.owes and one.shown is None]
        if late:
            self._to_withdraw.add(encoder_id)
            await self._withdraw(encoder_id)
        for one in late:
            one.owes = False

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

    async def _vouch(self, epoch: int) -> None:
        """Confirm what was made before this round, if everybody who may have made it has passed."""
        at_work = self._pool.id
        owing = [one for one in self._pool.members if one.owes and one.shown is None]
        if at_work is None or not self._pool.at_work():
            return
        if any(self._presence.absent_for(one) > ABSENT_SECONDS for one in owing):
            await self._withdraw(at_work)
            for one in owing:
                one.owes = False
        elif not owing:
            await self._store.confirm(at_work, epoch)
            await self._look_back(at_work, epoch)

    async def _look_back(self, at_work: str, epoch: int) -> None:
        """Once: see to what other encoders made in the last life of this process."""
        if self._looked_back:
            return
        for record in await self._store.encoders():
            if record.id == at_work:
                continue
            if any(one.encoder_id == record.id and one.for_texts_only for one in self._pool.members):
                await self._store.confirm(record.id, epoch)
            else:
                await self._withdraw(record.id)
        self._looked_back = True
