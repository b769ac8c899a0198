"""What HTTP adds to a search: ``python -m benchmarks.http``.

The same queries, turn by turn, over HTTP and straight to the store, on the embedded engine; and how long
a probe of liveness waits while searches and writes go on.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import numpy as np

from benchmarks.edge import ENCODER_ID, images
from benchmarks.vectors import synthetic
from daemon import logs
from daemon.encoders.palette import PaletteEncoder
from daemon.service import listening
from handlers.app import create_app
from handlers.parts import Limits, Ports
from state.matrices import MatrixCache
from state.model import Embedding, EncoderRecord, Project, Within
from state.stores.edge import EdgeStore

PROJECT = 1
TURN = 100
TURNS = 9
CALLERS = 8


class OneProject:
    """A source that has one project."""

    async def project(self, ref):
        return Project(PROJECT, "benchmark") if ref == PROJECT else None


async def turn(ask, callers=CALLERS):
    """Ask `TURN` times, several at a time; return questions per second."""
    left = iter(range(TURN))

    async def caller():
        for number in left:
            await ask(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return TURN / (time.perf_counter() - started)


async def probe(session, url, seconds):
    """Return how long answers to ``/livez`` take, in ms."""
    waits, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        async with session.get(f"{url}/livez") as response:
            await response.read()
        waits.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(0.01)
    return waits


async def measure(number):
    vectors, _ = synthetic(number)
    points = [Embedding(image, vector) for image, vector in zip(images(number), vectors, strict=True)]
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(1) as files:
        edge = await EdgeStore.open(Path(directory) / "vectors", "benchmark")
        store = MatrixCache(edge, Path(directory) / "matrices", files)
        await store.add_encoder(EncoderRecord(ENCODER_ID, "benchmark", vectors.shape[1], vectors[:1]))
        await store.set_pointer(PROJECT, ENCODER_ID)
        await store.upsert(ENCODER_ID, points)
        encoder = PaletteEncoder()
        app = create_app(
            Ports(OneProject(), store, store, encoder, None), limits=Limits(requests_per_second=0)
        )
        async with listening(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:

            async def over_http(turn_number):
                wish = {"project_id": PROJECT, "by_image_ids": [points[turn_number].image.id], "limit": 10}
                async with session.post(f"{url}/search", json=wish) as response:
                    answer = await response.json()
                    assert len(answer["items"]) == 10, answer

            async def straight(turn_number):
                known = await store.embeddings(ENCODER_ID, [points[turn_number].image.id])
                query = np.stack([one.vector for one in known])
                await store.query(ENCODER_ID, query, Within(PROJECT), 10)

            await turn(over_http), await turn(straight)
            pairs = [(await turn(over_http), await turn(straight)) for _ in range(TURNS)]
            http, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(one / other for one, other in pairs)
            print("| searches per second | over HTTP | store alone | ratio |\n|---|---|---|---|")
            print(f"| {number} images | {http:.0f} | {bare:.0f} | {ratio:.2f} |")

            async def write():
                for start in range(0, number, 256):
                    await store.upsert(ENCODER_ID, points[start : start + 256])

            async def search_all_the_while():
                while True:
                    await turn(over_http, callers=4)

            load = [asyncio.create_task(write()), asyncio.create_task(search_all_the_while())]
            waits = await probe(session, url, 5)
            for task in load:
                task.cancel()
            await asyncio.wait(load)
            p50, p99 = np.percentile(waits, [50, 99])
            print(f"\n/livez under searches and writes: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        await encoder.close()
        await store.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    logs.set_up("error", "json", [])
    asyncio.run(measure(parser.parse_args().images))


if __name__ == "__main__":
    main()
