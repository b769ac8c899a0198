"""Asking members for their canaries, each by a task of its own: one that hangs delays nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from daemon.encoders.member import Member
from state.model import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A member's canaries, on their way or there.

    :param epoch: the latest before it was asked: up to there good ones vouch for what it made
    :param owed: whether there was anything to vouch for
    :param shown: its canaries before
    """

    member: Member
    epoch: int
    owed: bool
    shown: Vectors | None
    task: asyncio.Task[Vectors]

    @property
    def overtaken(self) -> bool:
        """Whether a call failed since it was asked: it may be another by now."""
        return self.member.shown is not self.shown


class Asking:
    """Who is being asked.

    :param on_late_answer: told that somebody answered, or could not, whom `wait` did not wait for
    """

    def __init__(self, on_late_answer: Callable[[], None]) -> None:
        self._on_late_answer = on_late_answer
        self._asked: dict[Member, Asked] = {}

    def __contains__(self, member: Member) -> bool:
        return member in self._asked

    def __bool__(self) -> bool:
        return bool(self._asked)

    def ask(self, member: Member, epoch: int, patience: float) -> None:
        """Ask a member, which owes nothing but what it makes from now on.

        :param patience: longest it may take, in seconds
        """
        owed, member.owes = member.owes, False
        task = asyncio.create_task(member.canaries(patience))
        self._asked[member] = Asked(member, epoch, owed, member.shown, task)

    def in_debt(self, member: Member) -> bool:
        """Whether a member may have made vectors that nobody vouches for yet."""
        asked = self._asked.get(member)
        return member.owes or (asked is not None and asked.owed)

    def forgive(self, member: Member) -> None:
        """Have a member owe nothing: what it may have made is made again."""
        member.owes = False
        if asked := self._asked.get(member):
            self._asked[member] = replace(asked, owed=False)

    async def wait(self, members: Collection[Member], seconds: float) -> None:
        """Wait for the answers of these, so long at most."""
        if tasks := [self._asked[one].task for one in members]:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.add_done_callback(lambda _: self._on_late_answer())

    def answered(self) -> list[Asked]:
        """Return those who have answered, or could not."""
        return [one for one in self._asked.values() if one.task.done()]

    def take(self) -> list[Asked]:
        """Return them, to be asked again some day; who could not answer, or not in time, owes what it did."""
        done = self.answered()
        for one in done:
            del self._asked[one.member]
            one.member.owes |= one.owed and (one.overtaken or one.task.exception() is not None)
        return done

    async def stop(self, members: Collection[Member] | None = None) -> None:
        """Ask these, or nobody, any more; they owe what they did."""
        left = [one for one in self._asked.values() if members is None or one.member in members]
        for one in left:
            del self._asked[one.member]
            one.member.owes |= one.owed
            one.task.cancel()
        await asyncio.gather(*(one.task for one in left), return_exceptions=True)
