"""How long a text query waits while a sync keeps the encoder busy: ``python -m benchmarks.text_latency``.

The encoder is that of `benchmarks.pipeline`: 150 ms a batch of 32, one call at a time, a text of its own
15 ms. The goal: p99 within twice one batch's time, plus what a text takes when nothing else is going on.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.pipeline import (
    BATCH,
    BATCH_SECONDS,
    ENCODER_ID,
    LIMITS,
    SlowEncoder,
    SlowSource,
    empty_store,
)
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.pipeline import Pipeline
from daemon.turns import Lane
from state.journal import SqliteJournal
from state.model import Action, Change, ImageRef, Reason

TEXT_SECONDS = 0.015
PAUSE = 0.6
"""Mean seconds between two queries."""

SETTLING = 12.0
"""Seconds until the pipeline has found its pace; later it looks for another one every ten minutes."""


class Encoder(SlowEncoder):
    """One call at a time, whether of pictures or of a text."""

    async def encode_texts(self, texts):
        async with self._gpu:
            await asyncio.sleep(TEXT_SECONDS)


async def ask(encoder, lane, queries, random):
    """Return the seconds each of so many queries took, which come when they like."""
    seconds = []
    for _ in range(queries):
        await asyncio.sleep(random.uniform(0, 2 * PAUSE))
        started = time.perf_counter()
        with lane.urgent():
            await encoder.encode_texts(["a cat"])
        seconds.append(time.perf_counter() - started)
    return np.array(seconds)


async def during_a_sync(queries, lane, asked_in, directory):
    """Ask while pictures without end are encoded; return the seconds, and the share the sync kept."""
    encoder, store = Encoder(), await empty_store()
    journal = SqliteJournal(Path(directory) / "journal.sqlite")
    with ThreadPoolExecutor(2) as threads:
        pipeline = Pipeline(
            *(SlowSource(), encoder, store, journal, Epochs(1), threads, LIMITS),
            *(time.monotonic, time.time, Failpoints()),
            lane=lane,
        )
        written = 0

        async def changes():
            for one in count(1):
                image = ImageRef(one, 1, 1, f"{one}.png", f"{one:032x}")
                yield Change(Action.ENCODE, Reason.NEW, image, None)

        def note(batch):
            nonlocal written
            written += batch.encoded

        sync = asyncio.create_task(pipeline.run(ENCODER_ID, changes(), note))
        await asyncio.sleep(SETTLING)
        before, started = written, time.perf_counter()
        seconds = await ask(encoder, asked_in, queries, Random(0))
        rate = (written - before) / (time.perf_counter() - started)
        sync.cancel()
        await asyncio.wait([sync])
    await journal.close()
    return seconds, rate * BATCH_SECONDS / BATCH


async def measure(queries):
    idle = await ask(Encoder(), Lane(), min(queries, 100), Random(1))
    goal = 2 * BATCH_SECONDS + np.percentile(idle, 99)
    print(f"{queries} text queries; the goal is a p99 of {1e3 * goal:.0f} ms")
    print("| while | p50 ms | p99 ms | longest ms | what the sync keeps |\n|---|---|---|---|---|")
    report("idle", idle, "–")
    with tempfile.TemporaryDirectory() as directory:
        for name, lane, asked_in in (
            ("a sync, texts go first", one := Lane(), one),
            ("a sync, texts wait their turn", Lane(), Lane()),
        ):
            seconds, kept = await during_a_sync(queries, lane, asked_in, directory)
            report(name, seconds, f"{kept:.0%}")


def report(name, seconds, kept):
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    print(f"| {name} | {p50:.0f} | {p99:.0f} | {1e3 * seconds.max():.0f} | {kept} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=300)
    asyncio.run(measure(parser.parse_args().queries))


if __name__ == "__main__":
    main()
