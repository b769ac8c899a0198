"""Presence: which members are away, which came back, and which turned out to be another encoder.

Each is said once in the log, however often it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from daemon.encoders.member import Member
from state.errors import Unavailable

FIRST_REST, LONGEST_REST = 1.0, 30.0
"""Seconds that one is left alone which failed again before it did anything: the first time, and at most."""

UNKNOWN = "a model not known here"

log = structlog.get_logger()


@dataclass(slots=True)
class _Seen:
    """What was seen of one member.

    :param away_since: monotonic seconds; ``None`` while it is there
    :param said: whether that was said
    :param relapses: how often in a row it failed, with good canaries, before it did anything
    :param recognised: whether it ever was, and `seems` as which encoder
    """

    away_since: float | None = None
    said: bool = False
    relapses: int = 0
    recognised: bool = False
    seems: str | None = None


class Presence:
    """Sees members come and go.

    :param clock: monotonic seconds
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[Member, _Seen] = {}

    def keep(self, members: Collection[Member]) -> None:
        """Forget all others."""
        self._seen = {one: seen for one, seen in self._seen.items() if one in members}

    def lost(self, member: Member, problem: Unavailable) -> None:
        """Leave a member out that did not answer its canaries."""
        news = member.leave_out(problem)
        self._absent(member)
        self._say(member, news)

    def missed(self, member: Member) -> None:
        """Note that a member is in doubt, for a call failed; it rests first where that is all it does."""
        if not self._absent(member):
            return
        seen = self._of(member)
        if not (member.barren and seen.recognised):
            seen.relapses = 0
            return
        if seen.relapses:
            member.breaker.doubted(min(FIRST_REST * 2.0 ** (seen.relapses - 1), LONGEST_REST))
            self._say(member)
        seen.relapses += 1

    def recognised(self, member: Member, encoder_id: str | None, at_work: str | None) -> bool:
        """Note what a member's canaries show it to be; return whether it was taken for another till now.

        :param at_work: the encoder it is meant to be
        """
        seen = self._of(member)
        if seen.away_since is not None and seen.said:
            seconds = round(self._clock() - seen.away_since, 1)
            log.info("encoder.returned", at=member.name, seconds=seconds)
        seen.away_since, seen.said = None, False
        before = seen.seems if seen.recognised else at_work
        news = not seen.recognised or encoder_id != seen.seems
        seen.recognised, seen.seems = True, encoder_id
        member.recognised_as(encoder_id)
        if news and not member.for_texts_only and at_work not in (None, encoder_id):
            log.error("encoder.left_out", at=member.name, encoder=at_work, seems=encoder_id or UNKNOWN)
        return before not in (None, encoder_id)

    def absent_for(self, member: Member) -> float:
        """Return the seconds a member has been away; 0 while it is there."""
        since = self._of(member).away_since
        return 0.0 if since is None else self._clock() - since

    def away(self, members: Collection[Member]) -> bool:
        """Whether one of these is away."""
        return any(self._of(one).away_since is not None for one in members)

    def _absent(self, member: Member) -> bool:
        """Note since when a member is absent; return whether that is news."""
        seen = self._of(member)
        if seen.away_since is not None:
            return False
        seen.away_since = self._clock()
        return True

    def _say(self, member: Member, news: bool = False) -> None:
        seen = self._of(member)
        if news or not seen.said:
            seen.said = True
            log.warning("encoder.away", at=member.name, problem=member.problem)

    def _of(self, member: Member) -> _Seen:
        return self._seen.setdefault(member, _Seen())
