"""A sweep that finds nothing to do: the folder's listing table against a store, merged by the diff.

``python -m benchmarks.folder --images 1000000 --edge 200000``

The rows are written into the journal's table directly, so it takes no files. The streamed store makes
its proofs as it goes and holds none; Edge is the real one, in its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from daemon.folder import listing, source
from daemon.folder.listing import Entry, Stamp, path_id
from state.changes import diff
from state.journal import ForcedImages, SqliteJournal
from state.model import Embedding, EncoderRecord, StoredImage
from state.stores.edge import EdgeStore

PROJECT = path_id(b"holidays")
DIMENSION = 199
WRITTEN_AT_ONCE = 10_000
POINTS_AT_ONCE = 1_000
PREFIX = "benchmark"
COLLECTION = "palette-199-1"
MIB = 2**20


class Images:
    """As many images as asked for, known by number; `order` is that of their ids."""

    def __init__(self, count):
        self.ids = np.fromiter((path_id(self.path(number)) for number in range(count)), np.int64, count)
        self.order = np.argsort(self.ids)

    def path(self, number):
        return b"holidays/dataset-%03d/picture-%07d.jpg" % (number % 100, number)

    def content(self, number):
        return f"{number:040x}"

    def proof(self, number):
        path = self.path(number)
        folder, _, name = path.decode().rpartition("/")
        return StoredImage(
            int(self.ids[number]),
            PROJECT,
            path_id(folder.encode()),
            name,
            self.content(number),
            path.decode(),
            route=source.ROUTE,
        )

    async def stream(self, page=source.PAGE):
        for start in range(0, len(self.order), page):
            yield [self.proof(number) for number in self.order[start : start + page].tolist()]


async def fill_journal(journal, images):
    await journal.run(listing.create)
    for start in range(0, len(images.ids), WRITTEN_AT_ONCE):
        numbers = range(start, min(start + WRITTEN_AT_ONCE, len(images.ids)))
        found = [(Entry(images.path(n), Stamp(n, n, n, n)), images.content(n)) for n in numbers]
        assert not await journal.run(listing.record, found)


async def fill_edge(directory, images):
    store = await EdgeStore.open(directory, PREFIX)
    rng = np.random.default_rng(0)
    await store.add_encoder(
        EncoderRecord(COLLECTION, "palette", DIMENSION, np.eye(DIMENSION, dtype=np.float32))
    )
    for start in range(0, len(images.ids), POINTS_AT_ONCE):
        numbers = range(start, min(start + POINTS_AT_ONCE, len(images.ids)))
        vectors = rng.standard_normal((len(numbers), DIMENSION), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        points = [Embedding(images.proof(n), vector) for n, vector in zip(numbers, vectors, strict=True)]
        await store.upsert(COLLECTION, points)
    await store.close()


async def listed(journal):
    """Page through the table as the folder source does after it has looked at the files."""
    last = -1
    while page := await journal.run(listing.page, PROJECT, last, source.PAGE):
        yield page
        last = page[-1].id


class Meter:
    """CPU seconds of this process by what they went into, and its peak memory."""

    def __init__(self):
        self.process = psutil.Process()
        self.start = self.peak = self.process.memory_info().rss
        self.seconds = {"listing": 0.0, "store": 0.0}

    async def reading(self, name, pages):
        """Pass pages on, and take the time that it takes to get them."""
        while True:
            started = time.process_time()
            page = await anext(pages, None)
            self.seconds[name] += time.process_time() - started
            if page is None:
                return
            self.peak = max(self.peak, self.process.memory_info().rss)
            yield page

    @property
    def mebibytes(self):
        return (self.peak - self.start) / MIB


async def sweep(name, count, wanted, stored):
    """Find out that nothing is to be done; return what that cost as a row of a table."""
    children = psutil.Process().children()
    meter, fresh, began = Meter(), 0, (time.perf_counter(), time.process_time(), cpu(children))
    sides = meter.reading("listing", wanted), meter.reading("store", stored)
    async for step in diff(*sides, ForcedImages()):
        assert not step.changes, step.changes[0]
        fresh += step.fresh
    assert fresh == count
    ended = time.perf_counter(), time.process_time(), cpu(children)
    wall, ours, engine = (end - start for start, end in zip(began, ended, strict=True))
    listing_, store = meter.seconds.values()
    parts = (1e6 * seconds / count for seconds in (listing_, store, engine, ours - listing_ - store))
    columns = " | ".join(f"{part:.2f}" for part in parts)
    return f"| {name}, {count} | {wall:.1f} s | {columns} | {meter.mebibytes:.1f} MiB |"


def cpu(processes):
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


async def fill_streamed(folder, count):
    journal = SqliteJournal(folder / "streamed.sqlite")
    await fill_journal(journal, Images(count))
    await journal.close()


async def sweep_streamed(folder, count):
    images, journal = Images(count), SqliteJournal(folder / "streamed.sqlite")
    row = await sweep("streamed", count, listed(journal), images.stream())
    await journal.close()
    return row


async def fill_embedded(folder, count):
    images, journal = Images(count), SqliteJournal(folder / "embedded.sqlite")
    await fill_journal(journal, images)
    await fill_edge(folder / "vectors", images)
    await journal.close()


async def sweep_embedded(folder, count):
    journal = SqliteJournal(folder / "embedded.sqlite")
    store = await EdgeStore.open(folder / "vectors", PREFIX)
    row = await sweep("Edge", count, listed(journal), store.scroll(COLLECTION, PROJECT))
    await store.close()
    await journal.close()
    return row


def run(work, folder, count):
    return asyncio.run(work(folder, count))


def measure(streamed, embedded, folder):
    print("| store, images | time | listing | store | its engine | diff | memory above the start |")
    print("|---|---|---|---|---|---|---|")
    works = ((fill_streamed, sweep_streamed, streamed), (fill_embedded, sweep_embedded, embedded))
    for fill, sweep_it, count in works:
        # Each in a process of its own: what filling leaves behind would hide what sweeping takes.
        with ProcessPoolExecutor(1, max_tasks_per_child=1) as processes:
            processes.submit(run, fill, folder, count).result()
            print(processes.submit(run, sweep_it, folder, count).result(), flush=True)
    print("\nmicroseconds of CPU per pair of rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000, help="against a streamed store")
    parser.add_argument("--edge", type=int, default=200_000, help="against Qdrant Edge")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.images, arguments.edge, Path(folder))


if __name__ == "__main__":
    main()
