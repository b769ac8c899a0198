"""Whatever is killed at whatever moment, the index converges by itself, and little is done twice."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
from counting_daemon import IN_FLIGHT, encodings
from death_story import check_whole, die_again_and_again
from deaths import MOMENTS_OF_AN_EMBEDDED_STORE
from live_daemon import LiveDaemon, wait_for_end
from nursery import ForkedDaemon
from painted import fill

STORIES = [
    pytest.param(5, 0, id="5"),
    *(pytest.param(50, seed, marks=pytest.mark.nightly, id=f"50-{seed}") for seed in range(1, 11)),
]
"""Deaths one after the other, and the seed of everything in them; nightly it is 500 in all."""

log = logging.getLogger(__name__)


@pytest.mark.parametrize(("kills", "seed"), STORIES)
def test_whenever_it_is_killed_nothing_acknowledged_is_lost_and_only_batches_in_flight_are_repeated(
    counting: ForkedDaemon, diary: Path, kills: int, seed: int
) -> None:
    account, folder = die_again_and_again(counting, diary, kills, seed, MOMENTS_OF_AN_EMBEDDED_STORE)
    log.info("%s", account.figures())
    assert account.missed < kills / 2
    assert account.lost == []
    assert account.beyond(IN_FLIGHT) == {}
    check_whole(counting, folder)


def test_renames_and_removals_that_kills_cut_short_are_caught_up_on(
    counting: ForkedDaemon, diary: Path
) -> None:
    fill(counting.images / "trip", range(40))
    counting.start()
    counting.wait_for({"trip": 40})
    counting.terminate()
    for number in range(10):
        (counting.images / "trip" / f"{number}.jpeg").rename(counting.images / "trip" / f"new-{number}.jpeg")
        (counting.images / "trip" / f"{10 + number}.jpeg").unlink()
    for place in ("sync.before_reuse", "removals.before_remove"):
        counting.launch(FAILPOINTS=f"{place}=kill:1")
        assert counting.process.wait(60) == -signal.SIGKILL, place
    counting.start()
    counting.wait_for({"trip": 30})
    assert counting.wanting("trip") == {}
    assert encodings(diary).total() == 40


def test_the_death_of_the_store_s_process_is_healed_and_nothing_is_lost(
    counting: ForkedDaemon, diary: Path
) -> None:
    fill(counting.images / "trip", range(300))
    counting.start()
    first = counting.store_child()
    counting.wait_until(lambda: sum(counting.indexed().values()) > 0, 20)
    first.kill()
    counting.wait_for({"trip": 300})
    second = counting.store_child()
    assert second.pid != first.pid
    assert len(counting.found("trip", prompt="bright", limit=10)) == 10
    counts = encodings(diary)
    assert len(counts) == 300
    assert counts.total() <= 300 + IN_FLIGHT

    second.kill()
    counting.wait_until(lambda: len(counting.found("trip", prompt="bright", limit=300)) == 300, 20)
    assert encodings(diary) == counts


def test_the_store_s_process_does_not_outlive_the_daemon(daemon: LiveDaemon) -> None:
    fill(daemon.images / "trip", range(10))
    daemon.start()
    daemon.wait_for({"trip": 10})
    child = daemon.store_child()
    daemon.kill()
    wait_for_end([child], 10)
