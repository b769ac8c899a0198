"""How long a new project of 50 waits beside one that fills: ``python -m benchmarks.fairness``.

The encoder and the pictures are as slow as in `benchmarks.pipeline`. The daemon is whole but for its
doors: worklist, controller, sync and pipeline are the real ones. The goal: within twice the time that the
new project takes alone, plus one batch.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import numpy as np
import structlog

from benchmarks.pipeline import BATCH_SECONDS, DIMENSION, ENCODER_ID, SlowEncoder, SlowSource
from daemon.board import Board
from daemon.controller import Controller
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.looks import Looks
from daemon.pipeline import Limits, Pipeline
from daemon.removals import Removals
from daemon.surveys import Surveys
from daemon.switch import Switch
from daemon.sync import Sync
from daemon.worklist import Worklist
from handlers.metrics import Metrics
from state.journal import SqliteJournal
from state.model import FULL, EncoderRecord, ImageRef, Project, TaskStatus, Within
from state.stores.memory import MemoryStore

LOOKS_AT_ONCE = 4
PER_PAGE = 1_000
LARGE, SMALL = 1, 50
"""The large project's number, and the size of a new one."""


class Source(SlowSource):
    """Projects of so many pictures, no two the same."""

    identity = "benchmark"
    proves_absence = delivers_whole = True
    fallback_routes = frozenset()

    def __init__(self):
        self.sizes = {}

    async def project(self, ref):
        return Project(ref, f"project {ref}") if ref in self.sizes else None

    async def count(self, project_id):
        return self.sizes[project_id]

    async def images(self, project_id, scope):
        first = project_id * 10_000_000
        for start in range(0, self.sizes[project_id], PER_PAGE):
            numbers = range(first + start, first + min(start + PER_PAGE, self.sizes[project_id]))
            yield [ImageRef(one, project_id, 1, f"{one}.png", f"{one:032x}") for one in numbers]
            await asyncio.sleep(0)


class Daemon:
    """The daemon without its doors, at work on a source and a store."""

    def __init__(self, source, store, journal, threads):
        self.source, self.store = source, store
        encoder, failpoints, metrics, clock = SlowEncoder(), Failpoints(), Metrics(), time.monotonic
        self.worklist, board = Worklist(clock, lambda longest: longest), Board(clock)
        removals = Removals(
            source,
            store,
            journal,
            self.worklist,
            failpoints,
            clock,
            asyncio.sleep,
            metrics.images_removed.inc,
        )
        epochs = Epochs(1)
        pipeline = Pipeline(
            *(source, encoder, store, journal, epochs, threads, Limits(), clock, time.time, failpoints)
        )
        switch = Switch(encoder, store, self, journal, threads, 0.0, time.time)
        sync = Sync(
            source=source,
            store=store,
            encoder=encoder,
            journal=journal,
            pipeline=pipeline,
            removals=removals,
            worklist=self.worklist,
            board=board,
            metrics=metrics,
            failpoints=failpoints,
            now=time.time,
            epochs=epochs,
            switch=switch,
            can_encode=lambda: True,
        )
        surveys = Surveys(source, store, journal, epochs, switch, self.worklist, board, time.time)
        pool = Pool("fake", encoder.batch_size, encoder.picture_side)
        self.looks = Looks(source, pool, sync, surveys, switch, self.worklist, board, metrics, clock)
        self.controller = Controller(
            source=source,
            store=store,
            pool=pool,
            journal=journal,
            sync=sync,
            looks=self.looks,
            surveys=surveys,
            removals=removals,
            worklist=self.worklist,
            board=board,
            clock=clock,
            epochs=epochs,
            switch=switch,
        )

    async def until_stored(self, project_id, count):
        while True:
            if await self.store.count(ENCODER_ID, Within(project_id)) >= count:
                return
            await asyncio.sleep(0.002)

    async def seconds_of_a_new_project(self, project_id):
        """Add a project, and wait until all of it is searchable."""
        self.source.sizes[project_id] = SMALL
        started = time.perf_counter()
        self.worklist.mark(project_id, FULL)
        await self.until_stored(project_id, SMALL)
        seconds = time.perf_counter() - started
        if await self.controller.wait(project_id) is not TaskStatus.COMPLETED:
            raise RuntimeError("the new project's sync failed")
        return seconds


@asynccontextmanager
async def at_work():
    store = MemoryStore()
    await store.add_encoder(
        EncoderRecord(ENCODER_ID, "benchmark", DIMENSION, np.eye(1, DIMENSION, dtype=np.float32))
    )
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as threads:
        journal = SqliteJournal(Path(directory) / "journal.sqlite")
        daemon = Daemon(Source(), store, journal, threads)
        workers = [asyncio.create_task(daemon.looks.work()) for _ in range(LOOKS_AT_ONCE)]
        yield daemon
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        await journal.close()


async def rounds(number, large):
    """Return the seconds of each new project, while a project of `large` fills, and how far that came."""
    async with at_work() as daemon:
        if large:
            daemon.source.sizes[LARGE] = large
            daemon.worklist.mark(LARGE, FULL)
            await daemon.until_stored(LARGE, 10 * SMALL)
        seconds, random = [], Random(0)
        for one in range(number):
            await asyncio.sleep(random.uniform(0, BATCH_SECONDS))  # come at any moment of a batch
            seconds.append(await daemon.seconds_of_a_new_project(LARGE + 1 + one))
        filled = await daemon.store.count(ENCODER_ID, Within(LARGE))
        if large and filled >= large:
            raise RuntimeError("the large project was complete too soon: there was nothing to wait for")
        return seconds, filled


async def measure(number, large):
    alone, _ = await rounds(number, 0)
    beside, filled = await rounds(number, large)
    goal = 2 * statistics.median(alone) + BATCH_SECONDS
    print(f"a new project of {SMALL} images, {number} times; of the large one's {large}, {filled} were made")
    print("| | median s | longest s | × alone |\n|---|---|---|---|")
    for name, seconds in (("alone", alone), ("beside the large one", beside)):
        middle = statistics.median(seconds)
        ratio = middle / statistics.median(alone)
        print(f"| {name} | {middle:.3f} | {max(seconds):.3f} | {ratio:.2f} |")
    reached = "reached" if statistics.median(beside) <= goal else "MISSED"
    print(f"goal, 2 × alone + one batch: {goal:.3f} s: {reached}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=100_000, help="in the large project")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.images))


if __name__ == "__main__":
    main()
