"""Signals: the first one drains and ends well, the second one ends at once."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest
from counting_daemon import IN_FLIGHT, encodings
from live_daemon import LiveDaemon
from painted import fill

DRAIN_SECONDS = 15.0
"""Far below the 45 s that are promised, since batches here take milliseconds."""


def test_a_signal_amid_a_sync_ends_it_well_and_the_next_start_goes_on(
    counting: LiveDaemon, diary: Path
) -> None:
    fill(counting.images / "trip", range(500))
    for number in (signal.SIGTERM, signal.SIGINT):
        counting.start()
        before = counting.indexed().get("trip", 0)
        counting.wait_until(partial(has_more, counting, before), 20)
        assert counting.projects()["trip"]["encoder"]["total"] == 500
        asked = time.monotonic()
        assert counting.terminate(number) == 0
        assert time.monotonic() - asked < DRAIN_SECONDS
        assert "daemon.stopped" in counting.life
    counting.start()
    counting.wait_for({"trip": 500})
    counts = encodings(diary)
    assert len(counts) == 500
    assert counts.total() <= 500 + 2 * IN_FLIGHT


def has_more(daemon: LiveDaemon, than: int) -> bool:
    return daemon.indexed().get("trip", 0) > than


def test_a_second_signal_ends_the_daemon_at_once(daemon: LiveDaemon) -> None:
    fill(daemon.images / "trip", range(10))
    daemon.start()
    child = daemon.store_child()
    child.suspend()  # so that the drain has to wait for it
    try:
        daemon.send(signal.SIGTERM)
        daemon.wait_until(lambda: "daemon.signal" in daemon.life, 5)
        with pytest.raises(AssertionError, match="not seen"):
            daemon.wait_until(lambda: False, 0.5)
        daemon.send(signal.SIGTERM)
        assert daemon.process.wait(2) == 128 + signal.SIGTERM
    finally:
        child.resume()


def test_a_signal_while_the_start_waits_for_a_store_is_heeded(daemon: LiveDaemon) -> None:
    fill(daemon.images / "trip", range(1))
    daemon.launch(QDRANT_HOST="http://127.0.0.1:9")
    daemon.wait_until(lambda: "store.away" in daemon.life, 20)
    asked = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - asked < DRAIN_SECONDS
    assert "daemon.stopped" in daemon.life
