"""Removals: the last thing that happens to an image, and only on proof.

A sync proposes; this carries out, after every project that was dirty by then has had its chance to
reuse the vectors, and after a second look at exactly the images in question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog

from daemon.failpoints import Failpoints
from daemon.worklist import Worklist
from state.errors import EmbedsyncError
from state.model import FULL, Scope
from state.ports import Journal, Source, Store

PATIENCE = 30.0
"""Seconds that a removal waits at most for other projects that might reuse its vectors."""

SECOND_LOOK = 5.0
"""Seconds between two looks that must agree, where one listing is no proof."""

RETRY = 10.0
"""Seconds until a removal that could not be proved is proposed again."""

AT_ONCE = 500
"""Images looked at, and removed, together."""

MOST_WAITING = 10_000
"""Proposals waiting; beyond it their projects are looked at again instead."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Proposal:
    """Images of a project that are gone as far as one pass could tell."""

    project_id: int
    collections: Sequence[str]
    image_ids: Collection[int]
    dirty: frozenset[int]
    at: float


class Removals:
    """Carries out proposed removals, one after the other, in the order they came.

    :param clock: monotonic seconds
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        journal: Journal,
        worklist: Worklist,
        failpoints: Failpoints,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        on_removed: Callable[[int], None],
    ) -> None:
        self._source, self._store, self._journal, self._worklist = source, store, journal, worklist
        self._failpoints = failpoints
        self._clock = clock
        self._sleep = sleep
        self._on_removed = on_removed
        self._proposals: asyncio.Queue[Proposal] = asyncio.Queue(MOST_WAITING)

    def propose(self, project_id: int, collections: Sequence[str], image_ids: Collection[int]) -> None:
        """Remove these images, once that is safe; they must be out of what the project's pass listed.

        :param collections: of the encoder at work, and of the one that answers until that takes over
        """
        dirty = frozenset(self._worklist.dirty())
        try:
            self._proposals.put_nowait(Proposal(project_id, collections, image_ids, dirty, self._clock()))
        except asyncio.QueueFull:
            self._worklist.mark(project_id, FULL, delay=RETRY)

    async def run(self) -> None:
        """Carry out proposals, for ever."""
        while True:
            proposal = await self._proposals.get()
            try:
                await self._when_safe(proposal)
                await self._carry_out(proposal)
            except EmbedsyncError as problem:
                log.warning("removal.put_off", project_id=proposal.project_id, problem=str(problem))
                scope = Scope().merge(Scope(ids=frozenset(proposal.image_ids)))
                self._worklist.mark(proposal.project_id, scope, delay=RETRY)
            finally:
                self._proposals.task_done()

    async def drained(self) -> None:
        """Wait until nothing is proposed any more."""
        await self._proposals.join()

    async def _when_safe(self, proposal: Proposal) -> None:
        await self._worklist.all_diffed(proposal.dirty, proposal.at + PATIENCE)
        if not self._source.proves_absence:
            await self._sleep(max(0.0, proposal.at + SECOND_LOOK - self._clock()))

    async def _carry_out(self, proposal: Proposal) -> None:
        project_id = proposal.project_id
        total = 0
        wanted = iter(set(proposal.image_ids).difference(await self._journal.kept(project_id)))
        while chunk := frozenset(islice(wanted, AT_ONCE)):
            listing = self._source.images(project_id, Scope(ids=chunk))
            present = frozenset([image.id async for page in listing for image in page])
            if present:
                self._worklist.mark(project_id, Scope(ids=present))
            gone = chunk - present
            if gone:
                self._failpoints.reach("removals.before_remove")
                removed = [await self._store.remove(one, project_id, gone) for one in proposal.collections]
                self._on_removed(max(removed))
                total += max(removed)
                await self._journal.settle_held(project_id, gone, cancel=False)
        if total:
            log.info("project.images_removed", project_id=project_id, removed=total)
