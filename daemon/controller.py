"""The controller: answers what handlers ask of the daemon, and does what they want."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from daemon.board import Board
from daemon.encoders import models
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.looks import Looks
from daemon.removals import Removals
from daemon.surveys import Surveys
from daemon.switch import Switch
from daemon.sync import Sync
from daemon.worklist import Worklist
from state.errors import Inconsistent, Invisible, Unavailable
from state.model import (
    FULL,
    AtWork,
    EncoderAddress,
    EncoderStatus,
    Plan,
    Progress,
    Project,
    ProjectStatus,
    Quarantined,
    Scope,
    Start,
    TaskStatus,
)
from state.ports import Journal, Source, Store

QUICK_PLAN_SECONDS = 5.0
"""How long a request may wait to hear that there is nothing to do."""

STORE = "qdrant"
"""The service that keeps the vectors, as its failures name it, whichever store it is."""


class Controller:
    """The daemon's side of the `Syncs` port.

    :param clock: monotonic seconds
    """

    def __init__(
        self,
        *,
        source: Source,
        store: Store,
        pool: Pool,
        journal: Journal,
        sync: Sync,
        looks: Looks,
        surveys: Surveys,
        removals: Removals,
        worklist: Worklist,
        board: Board,
        clock: Callable[[], float],
        epochs: Epochs,
        switch: Switch,
    ) -> None:
        self._source, self._store, self._pool, self._journal = source, store, pool, journal
        self._epochs, self._switch = epochs, switch
        self._sync, self._looks, self._surveys, self._removals = sync, looks, surveys, removals
        self._worklist, self._board = worklist, board
        self._clock = clock

    async def start(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Start:
        """Ask for a sync now, of the whole project or of some of its images."""
        if not force and project_id in self._looks:
            return Start.RUNNING
        if force:
            epoch = await self._store.next_epoch()
            self._epochs.begin(epoch)
            await self._journal.force(project_id, image_ids, epoch)
        elif not self._worklist.queued(project_id) and await self._nothing_to_do(project_id, image_ids):
            return Start.NOTHING
        self._worklist.mark(project_id, _scope(image_ids), at_once=True)
        return Start.STARTED

    async def _nothing_to_do(self, project_id: int, image_ids: Collection[int] | None) -> bool:
        project = await self._known(project_id)
        try:
            async with asyncio.timeout(QUICK_PLAN_SECONDS):
                async for plan in self._sync.plan(project, _scope(image_ids), force=False):
                    if not plan.nothing_to_do:
                        return False
        except (TimeoutError, Unavailable, Inconsistent):
            return False
        return True

    async def wait(self, project_id: int) -> TaskStatus:
        """Wait until the project's running or queued sync has ended, or failed and waits."""
        await self._looks.finished(project_id)
        return self._board[project_id].status

    async def cancel(self, project_id: int) -> bool:
        """Stop the project's sync between batches; return whether there was one."""
        return await self._looks.cancel(project_id)

    async def plan(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Plan:
        """Say what a sync would do, changing nothing.

        :raises Inconsistent: when the listing was not whole
        """
        project = await self._known(project_id)
        *_, plan = [plan async for plan in self._sync.plan(project, _scope(image_ids), force)]
        if not plan.nothing_to_do:
            # The source may tell of a change only once, and has told the plan.
            self._worklist.mark(project_id, _scope(image_ids))
        plan.held = (await self._journal.held_counts()).get(project_id, 0)
        return plan

    def progress(self) -> Mapping[int, Progress]:
        """Return the progress of every project that had a sync since the start."""
        return self._board.progress()

    async def up_to_date(self, project_id: int) -> bool | None:
        """Whether every image is fresh; ``None`` when there is no such project."""
        if await self._source.project(project_id) is None:
            return None
        standing = self._board[project_id]
        return standing.looked_at and not standing.stale and not self._looks.busy(project_id)

    async def status(self, project_id: int | None = None) -> list[ProjectStatus]:
        """Return where projects stand, those included that are gone and not forgotten yet."""
        held, kept = [await self._journal.held_counts(cancelled) for cancelled in (False, True)]
        gone = await self._journal.missing_projects()
        quarantined = await self._journal.quarantine_counts(self._pool.id or "")
        stored = await self._store.projects(self._pool.id) if self._pool.id else {}
        pointers = await self._store.pointers()
        projects = {**{one: Project(one, "") for one in gone}, **self._surveys.projects}
        if project_id is not None:
            known = projects.get(project_id) or await self._source.project(project_id)
            projects = {project_id: known} if known else {}
        return [
            self._status_of(
                project,
                stored.get(one, 0) - kept.get(one, 0),
                quarantined.get(one, 0),
                held.get(one, 0),
                pointers.get(one, self._pool.id or ""),
                one in gone,
            )
            for one, project in sorted(projects.items())
        ]

    def _status_of(
        self, project: Project, stored: int, quarantined: int, held: int, encoder_id: str, gone: bool
    ) -> ProjectStatus:
        standing, waiting = self._board[project.id], self._worklist.waiting(project.id)
        return ProjectStatus(
            project=project,
            fresh=max(0, stored - standing.outdated - held),
            stale=standing.stale,
            oldest_stale_seconds=self._board.stale_seconds(project.id),
            quarantined=quarantined,
            held_removals=held,
            task=standing.status,
            encoder_id=encoder_id,
            encoder_at_work=self._pool.id or "",
            waiting_seconds=self._clock() - waiting.since if waiting else None,
            waiting_for=waiting.why if waiting else self._surveys.problem_of(project.id),
            gone=gone,
        )

    def mark(self, project_id: int, scope: Scope) -> None:
        """Ask for a look, at leisure."""
        self._worklist.mark(project_id, scope)

    async def quarantined(self, project_id: int | None, limit: int) -> list[Quarantined]:
        """List pictures set aside."""
        return await self._journal.quarantined(self._sync.collection, project_id, limit=limit)

    async def retry(self, project_id: int | None, image_ids: Collection[int] | None) -> int:
        """Try pictures again that were set aside; return how many."""
        counts = await self._journal.quarantine_counts(self._sync.collection)
        released = await self._journal.release(project_id, image_ids)
        for one in counts if released else ():
            if project_id in (None, one):
                self._worklist.mark(one, _scope(image_ids), at_once=True)
        return released

    async def confirm_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        """Carry out held removals now; return how many."""
        confirmed = await self._journal.settle_held(project_id, image_ids, cancel=False)
        answering = (await self._store.pointers()).get(project_id)
        collections = sorted({one for one in (self._pool.id, answering) if one})
        if confirmed and collections:
            self._removals.propose(project_id, collections, confirmed)
        return len(confirmed)

    async def cancel_removals(self, project_id: int, image_ids: Collection[int] | None) -> int:
        """Keep what a held removal would take; return how many."""
        return len(await self._journal.settle_held(project_id, image_ids, cancel=True))

    def searched(self, project_id: int, encoder_id: str) -> Progress | None:
        """Put a project that another encoder answers for first in line; return how far it is."""
        if encoder_id == self._pool.id:
            return None
        self._worklist.favour(project_id)
        return self._board.progress().get(project_id)

    def at_work(self) -> AtWork:
        """Return the encoder that vectors are made by."""
        return AtWork(self._pool.id, models.hint() if self._pool.kind == "palette" else None)

    async def encoders(self) -> list[EncoderStatus]:
        """Return every encoder there are vectors of."""
        return await self._switch.status()

    def encoder_addresses(self) -> list[EncoderAddress]:
        """Return where encoders are asked."""
        return [EncoderAddress(one.name, one.encoder_id, one.problem) for one in self._pool.members]

    async def use_encoder(self, encoder_id: str | None) -> int:
        """Have an encoder answer for all it has vectors of; ``None``: whoever is at work. Return how many.

        :raises Rejected: when there is no such encoder
        """
        count = await self._switch.use(encoder_id)
        self._surveys.want_sweep()
        return count

    async def health(self) -> Mapping[str, str]:
        """Return ``healthy`` or ``unhealthy: …`` for every check of ``/health``."""
        clip = "healthy" if self._pool.present() else f"unhealthy: {self._pool.describe_absence()}"
        return {
            "qdrant": await self._store_health(),
            "clip": clip,
            "generator": "healthy",
            "scheduler": "healthy",
            "source": "healthy" if self._surveys.problem is None else f"unhealthy: {self._surveys.problem}",
        }

    async def _store_health(self) -> str:
        try:
            await self._store.healthy()
        except Unavailable as problem:
            return f"unhealthy: {problem.problem}"
        unwritable = self._worklist.problem_with(STORE)
        return f"unhealthy: {unwritable}" if unwritable else "healthy"

    async def _known(self, project_id: int) -> Project:
        project = await self._source.project(project_id)
        if project is None:
            raise Invisible(f"there is no project {project_id}")
        return project

    async def idle(self) -> None:
        """Wait until nothing is left to do but what failed and waits."""
        await self._looks.idle()
        await self._removals.drained()


def _scope(image_ids: Collection[int] | None) -> Scope:
    return FULL if image_ids is None else Scope().merge(Scope(ids=frozenset(image_ids)))
