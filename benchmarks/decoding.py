"""Decoding in threads or in processes: ``python -m benchmarks.decoding``.

Painted photographs of 12 and of 1 megapixels, to the 224 pixels that CLIP wants, by as many workers as
there are cores to share. A process must be sent the file and must send back the pixels.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from daemon.pictures import decode

SIDE = 224
DIFFERENT = 8
SIZES = {"12 MP": (4000, 3000), "1 MP": (1152, 864)}
AHEAD = 16
"""Pictures given to the workers at once, as the pipeline does."""


def photograph(size, seed):
    """Paint soft shapes with some grain, so that the file is about as large as a camera's."""
    random = np.random.default_rng(seed)
    soft = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
    grain = random.normal(0, 6, (size[1], size[0], 1)).astype(np.int16)
    file = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Memory:
    """The most memory that this process and its children had at once, looked at all the time."""

    def __enter__(self):
        self.before = self.most = held()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._watch.join()

    def _look(self):
        while not self._over.wait(0.02):
            self.most = max(self.most, held())


def held():
    """Return the bytes that this process and its children share or have for themselves."""
    children = [one.pid for one in multiprocessing.active_children()]
    total = 0
    for process in (os.getpid(), *children):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def decode_all(pool, photographs, number):
    started = time.perf_counter()
    waiting = []
    for one in range(number):
        waiting.append(pool.submit(decode, photographs[one % DIFFERENT], SIDE))
        if len(waiting) == AHEAD:
            waiting.pop(0).result()
    for one in waiting:
        one.result()
    return time.perf_counter() - started


def measure(number, workers, rounds):
    spawn = multiprocessing.get_context("spawn")
    pools = {
        "threads": partial(ThreadPoolExecutor, workers),
        "processes": partial(ProcessPoolExecutor, workers, mp_context=spawn),
    }
    print(f"{number} photographs, {workers} workers, median of {rounds}")
    print("| pictures | MB a file | way | ms a picture | more memory, MB |\n|---|---|---|---|---|")
    for name, size in SIZES.items():
        photographs = [photograph(size, seed) for seed in range(DIFFERENT)]
        megabytes = sum(map(len, photographs)) / DIFFERENT / 1e6
        for way, pool in pools.items():
            with Memory() as memory, pool() as running:
                decode_all(running, photographs, 2 * workers)
                seconds = median(decode_all(running, photographs, number) for _ in range(rounds))
            more = (memory.most - memory.before) / 1e6
            print(
                f"| {name} | {megabytes:.1f} | {way} | {1e3 * seconds / number:.1f} | {more:.0f} |",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    measure(arguments.photographs, arguments.workers, arguments.rounds)


if __name__ == "__main__":
    main()
