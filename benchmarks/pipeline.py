"""How busy the encoder is kept: ``python -m benchmarks.pipeline``.

The encoder takes 150 ms a batch of 32, one at a time, as a GPU; a picture takes 40 ms to fetch. Against
it, in the same run, the sequential way: fetch a batch, two at a time, then encode it, then write it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.pipeline import Limits, Pipeline
from state.journal import SqliteJournal
from state.model import Action, Change, Embedding, EncoderRecord, ImageRef, Picture, Reason, StoredImage
from state.stores.memory import MemoryStore

FETCH_SECONDS = 0.040
BATCH_SECONDS = 0.150
BATCH = 32
DIMENSION = 8
ENCODER_ID = "benchmark-8-1"
LIMITS = Limits(batches=8, batch=64)


class SlowSource:
    """Pictures that take their time."""

    async def fetch(self, image, reserve):
        await reserve(len(PICTURE))
        await asyncio.sleep(FETCH_SECONDS)
        return Picture(PICTURE, image.content, "file")


class SlowEncoder:
    """One batch at a time; a small one takes as long as a full one."""

    kind, id, dimension, batch_size, picture_side = "benchmark", ENCODER_ID, DIMENSION, BATCH, 32

    def __init__(self):
        self.busy = 0.0
        self._gpu = asyncio.Lock()

    async def encode_images(self, pictures):
        async with self._gpu:
            started = time.perf_counter()
            await asyncio.sleep(BATCH_SECONDS * max(1.0, len(pictures) / BATCH))
            self.busy += time.perf_counter() - started
        return np.tile(np.eye(1, DIMENSION, dtype=np.float32), (len(pictures), 1))


def painted():
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "PNG")
    return file.getvalue()


PICTURE = painted()


def images(number):
    return [ImageRef(i, 1, 1, f"{i}.png", f"{i:032x}") for i in range(1, number + 1)]


async def ours(number, store, journal):
    encoder = SlowEncoder()
    with ThreadPoolExecutor(2) as threads:
        pipeline = Pipeline(
            *(SlowSource(), encoder, store, journal, Epochs(1), threads, LIMITS),
            *(time.monotonic, time.time, Failpoints()),
        )

        async def changes():
            for image in images(number):
                yield Change(Action.ENCODE, Reason.NEW, image, None)

        started = time.perf_counter()
        await pipeline.run(ENCODER_ID, changes(), lambda *_: None)
        return time.perf_counter() - started, encoder.busy


async def reserve(size):
    """There is room for everything."""


async def sequential(number, store, batch=50, downloads=2):
    source, encoder = SlowSource(), SlowEncoder()
    slots = asyncio.Semaphore(downloads)

    async def fetch(image):
        async with slots:
            return await source.fetch(image, reserve)

    started = time.perf_counter()
    wanted = images(number)
    for start in range(0, number, batch):
        part = wanted[start : start + batch]
        pictures = await asyncio.gather(*map(fetch, part))
        vectors = await encoder.encode_images(pictures)
        points = [
            Embedding(StoredImage(image.id, 1, 1, image.name, image.content), vector)
            for image, vector in zip(part, vectors, strict=True)
        ]
        await store.upsert(ENCODER_ID, points)
    return time.perf_counter() - started, encoder.busy


async def measure(number, rounds):
    ideal = math.ceil(number / BATCH) * BATCH_SECONDS
    print(f"{number} images, ideal {ideal:.2f} s, median of {rounds}")
    print("| way | seconds | × ideal | encoder busy |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        journal = SqliteJournal(Path(directory) / "journal.sqlite")
        for name, way in (
            ("pipeline", lambda store: ours(number, store, journal)),
            ("sequential, 2 downloads", lambda store: sequential(number, store)),
            ("sequential, 50 downloads", lambda store: sequential(number, store, downloads=50)),
        ):
            times = sorted([await way(await empty_store()) for _ in range(rounds)])
            seconds, busy = times[len(times) // 2]
            print(f"| {name} | {seconds:.2f} | {seconds / ideal:.3f} | {busy / seconds:.1%} |", flush=True)
        await journal.close()


async def empty_store():
    store = MemoryStore()
    record = EncoderRecord(ENCODER_ID, "benchmark", DIMENSION, np.eye(1, DIMENSION, dtype=np.float32))
    await store.add_encoder(record)
    return store


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="how often; the median counts")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.images, arguments.rounds))


if __name__ == "__main__":
    main()
