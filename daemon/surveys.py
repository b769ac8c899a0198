"""Surveys: which projects there are, and which are gone.

A survey puts every project on the worklist. A project that is gone is not searchable; its vectors are
kept for a day, in case it comes back or its pictures turn up elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import structlog

from daemon.board import Board
from daemon.epochs import Epochs
from daemon.switch import Switch
from daemon.worklist import Worklist
from state.errors import EmbedsyncError, Inconsistent
from state.model import FULL, NOTHING, Project
from state.ports import Journal, Source, Store

GONE_SECONDS = 24 * 3600.0
"""How long the vectors of a project that is gone are kept."""

GONE_SURVEYS = 2
"""How many surveys must agree that a project is gone."""

FIRST_RETRY, LONGEST_RETRY = 1.0, 600.0
"""Seconds until a survey that failed is tried again; each failure doubles it."""

log = structlog.get_logger()


class Surveys:
    """Knows the source's projects, and keeps the worklist supplied.

    :param now: seconds since the epoch, compared only with what this machine wrote down itself
    :param problem_within: tells why the source cannot look at a part of a project
    :ivar projects: those of the latest survey, and those looked at since
    :ivar cancelled: those whose look a person stopped; they rest until news of them, or a sweep
    :ivar problem: why the latest survey failed; ``None`` when it did not
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        journal: Journal,
        epochs: Epochs,
        switch: Switch,
        worklist: Worklist,
        board: Board,
        now: Callable[[], float],
        problem_within: Callable[[int], str | None] = lambda project_id: None,
    ) -> None:
        self._source, self._store, self._journal = source, store, journal
        self._epochs, self._switch = epochs, switch
        self._worklist, self._board = worklist, board
        self._now = now
        self._problem_within = problem_within
        self._listening, self._wanted, self._tried = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._failure: EmbedsyncError | None = None
        self._sweep_wanted = True
        self.projects: dict[int, Project] = {}
        self.cancelled: set[int] = set()
        self.problem: str | None = "not surveyed yet"

    async def follow(self) -> None:
        """Turn the source's news into marks, for ever; once it is listened for, ask for a survey."""
        async for marks in self._source.changes():
            if not self._listening.is_set():
                self.want()
                self._listening.set()
            for project_id, scope in marks.items():
                self._worklist.mark(project_id, scope)

    async def run(self) -> NoReturn:
        """Survey the source whenever that is asked for, and after a while when that failed, for ever.

        What is asked for before news is listened for is done then: a survey before would be one too many.
        """
        await self._listening.wait()
        pause: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.survey()
                pause = self._failure = None
            except EmbedsyncError as problem:
                self.problem, self._failure = str(problem), problem
                log.warning("survey.failed", problem=str(problem))
                pause = min(2 * (pause or FIRST_RETRY / 2), LONGEST_RETRY)
            self._tried.set()

    async def surveyed(self) -> None:
        """Wait until a survey has been asked for and made, and raise what the latest raised."""
        await self._tried.wait()
        if self._failure:
            raise self._failure

    def problem_of(self, project_id: int) -> str | None:
        """Return why a project is not followed, or not all of it; ``None`` when all of it is."""
        return self.problem or self._problem_within(project_id)

    def want(self) -> None:
        """Ask for a survey soon."""
        self._wanted.set()

    def want_sweep(self) -> None:
        """Ask for a survey after which every project is compared whole."""
        self._sweep_wanted = True
        self._wanted.set()

    async def survey(self) -> None:
        """List the projects, mark them, and deal with those that are gone.

        :raises Inconsistent: when the list cannot be trusted
        """
        found = await self._source.survey()
        collections = [record.id for record in await self._store.encoders()]
        stored = {project_id for one in collections for project_id in await self._store.projects(one)}
        if stored and not found:
            raise Inconsistent("the source lists no project at all")
        recovered = self.problem is not None
        self.problem = None
        self.projects = {project.id: project for project in found}
        await self._journal.found(self.projects.keys() & (await self._journal.missing_projects()).keys())
        # A project of unreadable pictures alone has nothing stored, but every one looked at has a pointer.
        known = stored | (await self._store.pointers()).keys()
        for project_id in known - self.projects.keys():
            await self._gone(project_id, collections)
        await self._switch.retire()
        sweep, self._sweep_wanted = self._sweep_wanted, False
        for project, scope in found.items():
            rests = project.id in self.cancelled and not sweep
            if project.enabled and scope != NOTHING and not rests:
                self._worklist.mark(project.id, FULL if sweep else scope, at_once=recovered)

    async def _gone(self, project_id: int, collections: Sequence[str]) -> None:
        since, surveys = await self._journal.missing(project_id, self._now())
        self._worklist.drop(project_id)
        if surveys >= GONE_SURVEYS and self._now() - since >= GONE_SECONDS:
            for collection in collections:
                await self._store.remove_project(collection, project_id)
            await self._store.set_pointer(project_id, None)
            await self._journal.release(project_id, None)
            await self._journal.hold(project_id, (), self._now())
            await self._journal.forget_forced(project_id, self._epochs.current)
            await self._journal.found([project_id])
            self._board.drop(project_id)
            log.info("project.removed", project_id=project_id)
