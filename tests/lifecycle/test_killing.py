"""Whatever is killed at whatever moment, the index converges by itself, and little is done twice."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import pytest
from counting_daemon import IN_FLIGHT, encodings
from live_daemon import LiveDaemon, wait_for_end
from painted import fill

from daemon.encoders.palette import PaletteEncoder

BATCHES_A_LIFE = 3
DEADLY = ("pipeline.before_encode", "pipeline.before_upsert", "pipeline.after_upsert")


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.nightly)])
def test_a_first_sync_killed_again_and_again_loses_nothing_and_repeats_only_batches_in_flight(
    counting: LiveDaemon, diary: Path, kills: int
) -> None:
    random = Random(kills)
    images = (kills + 1) * BATCHES_A_LIFE * PaletteEncoder.batch_size + 24
    projects = {f"project-{number}": images // 3 for number in range(3)}
    for number, (name, count) in enumerate(projects.items()):
        fill(counting.images / name, range(number * count, (number + 1) * count))

    for life in range(kills):
        if life % 4 == 3:
            counting.start()
            survive(counting, random.uniform(0.0, 0.8))
            counting.kill()
        else:
            place = f"{DEADLY[life % 4]}=kill:{random.randint(1, BATCHES_A_LIFE)}"
            counting.launch(FAILPOINTS=place)
            assert counting.process.wait(60) == -signal.SIGKILL, place

    counting.start()
    counting.wait_for(projects, 60 + images / 20)
    counts = encodings(diary)
    assert len(counts) == images
    assert counts.total() <= images + kills * IN_FLIGHT
    assert max(counts.values()) <= kills + 1
    assert counting.metrics()["images_quarantined"] == 0
    assert [counting.wanting(name) for name in projects] == [{}, {}, {}]


def survive(daemon: LiveDaemon, seconds: float) -> None:
    with pytest.raises(AssertionError, match="not seen"):
        daemon.wait_until(lambda: False, seconds)


def test_renames_and_removals_that_kills_cut_short_are_caught_up_on(
    counting: LiveDaemon, diary: Path
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
    counting: LiveDaemon, diary: Path
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
