"""Presence: which members are away, which came back, and which turned out to be another encoder.

Each is said once in the log, however often it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from daemon.encoders.pool import Member
from state.errors import Unavailable

STEADY_SECONDS = 60.0
"""One that is lost again sooner than this after its return is left alone for longer each time."""

LONGEST_REST = 30.0
"""Longest that such a one is left alone, in seconds."""

UNKNOWN = "a model not known here"

log = structlog.get_logger()


@dataclass(slots=True)
class _Seen:
    """What was seen of one member.

    :param away_since: monotonic seconds; ``None`` while it is there
    :param returned_at: monotonic seconds of its latest return
    :param relapses: how often in a row it was lost soon after its return
    :param seems: whether it was ever recognised, and as which encoder
    """

    away_since: float | None = None
    returned_at: float | None = None
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
        if member.leave_out(problem) and self._of(member).away_since is not None:
            log.warning("encoder.away", at=member.name, problem=member.problem)
        self.missed(member)

    def missed(self, member: Member) -> None:
        """Note that a member has been left out."""
        seen, now = self._of(member), self._clock()
        if seen.away_since is not None:
            return
        seen.away_since = now
        log.warning("encoder.away", at=member.name, problem=member.problem)
        if seen.returned_at is not None and now - seen.returned_at < STEADY_SECONDS:
            seen.relapses += 1
            member.breaker.failed(min(2.0**seen.relapses, LONGEST_REST))
        else:
            seen.relapses = 0

    def recognised(self, member: Member, encoder_id: str | None, at_work: str | None) -> bool:
        """Note what a member's canaries show it to be; return whether it was taken for another till now.

        :param at_work: the encoder it is meant to be
        """
        seen = self._of(member)
        if seen.away_since is not None:
            seen.returned_at = self._clock()
            log.info("encoder.returned", at=member.name, seconds=round(seen.returned_at - seen.away_since, 1))
            seen.away_since = None
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

    def _of(self, member: Member) -> _Seen:
        return self._seen.setdefault(member, _Seen())
