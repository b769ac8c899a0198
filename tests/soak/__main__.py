"""Keep a daemon at work, with faults on, and watch what it holds: ``python -m tests.soak`` (Linux).

A line a minute; exit code 1 when memory, tasks, files or children grow, or an answer is a 500 or none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp
import numpy as np
import psutil

from tests.clip_emulator import ClipEmulator, Fault
from tests.soak.load import LONGEST_SECONDS, Folder, People
from tests.soak.watch import Sample, growth, sample, slope

ROOT = Path(__file__).parents[2]
SAMPLE_SECONDS = 5.0
START_SECONDS = 60.0
MOST_MORE = {"tasks": 5, "files": 5, "children": 0}
FAULTS = (
    Fault("status", every=11, status=503),
    Fault("status", every=29, status=429, retry_after="1"),
    Fault("reset", every=17),
    Fault("truncated", every=23),
    Fault("latency", every=7, seconds=0.5),
    Fault("html", every=41, status=502),
    Fault("nan", every=47),
    Fault("missing", every=53),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0, help="minutes at the start that do not count")
    parser.add_argument("--pictures", type=int, default=300, help="in the folder")
    parser.add_argument("--changes", type=float, default=4.0, help="of the folder, a second")
    parser.add_argument("--requests", type=float, default=20.0, help="a second")
    parser.add_argument("--growth", type=float, default=1.0, help="MB in ten minutes that are allowed")
    return parser.parse_args()


@asynccontextmanager
async def daemon(directory: Path, clip: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Have the daemon run as a process of its own; yield it and its URL."""
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.soaked_daemon", "run"),
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "IMAGES_DIR": str(directory / "pictures"),
                "STATE_DIR": str(directory / "state"),
                "TASKS": str(directory / "tasks"),
                "CLIP_HOST": clip,
                "PORT": "0",
            },
            stdout=log,
            stderr=log,
        )
    try:
        yield psutil.Process(process.pid), await _address(directory / "log")
    finally:
        process.terminate()
        await process.wait()


async def _address(log: Path) -> str:
    async with asyncio.timeout(START_SECONDS):
        while True:
            for line in log.read_text().splitlines():
                if '"daemon.ready"' in line:
                    return line.partition('"url": "')[2].partition('"')[0]
            await asyncio.sleep(0.1)


async def often(act: Callable[[], object], per_second: float, until: float) -> None:
    """Act so often, whether or not what was begun before has ended."""
    going: set[asyncio.Task[object]] = set()
    while time.monotonic() < until:
        done = act()
        if asyncio.iscoroutine(done):
            task = asyncio.create_task(done)
            going.add(task)
            task.add_done_callback(going.discard)
        await asyncio.sleep(1 / per_second)
    await asyncio.gather(*going)


async def watched(
    process: psutil.Process, people: People, clip: ClipEmulator, tasks: Path, until: float
) -> list[Sample]:
    """Look every few seconds; say every minute what was seen."""
    seen: list[Sample] = []
    started, minute = time.monotonic(), 1
    while time.monotonic() < until:
        await asyncio.sleep(SAMPLE_SECONDS)
        seen.append(sample(process, time.monotonic() - started, tasks))
        if seen[-1].seconds >= 60 * minute:
            minute += 1
            say(seen[-1], people, clip)
    return seen


def say(now: Sample, people: People, clip: ClipEmulator) -> None:
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(people.answers.items()))
    tell(
        f"{now.seconds / 60:4.1f} min: {now.memory:.1f} MB, children {now.children_memory:.1f} MB;"
        f" {now.tasks} tasks, {now.files} files, {now.children} children;"
        f" p99 {1000 * float(np.percentile(people.seconds, 99)):.0f} ms; {answers};"
        f" {clip.requests} batches asked of CLIP, {clip.batches} made"
    )


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def breaches(seen: Sequence[Sample], people: People, log: Path, most_mb: float) -> list[str]:
    """Return what must not be."""
    found = []
    for of in ("memory", "children_memory"):
        rise = slope(seen, of)
        tell(f"{of}: {rise:+.2f} MB in ten minutes")
        if rise > most_mb:
            found.append(f"{of} grows by {rise:.2f} MB in ten minutes")
    for of, most in MOST_MORE.items():
        more = growth(seen, of)
        tell(f"{of}: {more:+.0f}")
        if more > most:
            found.append(f"{more:.0f} more {of} at the end")
    wrong = {status: count for status, count in people.answers.items() if status in (-1, 500)}
    if wrong:
        found.append(f"answers of our own fault: {wrong}")
    if "request.failed" in log.read_text():
        found.append("the log has failed requests")
    return found


async def soak(wish: argparse.Namespace) -> int:
    random = Random(7)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        folder = Folder(directory / "pictures", wish.pictures, random)
        timeout = aiohttp.ClientTimeout(total=LONGEST_SECONDS)
        # A client that keeps connections would keep as many as it had in its busiest moment.
        async with (
            ClipEmulator(dimension=512, seconds=0.02) as clip,
            daemon(directory, clip.url) as (process, url),
            aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)
            ) as session,
        ):
            for fault in FAULTS:
                clip.faults.add(fault)
            people = People(url, session, random)
            until = time.monotonic() + 60 * wish.minutes
            seen, _, _ = await asyncio.gather(
                watched(process, people, clip, directory / "tasks", until),
                often(folder.change, wish.changes, until),
                often(people.ask, wish.requests, until),
            )
        counted = [one for one in seen if one.seconds >= 60 * wish.warm_up]
        found = breaches(counted, people, directory / "log", wish.growth)
        for breach in found:
            tell(f"BREACH: {breach}")
        return 1 if found else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(soak(arguments())))
