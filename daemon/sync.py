"""One look at one project: list, diff, plan, carry out.

Whatever happens in the middle, the next look starts from the two listings again and converges.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from daemon.board import Board, Standing
from daemon.comparing import Comparing
from daemon.display import Undisplayed
from daemon.encoders.soundness import SERVICE
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.outcome import Outcome, Written
from daemon.pipeline import Pipeline
from daemon.removals import Removals
from daemon.sorting import Sorted, Sorting, to_encode, unhashed_of
from daemon.switch import Switch
from daemon.tending import Tending
from daemon.worklist import Worklist
from handlers.metrics import Metrics
from state.changes import reusable, suspicious
from state.errors import Unavailable
from state.journal import ForcedImages
from state.model import (
    FULL,
    Action,
    Change,
    Embedding,
    Plan,
    Project,
    Quarantined,
    Reason,
    Scope,
)
from state.ports import Display, Encoder, Forced, Journal, Source, Store

AT_ONCE = 256
"""Changes looked up and written together."""

HOLD_SECONDS = 60.0
"""How much later a second full listing must say the same before many images are removed at once."""

CONTENTS_REMEMBERED = 100_000
"""How many new contents a plan tells apart, so that copies within the project count once."""


@dataclass(slots=True)
class _Pass:
    """What one look has found so far.

    :param began: the epoch in which it began
    :param tending: looks after the vectors of another encoder, where that one answers for the project
    """

    project: Project
    scope: Scope
    collection: str
    began: int
    tending: Tending | None
    forced: Forced
    standing: Standing
    listed: int = 0
    stored: int = 0
    reused: int = 0
    retagged: int = 0
    removals: array[int] = field(default_factory=lambda: array("q"))
    quarantined: set[int] = field(default_factory=set)
    unhashed: dict[int, str] = field(default_factory=dict)


class Sync:
    """Brings one project of the store in line with its source.

    :param now: seconds since the epoch, compared only with what this machine wrote down itself
    :param can_encode: whether there is an encoder to ask; without, nothing is fetched for it
    """

    def __init__(
        self,
        *,
        source: Source,
        store: Store,
        encoder: Encoder,
        journal: Journal,
        pipeline: Pipeline,
        removals: Removals,
        worklist: Worklist,
        board: Board,
        metrics: Metrics,
        failpoints: Failpoints,
        now: Callable[[], float],
        epochs: Epochs,
        switch: Switch,
        can_encode: Callable[[], bool],
        display: Display | None = None,
    ) -> None:
        self._source, self._store, self._encoder, self._journal = source, store, encoder, journal
        self._pipeline, self._removals, self._worklist, self._board = pipeline, removals, worklist, board
        self._metrics = metrics
        self._failpoints = failpoints
        self._now = now
        self._display = display or Undisplayed()
        self._epochs = epochs
        self._switch = switch
        self._can_encode = can_encode
        self._comparing = Comparing(source, store)
        self._sorting = Sorting(store, journal, now)

    @property
    def collection(self) -> str:
        """The collection that vectors go to now.

        :raises Unavailable: while it is not known which encoder it is
        """
        if self._encoder.id is None:
            raise Unavailable(SERVICE, "the encoder has not been recognised yet")
        return self._encoder.id

    async def look(self, project: Project, scope: Scope) -> Outcome:
        """Look at a project and mend what is stale.

        :raises Unavailable: when a service is away; what was written stays
        :raises Inconsistent: when a listing was not whole; nothing was removed
        """
        if not self._can_encode():
            return await self._look_without_encoder(project, scope)
        look = await self._begin(project, scope, self.collection)
        if look.tending and scope.full:
            await self._comparing.tend_all(look.tending, project.id)

        def written(batch: Written) -> None:
            self._metrics.images_encoded.inc(batch.encoded)
            self._metrics.images_reused.inc(batch.reused)
            if batch.encoded:
                self._display.began(project.id)
            self._display.written(project.id, batch.image_ids)
            look.standing.current += len(batch.changes)
            look.standing.outdated -= sum(change.stored is not None for change in batch.changes)
            set_aside = (change for change in batch.changes if change.image_id not in batch.image_ids)
            look.unhashed.update(unhashed_of(set_aside))

        try:
            outcome = await self._pipeline.run(look.collection, self._encodings(look), written)
        except Unavailable as problem:
            if problem.service == SERVICE and not self._can_encode():
                await self._look_without_encoder(project, scope)
            raise
        self._worklist.diffed(project.id)
        outcome.reused += look.reused
        outcome.retagged += look.retagged
        outcome.quarantined |= look.quarantined
        if look.unhashed:
            await self._journal.date_quarantine(look.collection, look.unhashed)
        await self._release_mended(look, outcome.quarantined)
        if scope.full and not outcome.left:
            await self._journal.forget_forced(project.id, look.began)
        await self._propose_removals(look)
        if scope.full:
            late = len(outcome.left | outcome.doubtful)
            made = look.listed - len(outcome.quarantined) - late
            await self._switch.complete(project.id, look.collection, made, late)
        return outcome

    async def _look_without_encoder(self, project: Project, scope: Scope) -> Outcome:
        """Do what needs no encoder: so long as that is away, what answers searches is kept true.

        :raises Unavailable: when something else is left
        """
        collection = self._encoder.id or await self._switch.answering(project.id, None)
        if collection is None:
            raise Unavailable(SERVICE, "the encoder has not been recognised yet")
        look = await self._begin(project, scope, collection)
        if look.tending and scope.full:
            await self._comparing.tend_all(look.tending, project.id)
        waiting = 0
        async for _ in self._encodings(look):
            waiting += 1
        self._worklist.diffed(project.id)
        await self._propose_removals(look)
        if waiting:
            raise Unavailable(SERVICE, f"{waiting} images wait for the encoder")
        return Outcome(reused=look.reused, retagged=look.retagged, quarantined=look.quarantined)

    async def plan(self, project: Project, scope: Scope, force: bool) -> AsyncIterator[Plan]:
        """Find out what a look would do, changing nothing; yield the plan as it grows.

        :raises Inconsistent: when a listing was not whole
        """
        plan = Plan(project.id)
        forced = ForcedImages(project=2**62) if force else await self._journal.forced(project.id)
        collection = self.collection
        contents: set[str] = set()
        async for step in self._comparing.steps(project.id, scope, collection, forced):
            plan.keep(step.fresh)
            for chunk in _chunks(step.changes):
                parts = await self._sorting.sort(collection, chunk, forced)
                plan.quarantined += len(parts.unreadable)
                plan.add(_once_per_content(parts.changes, contents))
            yield plan
        yield plan

    async def _begin(self, project: Project, scope: Scope, collection: str) -> _Pass:
        # Read before the wishes to encode again: a wish that comes later than this is not yet fulfilled.
        began = self._epochs.current
        answering = await self._switch.answering(project.id, collection)
        other = None if answering == collection else answering
        total = len(scope.ids) if not scope.full else await self._source.count(project.id)
        return _Pass(
            project=project,
            scope=scope,
            collection=collection,
            began=began,
            tending=Tending(self._store, self._epochs, began, project.id, other) if other else None,
            forced=await self._journal.forced(project.id),
            standing=self._board.begin(project.id, total),
        )

    async def _encodings(self, look: _Pass) -> AsyncIterator[Change]:
        """Carry out what needs no encoder, and yield what does; note removals for later."""
        steps = self._comparing.steps(look.project.id, look.scope, look.collection, look.forced, look.tending)
        async for step in steps:
            look.standing.current += step.fresh
            if step.unshown:
                self._display.written(look.project.id, step.unshown)
            look.listed += step.fresh + sum(change.image is not None for change in step.changes)
            look.standing.total = max(look.standing.total, look.listed)
            look.stored += step.fresh + sum(change.stored is not None for change in step.changes)
            for chunk in _chunks(step.changes):
                self._board.stale(look.standing)
                parts = await self._sorting.sort(look.collection, chunk, look.forced)
                # Of the others only the pictures will tell; most of them are as they were.
                if any(change.reason is not Reason.UNKNOWN for change in parts.of(Action.ENCODE)):
                    self._display.began(look.project.id)
                await self._leave_aside(look, parts.unreadable)
                await self._write_cheap(look, parts)
                for change in parts.of(Action.ENCODE):
                    look.standing.outdated += change.stored is not None
                    yield change
        if look.scope.full:
            look.standing.total = look.listed

    async def _leave_aside(self, look: _Pass, unreadable: list[tuple[Change, str]]) -> None:
        """Keep pictures in quarantine, and take away what was made of the bytes they had before."""
        if not unreadable:
            return
        # Of one without a hash all is noted already, and what is stored was made of these very bytes.
        hashed = [(change, why) for change, why in unreadable if change.wanted.content]
        await self._journal.quarantine(
            look.collection,
            [
                Quarantined(one.id, one.project_id, one.name, one.path, one.content or "", why, self._now())
                for one, why in ((change.wanted, why) for change, why in hashed)
                if one.id not in look.quarantined
            ],
            again=False,
        )
        look.quarantined.update(change.image_id for change, _ in unreadable)
        look.standing.current += len(unreadable)
        outdated = [
            change.stored.id
            for change, _ in hashed
            if change.stored and change.stored.content != change.wanted.content
        ]
        if outdated:
            await self._store.remove(look.collection, look.project.id, outdated)

    async def _write_cheap(self, look: _Pass, chunk: Sorted) -> None:
        """Carry out what needs no encoder."""
        reused = [
            Embedding(change.stored.tagged_as(change.wanted), chunk.found[change.stored.content].vector)
            for change in chunk.of(Action.REUSE)
            if change.stored
        ]
        retagged = [
            change.stored.tagged_as(change.wanted) for change in chunk.of(Action.RETAG) if change.stored
        ]
        self._failpoints.reach("sync.before_reuse")
        if reused:
            async with self._epochs.writing(look.began):
                await self._store.upsert(look.collection, reused)
            self._metrics.images_reused.inc(len(reused))
            self._display.written(look.project.id, [point.image.id for point in reused])
            look.reused += len(reused)
        if retagged:
            async with self._epochs.writing(look.began):
                await self._store.retag(look.collection, retagged)
            self._metrics.images_retagged.inc(len(retagged))
            look.retagged += len(retagged)
        look.standing.current += len(reused) + len(retagged)
        look.removals.extend(change.image_id for change in chunk.of(Action.REMOVE))

    async def _release_mended(self, look: _Pass, quarantined: set[int]) -> None:
        """Take out of quarantine what this look covered and did not find unreadable."""
        last = -1
        while page := await self._journal.quarantined(look.collection, look.project.id, after=last):
            last = page[-1].image_id
            covered = {one.image_id for one in page if look.scope.full or one.image_id in look.scope.ids}
            if mended := covered - quarantined:
                await self._journal.release(look.project.id, mended)

    async def _propose_removals(self, look: _Pass) -> None:
        """Propose what is gone; hold it back where so much vanishing at once must be confirmed first."""
        tending = look.tending
        gone: Collection[int] = {*look.removals, *tending.gone} if tending else look.removals
        stored = max(look.stored, tending.stored) if tending else look.stored
        project_id = look.project.id
        if look.scope.full and not self._source.proves_absence:
            now = self._now()
            held_back = HOLD_SECONDS if suspicious(len(gone), stored) else 0.0
            await self._journal.hold(project_id, gone, now)
            gone = await self._journal.held(project_id, now - held_back)
            if len(gone) < len(await self._journal.held(project_id, now)):
                self._worklist.mark(project_id, FULL, delay=HOLD_SECONDS + 1)
        elif not self._source.proves_absence and suspicious(len(gone), stored):
            self._worklist.mark(project_id, FULL)
            return
        if gone:
            self._failpoints.reach("sync.before_removal")
            collections = [look.collection, *([tending.collection] if tending else ())]
            self._removals.propose(project_id, collections, gone)


def _chunks(changes: Sequence[Change]) -> Iterator[list[Change]]:
    for start in range(0, len(changes), AT_ONCE):
        yield list(changes[start : start + AT_ONCE])


def _once_per_content(changes: Sequence[Change], contents: set[str]) -> Iterator[Change]:
    """Turn further encodings of the same bytes into the reuses they will be."""
    for change in changes:
        content = to_encode(change)
        if content in contents and reusable(change):
            yield replace(change, action=Action.REUSE, reason=Reason.SAME_BYTES)
            continue
        if content and len(contents) < CONTENTS_REMEMBERED:
            contents.add(content)
        yield change
