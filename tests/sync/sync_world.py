"""The whole daemon but its door: real sync, pipeline, removals and journal over fakes that behave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from sync_pictures import DIMENSION, FakeEncoder, Sound, content_of, vector_of
from sync_source import FakeSource
from sync_store import FaultyStore
from sync_time import InlineExecutor

from daemon.board import Board
from daemon.breaker import Breaker
from daemon.controller import Controller
from daemon.encoders.member import Member
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.looks import Looks
from daemon.pipeline import Limits, Pipeline
from daemon.removals import Removals
from daemon.surveys import Surveys
from daemon.switch import Switch
from daemon.sync import Sync
from daemon.turns import Lane
from daemon.worklist import Worklist
from handlers.metrics import Metrics
from state.journal import SqliteJournal
from state.model import FULL, EncoderRecord, Matrix, Scope, Within

LOOKS_AT_ONCE = 2

KEEP_SECONDS = 3600.0

Kept = dict[int, tuple[str, str, int, str]]
"""Content, name, dataset and path of each image of a project."""


class Daemon:
    """One life of the process: new objects over the state that the last one left."""

    def __init__(self, world: World, epoch: int) -> None:
        loop = asyncio.get_running_loop()
        self.journal = SqliteJournal(world.directory / "journal.sqlite")
        self.metrics = Metrics()
        self.worklist = Worklist(loop.time, world.jitter)
        source, store, encoder, journal = world.source, world.store, world.encoder, self.journal
        board, failpoints = Board(loop.time), Failpoints()
        self.removals = Removals(
            source,
            store,
            journal,
            self.worklist,
            failpoints,
            loop.time,
            asyncio.sleep,
            self.metrics.images_removed.inc,
        )
        self.epochs = Epochs(epoch)
        self.pipeline = Pipeline(
            source,
            Sound(encoder),
            store,
            journal,
            self.epochs,
            InlineExecutor(),
            replace(world.limits, batch=max(world.limits.batch, encoder.batch_size)),
            loop.time,
            world.now,
            failpoints,
            lambda outcome: self.metrics.encoder_batches.labels(outcome).inc(),
            world.lane,
        )
        member = Member("fake", encoder, Breaker("clip", loop.time, world.jitter))
        member.recognised_as(world.collection)
        pool = Pool("fake", encoder.batch_size, encoder.picture_side, [member])
        pool.work_as(world.collection, DIMENSION)
        self.switch = Switch(encoder, store, world, journal, InlineExecutor(), KEEP_SECONDS, world.now)
        self.sync = Sync(
            source=source,
            store=store,
            encoder=encoder,
            journal=journal,
            pipeline=self.pipeline,
            removals=self.removals,
            worklist=self.worklist,
            board=board,
            metrics=self.metrics,
            failpoints=failpoints,
            now=world.now,
            epochs=self.epochs,
            switch=self.switch,
            can_encode=world.can_encode,
        )
        self.surveys = Surveys(
            source, store, journal, self.epochs, self.switch, self.worklist, board, world.now
        )
        looks = Looks(
            *(source, pool, self.sync, self.surveys, self.switch),
            *(self.worklist, board, self.metrics, loop.time),
        )
        self.controller = Controller(
            source=source,
            store=store,
            pool=pool,
            journal=journal,
            sync=self.sync,
            looks=looks,
            surveys=self.surveys,
            removals=self.removals,
            worklist=self.worklist,
            board=board,
            clock=loop.time,
            epochs=self.epochs,
            switch=self.switch,
        )
        eternal: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.surveys.follow,
            self.surveys.run,
            self.removals.run,
            *[looks.work] * LOOKS_AT_ONCE,
        ]
        self.roots = [asyncio.create_task(work()) for work in eternal]
        self.surveys.want()

    async def end(self) -> None:
        for root in self.roots:
            root.cancel()
        await asyncio.gather(*self.roots, return_exceptions=True)
        await self.journal.close()


class World:
    """A source, a store, an encoder, a wall clock, and the daemon that runs among them.

    :ivar limits: of the next life's pipeline; its batches may be as large as the encoder says at least
    :ivar ahead: seconds by which the wall clock is ahead of the loop's
    :ivar reachable: whether somebody can be asked to encode, as far as the daemon knows
    :ivar forced: whether encoding again what is stored was ever asked for
    :ivar violations: promises that were broken, as they were noticed
    """

    def __init__(self, directory: Path, source: FakeSource) -> None:
        self.directory = directory
        self.source = source
        self.store = FaultyStore()
        self.encoder = FakeEncoder()
        self.encoder.on_encode = self._note_encoding
        self.limits = Limits(fetches=4, batches=2, batch=0)
        self.lane = Lane()
        self.ahead = 1_700_000_000.0
        self.violations: list[str] = []
        self.forced = False
        self.reachable = True
        self.jitter: Callable[[float], float] = partial(Random(0).uniform, 0)
        self._proven: dict[int, tuple[int, int]] = {}
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        assert self._daemon
        return self._daemon

    @property
    def running(self) -> bool:
        return self._daemon is not None

    @property
    def collection(self) -> str:
        assert self.encoder.id
        return self.encoder.id

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    async def start(self) -> None:
        """Start the daemon; its first survey has begun."""
        canaries = np.eye(2, DIMENSION, dtype=np.float32)
        await self.store.add_encoder(EncoderRecord(self.collection, "fake", DIMENSION, canaries))
        self._daemon = Daemon(self, await self.store.next_epoch())

    async def stop(self) -> None:
        """Cut every task off where it is."""
        daemon, self._daemon = self._daemon, None
        if daemon:
            await daemon.end()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def sweep(self, seconds: float = 0.5) -> None:
        """Have every project compared whole, and let time pass: what can be done at once is done then."""
        self.daemon.surveys.want_sweep()
        await asyncio.sleep(seconds)

    async def look(self, *image_ids: int, since: str | None = None, project_id: int = 1) -> None:
        """Have some images of a project looked at, and nothing else."""
        self.daemon.controller.mark(project_id, Scope(ids=frozenset(image_ids), since=since))
        await asyncio.sleep(0.5)

    async def look_at_all_of(self, *project_ids: int, seconds: float = 0.5) -> None:
        """Have these projects compared whole, in this order."""
        for project_id in project_ids:
            self.daemon.controller.mark(project_id, FULL)
        await asyncio.sleep(seconds)

    def can_encode(self) -> bool:
        """Whether the encoder is known; that it is away, only asking it tells."""
        return self.encoder.id is not None and self.reachable

    async def matrix(self, collection: str, within: Within) -> Matrix:
        """The `Matrices` port, without a cache."""
        none = np.empty(0, np.int64)
        blocks = [(none, none, np.empty((0, DIMENSION), np.float32))]
        blocks += [block async for block in self.store.vectors(collection, within)]
        ids, dataset_ids, vectors = zip(*blocks, strict=True)
        return Matrix(np.concatenate(ids), np.concatenate(dataset_ids), np.concatenate(vectors))

    def heal(self) -> None:
        """End every fault."""
        self.source.down = self.store.down = False
        self.encoder.sickness = None
        for faults in (self.source.faults, self.store.faults, self.encoder.faults, self.source.unreachable):
            faults.clear()

    # What is there.

    def stored(self, project_id: int = 1) -> Kept:
        points = [point.image for point in self.store.points(self.collection)]
        return {
            one.id: (one.content, one.name, one.dataset_id, one.path)
            for one in points
            if one.project_id == project_id
        }

    def wanted(self, project_id: int = 1) -> Kept:
        """What must be stored: the good pictures of a project that is there."""
        return {
            file.id: (content_of(file.data), file.name, file.dataset_id, file.path)
            for file in self.source.visible().values()
            if file.project_id == project_id and vector_of(file.data) is not None
        }

    def unreadable(self) -> dict[int, str]:
        """What must be in quarantine."""
        return {
            file.id: content_of(file.data)
            for file in self.source.visible().values()
            if vector_of(file.data) is None
        }

    async def quarantined(self) -> dict[int, str]:
        return {one.image_id: one.content for one in await self.daemon.journal.quarantined(self.collection)}

    async def held(self, project_id: int = 1) -> int:
        return (await self.daemon.journal.held_counts()).get(project_id, 0)

    @property
    def encoded(self) -> int:
        """How many pictures were encoded well so far."""
        return self.encoder.encoded.total()

    # What must hold at any moment.

    def check(self) -> None:
        """Fail if a promise was broken since the last time."""
        vectors = {content_of(file): vector_of(file) for file in self.source.seen}
        proven: dict[int, tuple[int, int]] = {}
        visible = self.source.visible()
        for point in self.store.points(self.collection):
            image, expected = point.image, vectors.get(point.image.content)
            if expected is None or not np.array_equal(point.vector, expected):
                self.violations.append(f"image {image.id} has a vector of other content than {image.content}")
            file = visible.get(image.id)
            if file and (file.project_id, content_of(file.data)) == (image.project_id, image.content):
                proven[image.id] = file.project_id, self.source.ages[image.id]
        for image_id, (project_id, age) in self._proven.items():
            untouched = self.source.ages[image_id] == age and project_id not in self.source.hidden
            if untouched and image_id not in proven:
                self.violations.append(f"image {image_id} lost its vector though nobody touched it")
        self._proven = proven
        ended = [root for root in self.daemon.roots if root.done()] if self._daemon else []
        assert not ended, f"root tasks ended: {ended}"
        assert not self.violations, self.violations

    def _note_encoding(self, contents: Collection[str]) -> None:
        known = {point.image.content for point in self.store.points(self.collection)}
        for content in known.intersection(contents) if not self.forced else ():
            self.violations.append(f"{content} was encoded though the store has its vector")
