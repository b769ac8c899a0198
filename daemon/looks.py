"""The looks: takes one project after the other off the worklist, and has it brought up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import NoReturn

import structlog

from daemon.board import Board
from daemon.display import Undisplayed
from daemon.encoders.pool import Pool
from daemon.encoders.soundness import SERVICE
from daemon.outcome import Outcome
from daemon.surveys import Surveys
from daemon.switch import Switch
from daemon.sync import Sync
from daemon.worklist import LONGEST_RETRY, Worklist
from handlers.metrics import Metrics
from state.errors import EmbedsyncError, Unavailable
from state.model import FULL, Project, Scope, TaskStatus
from state.ports import Display, Source

MOVED_RETRY = 1.0
"""Seconds until images that changed while they were being fetched are looked at again."""

DOUBT_RETRY = 205.0
"""Seconds until a picture whose download came damaged is fetched again."""

log = structlog.get_logger()


class Looks:
    """The looks under way, and the loops that begin them.

    :param clock: monotonic seconds
    """

    def __init__(
        self,
        source: Source,
        pool: Pool,
        sync: Sync,
        surveys: Surveys,
        switch: Switch,
        worklist: Worklist,
        board: Board,
        metrics: Metrics,
        clock: Callable[[], float],
        display: Display | None = None,
    ) -> None:
        self._source, self._pool, self._sync = source, pool, sync
        self._surveys, self._switch = surveys, switch
        self._worklist, self._board = worklist, board
        self._metrics, self._clock = metrics, clock
        self._display = display or Undisplayed()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._ended = asyncio.Condition()

    def __contains__(self, project_id: int) -> bool:
        return project_id in self._under_way

    async def work(self) -> NoReturn:
        """Look at one project after the other, for ever."""
        while True:
            project_id, scope = await self._worklist.take()
            if scope.full:
                self._surveys.cancelled.discard(project_id)
            look = asyncio.create_task(self._look(project_id, scope))
            self._under_way[project_id] = look
            try:
                await asyncio.wait([look])
            except asyncio.CancelledError:
                look.cancel()
                await asyncio.wait([look])
                raise
            finally:
                if self._under_way.get(project_id) is look:  # another worker may have taken the key by now
                    del self._under_way[project_id]
            if look.cancelled():
                self._board.end(project_id, TaskStatus.CANCELLED, whole=False)
                self._display.ended(project_id, None, worked=False)
                self._worklist.stopped(project_id)
                log.info("project.cancelled", project_id=project_id)
            async with self._ended:
                self._ended.notify_all()

    async def _look(self, project_id: int, scope: Scope) -> None:
        started = self._clock()
        try:
            project = await self._source.project(project_id)
            if (project is None) == (project_id in self._surveys.projects):
                self._surveys.want()  # it came or went since the latest survey: let that be told now
            if project is None or not project.enabled:
                self._worklist.done(project_id)
                return
            self._surveys.projects[project_id] = project
            outcome = await self._sync.look(project, scope)
            late = len(outcome.left | outcome.doubtful)
            # What a whole look had to leave is made now: only another one shows that nothing is missing.
            switch_due = not scope.full and await self._switch.due(project_id, late)
        except EmbedsyncError as problem:
            self._board.end(project_id, TaskStatus.FAILED, whole=False)
            self._display.ended(project_id, str(problem), worked=False)
            self._wait(project_id, scope, problem)
            log.warning("project.waits", project_id=project_id, problem=str(problem))
            return
        except Exception:  # the root of a look: a defect met in one project stops no other
            self._board.end(project_id, TaskStatus.FAILED, whole=False)
            self._worklist.failed(project_id, scope, "an internal error, see the log")
            log.exception("project.defect", project_id=project_id)
            return
        self._board.end(project_id, TaskStatus.COMPLETED, whole=scope.full, left=late)
        self._display.ended(project_id, None, worked=bool(outcome.encoded or outcome.reused))
        self._mark_rest(project_id, outcome)
        if switch_due:
            self._worklist.mark(project_id, FULL)
        self._report(project, outcome, self._clock() - started)

    def _mark_rest(self, project_id: int, outcome: Outcome) -> None:
        """Put the project away, and ask for a look at what this one had to leave."""
        left, doubtful = (Scope(ids=frozenset(ids)) for ids in (outcome.left, outcome.doubtful))
        if outcome.problem:
            self._wait(project_id, left, outcome.problem)
        else:
            self._worklist.done(project_id)
            if outcome.left:
                self._worklist.mark(project_id, left, delay=MOVED_RETRY)
        if outcome.doubtful:
            self._worklist.mark(project_id, doubtful, delay=DOUBT_RETRY)

    def _report(self, project: Project, outcome: Outcome, seconds: float) -> None:
        self._metrics.sync_seconds.observe(seconds)
        log.info(
            "project.synced",
            project_id=project.id,
            project=project.name,
            encoded=outcome.encoded,
            reused=outcome.reused,
            retagged=outcome.retagged,
            quarantined=len(outcome.quarantined),
            left=len(outcome.left),
            seconds=round(seconds, 3),
        )

    def _wait(self, project_id: int, scope: Scope, problem: EmbedsyncError) -> None:
        """Put a project away until it may be tried again; one that waits for an encoder is woken for it."""
        if not isinstance(problem, Unavailable):
            self._worklist.failed(project_id, scope, str(problem))
            return
        absent = problem.service == SERVICE and not self._pool.at_work()
        retry_after = LONGEST_RETRY if absent else problem.retry_after
        self._worklist.failed(project_id, scope, str(problem), retry_after, problem.service)

    async def finished(self, project_id: int) -> None:
        """Wait until the project's look has ended, or failed and waits, and none is due."""
        async with self._ended:
            await self._ended.wait_for(lambda: not self.busy(project_id))

    def busy(self, project_id: int) -> bool:
        """Whether the project is being looked at, or about to be."""
        waits = self._worklist.waiting(project_id) is not None
        return project_id in self._under_way or (self._worklist.queued(project_id) and not waits)

    async def cancel(self, project_id: int) -> bool:
        """Stop the project's look between batches; return whether there was one."""
        look = self._under_way.get(project_id)
        if look is None:
            return False
        self._surveys.cancelled.add(project_id)
        look.cancel()
        async with self._ended:
            await self._ended.wait_for(lambda: self._under_way.get(project_id) is not look)
        return True

    def under_way(self) -> Mapping[int, Hashable]:
        """Return, for each project being looked at, what changes as the look gets on."""
        return {
            project_id: (look.get_name(), standing.total, standing.current, standing.made)
            for project_id, look in self._under_way.items()
            for standing in (self._board[project_id],)
        }

    async def idle(self) -> None:
        """Wait until nothing is left to look at but what failed and waits."""
        async with self._ended:
            await self._ended.wait_for(lambda: not self._under_way and self._worklist.resting())
