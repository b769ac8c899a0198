"""What a process holds: memory, tasks, files, children; and whether it holds more and more of it."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 2**20


@dataclass(frozen=True)
class Sample:
    """What was held at a moment.

    :ivar seconds: since the start
    :ivar memory: anonymous memory in MB, of the process and of its children: pages of mapped files come
        and go as the kernel likes
    """

    seconds: float
    memory: float
    children_memory: float
    tasks: int
    files: int
    children: int


def sample(process: psutil.Process, seconds: float, tasks: Path) -> Sample:
    """Look at the process; the tasks are those it counted at the last look."""
    count = int(tasks.read_text() or 0) if tasks.exists() else 0
    os.kill(process.pid, signal.SIGUSR1)
    children = process.children(recursive=True)
    return Sample(
        seconds,
        _anonymous(process.pid),
        sum(_anonymous(child.pid) for child in children),
        count,
        process.num_fds(),
        len(children),
    )


def slope(samples: Sequence[Sample], of: str) -> float:
    """Return a figure's growth in ten minutes: the median slope of all pairs (Theil 1950, Sen 1968)."""
    pairs = itertools.combinations(samples, 2)
    slopes = [(getattr(b, of) - getattr(a, of)) / (b.seconds - a.seconds) for a, b in pairs]
    return 600 * statistics.median(slopes) if slopes else 0.0


def growth(samples: Sequence[Sample], of: str) -> float:
    """Return by how much a figure is higher in the last third than in the first."""
    third = max(len(samples) // 3, 1)
    values = [float(getattr(one, of)) for one in samples]
    return statistics.median(values[-third:]) - statistics.median(values[:third])


def _anonymous(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024 / MB
    return 0.0
