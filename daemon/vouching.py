"""Vouching: what good canaries say nothing of is withdrawn, and made again.

An encoder's vectors are confirmed up to the latest epoch for which everybody who may have made some of them
has shown good canaries since. What is later is the debt of whoever made it, and goes where that turns out to
be another encoder, stays away for too long, or leaves.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from daemon.asking import Asked, Asking
from daemon.encoders.member import Member
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.presence import Presence
from state.ports import Store

ABSENT_SECONDS = 300.0
"""How long the vectors of a member that went away wait for it to vouch for them, while others work."""

log = structlog.get_logger()


class Vouching:
    """Confirms and withdraws.

    :param on_withdrawn: told how many vectors were withdrawn
    """

    def __init__(
        self,
        pool: Pool,
        store: Store,
        epochs: Epochs,
        asking: Asking,
        presence: Presence,
        on_withdrawn: Callable[[int], None],
    ) -> None:
        self._pool, self._store, self._epochs = pool, store, epochs
        self._asking, self._presence = asking, presence
        self._on_withdrawn = on_withdrawn
        self._vouched: dict[Member, int] = {}
        self._owing: set[str | None] = set()
        self._leaving: dict[Member, str] = {}
        self._to_withdraw: set[str] = set()
        self._looked_back = False

    def heard(self, asked: Asked, encoder_id: str | None) -> None:
        """Note which encoder a member has shown itself to be."""
        self._vouched[asked.member] = asked.epoch
        if asked.owed:
            self._owing.add(encoder_id)

    def leave(self, member: Member) -> bool:
        """Return whether a member that leaves is to be asked once more, for what it made."""
        if member not in self._vouched or not self._asking.in_debt(member) or self._pool.id is None:
            self._vouched.pop(member, None)
            return False
        self._leaving[member] = self._pool.id
        return True

    def leaving(self) -> list[Member]:
        """Return the members that are to be asked once more."""
        return list(self._leaving)

    def left(self, member: Member, encoder_id: str | None) -> bool:
        """Hear which encoder a member is, if that is known; return whether it was leaving and is gone now."""
        if member not in self._leaving:
            return False
        if encoder_id != (made_for := self._leaving.pop(member)):
            self._to_withdraw.add(made_for)
        self._vouched.pop(member, None)
        return True

    async def withdraw_of_strangers(self, encoder_id: str) -> None:
        """Take away what nobody vouches for, where somebody may have made it who turned out to be another."""
        if self._owing - {encoder_id}:
            self._to_withdraw.add(encoder_id)
        self._owing.clear()
        for doubtful in tuple(self._to_withdraw):
            await self._withdraw(doubtful)

    async def settle(self, encoder_id: str) -> None:
        """Withdraw what those who are away may have made for an encoder that another takes over from."""
        late = self._absent_debtors()
        if late:
            self._to_withdraw.add(encoder_id)
            await self._withdraw(encoder_id)
        for one in late:
            self._asking.forgive(one)

    async def vouch(self, epoch: int) -> None:
        """Confirm what everybody who may have made it vouches for.

        :param epoch: the latest before this round
        """
        at_work = self._pool.id
        if at_work is None or not self._pool.at_work():
            return
        await self._look_back(at_work, epoch)
        absent = self._absent_debtors()
        if any(self._presence.absent_for(one) > ABSENT_SECONDS for one in absent):
            await self._withdraw(at_work)
            for one in absent:
                self._asking.forgive(one)
            return
        debtors = [one for one in self._pool.members if self._asking.in_debt(one)]
        vouched = [self._vouched.get(one) for one in (*debtors, *self._leaving)]
        if None in vouched:
            return
        confirmed = min([epoch, *(one for one in vouched if one is not None)])
        await self._store.confirm(at_work, confirmed)

    def _absent_debtors(self) -> list[Member]:
        return [one for one in self._pool.members if one.shown is None and self._asking.in_debt(one)]

    async def _withdraw(self, encoder_id: str) -> None:
        self._epochs.begin(await self._store.next_epoch())
        async with self._epochs.withdrawing():
            count = await self._store.withdraw(encoder_id)
            # What was begun meanwhile may have read what is gone now, and comes too late as well.
            self._epochs.begin(await self._store.next_epoch())
        self._to_withdraw.discard(encoder_id)
        if count:
            log.warning("encoder.vectors_withdrawn", encoder=encoder_id, count=count)
        self._on_withdrawn(count)

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
