"""A first sync of many pictures, some of them broken, while requests go on being answered."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from live_daemon import LiveDaemon
from painted import BROKEN, break_some, fill

LIVEZ_SECONDS = 0.05
"""The 99th percentile that a probe may take while everything is busy."""

PROBE = b"GET /livez HTTP/1.1\r\nHost: daemon\r\n\r\n"
PROBE_EVERY = 0.01
PROJECTS = 4


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_all_good_pictures_are_indexed_and_broken_ones_set_aside_while_requests_are_answered(
    daemon: LiveDaemon, count: int, tmp_path: Path
) -> None:
    expected = many_pictures(tmp_path / "painted", count)
    break_some(tmp_path / "painted" / "project-0" / "broken", 4)
    fill(daemon.images / "filled", range(40))
    daemon.start()
    daemon.wait_for({"filled": 40})
    with searching(daemon) as searches, probing(daemon) as delays:
        for project in (tmp_path / "painted").iterdir():
            project.rename(daemon.images / project.name)
        daemon.wait_for({"filled": 40, **expected}, 60 + count / 20)
    assert daemon.costs().encoded == 40 + count
    assert set(searches) == {200}
    percentile = np.percentile(delays, 99)
    assert percentile < LIVEZ_SECONDS, f"p99 of {len(delays)} probes: {1000 * percentile:.1f} ms"
    check_quarantine(daemon)


def many_pictures(root: Path, count: int) -> dict[str, int]:
    """Fill several projects, with datasets in them, and return how much each holds."""
    for number in range(PROJECTS):
        half = count // PROJECTS // 2
        first = 1_000 + number * 2 * half
        fill(root / f"project-{number}" / "photographs", range(first, first + half), "jpeg")
        fill(root / f"project-{number}" / "drawings" / "deep", range(first + half, first + 2 * half), "png")
    return {f"project-{number}": count // PROJECTS for number in range(PROJECTS)}


def check_quarantine(daemon: LiveDaemon) -> None:
    """Exactly the broken files are set aside, each for what is wrong with it."""
    assert daemon.metrics()["images_quarantined"] == 20
    items = daemon.get("/quarantine").json["items"]
    assert len(items) == 20
    for item in items:
        _, _, reason = BROKEN[item["name"].partition("-")[0]]
        assert re.search(reason, item["reason"]), item


@contextmanager
def searching(daemon: LiveDaemon) -> Iterator[list[int]]:
    """Search a filled project all the while; collect the statuses."""

    def search() -> int:
        query = {"project_id": "filled", "prompt": "dark red", "limit": 10}
        answer = daemon.post("/search", query)
        assert len(answer.json.get("items", ())) == 10, answer
        return answer.status

    with repeating(search, 0.05) as statuses:
        yield statuses


@contextmanager
def probing(daemon: LiveDaemon) -> Iterator[list[float]]:
    """Ask ``/livez`` one time after the other, on one connection; collect how long each answer took."""
    address = urlsplit(daemon.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:

        def probe() -> float:
            started = time.perf_counter()
            connection.sendall(PROBE)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            return time.perf_counter() - started

        with repeating(probe, PROBE_EVERY) as delays:
            yield delays


@contextmanager
def repeating(work, pause: float) -> Iterator[list]:
    """Do some work again and again in a thread while the context lasts; collect its results."""
    results, failures, over = [], [], threading.Event()

    def run() -> None:
        try:
            while not over.wait(pause):
                results.append(work())
        except (AssertionError, OSError) as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join()
    assert not failures, failures
    assert results
