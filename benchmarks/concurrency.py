"""Two hundred who search at once, while a folder is being indexed: ``python -m benchmarks.concurrency``.

The daemon is whole, with the palette as its encoder; the callers are in this process and share its cores.
Whoever is told 429 waits as told and asks again; any other answer but 200 fails the benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from daemon import logs
from daemon.service import listening, synchronising
from daemon.settings import Settings
from daemon.wiring import wired
from state.model import Within

CALLERS = 200
PROJECT = "benchmark"
WORDS = ("red", "dark blue", "bright green", "yellow", "black", "white")


def paint(folder, numbers):
    folder.mkdir(parents=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).resize((256, 256)).save(folder / f"{number}.jpg")


@asynccontextmanager
async def standing(directory):
    settings = Settings(
        images_dir=directory / "pictures",
        state_dir=directory / "state",
        encoder="palette",
        requests_per_second=0,
        settle_seconds=0.2,
    )
    async with wired(settings) as parts, synchronising(parts), listening(parts.app, "127.0.0.1", 0) as url:
        yield parts, url


async def count(parts):
    pointers = await parts.store.pointers()
    return sum([await parts.store.count(encoder, Within(project)) for project, encoder in pointers.items()])


async def until_made(parts, number):
    while True:
        if await count(parts) >= number:
            return
        await asyncio.sleep(0.2)


async def searches(url, callers, seconds):
    """Search for so long; return the answers by status, and the seconds of those that were found."""
    statuses, waits = Counter(), []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        end = time.perf_counter() + seconds

        async def caller(number):
            asked = 0
            while time.perf_counter() < end:
                asked += 1
                wish = {"project_id": PROJECT, "prompt": WORDS[(number + asked) % len(WORDS)], "limit": 10}
                started = time.perf_counter()
                async with session.post(f"{url}/search", json=wish) as response:
                    await response.read()
                statuses[response.status] += 1
                if response.status == 200:
                    waits.append(time.perf_counter() - started)
                await asyncio.sleep(float(response.headers.get("Retry-After", 0)))

        await asyncio.gather(*map(caller, range(callers)))
    return statuses, waits


def row(name, statuses, waits, seconds):
    p50, p99 = np.percentile(waits, [50, 99]) * 1000
    print(f"| {name} | {len(waits) / seconds:.0f} | {p50:.0f} | {p99:.0f} | {statuses[429]} |", flush=True)
    if set(statuses) - {200, 429}:
        raise RuntimeError(f"other answers: {statuses}")


async def measure(number, more, seconds):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        paint(directory / "pictures" / PROJECT, range(number))
        paint(directory / "more", range(number, number + more))
        async with standing(directory) as (parts, url):
            await until_made(parts, number)
            print("| | found a second | p50 ms | p99 ms | told 429 |\n|---|---|---|---|---|")
            row("one caller, idle", *await searches(url, 1, seconds), seconds)
            row(f"{CALLERS} callers, idle", *await searches(url, CALLERS, seconds), seconds)
            (directory / "more").rename(directory / "pictures" / PROJECT / "more")
            row("one caller, while syncing", *await searches(url, 1, seconds), seconds)
            row(f"{CALLERS} callers, while syncing", *await searches(url, CALLERS, seconds), seconds)
            made = await count(parts) - number
            state = "the sync went on to the end" if made < more else "THE SYNC WAS OVER EARLY: give it more"
            print(f"\n{made} of {more} new pictures were made meanwhile: {state}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--more", type=int, default=6_000, help="that come in meanwhile")
    parser.add_argument("--seconds", type=float, default=8.0)
    wish = parser.parse_args()
    logs.set_up("error", "json", [])
    asyncio.run(measure(wish.images, wish.more, wish.seconds))


if __name__ == "__main__":
    main()
