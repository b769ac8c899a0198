"""What is kept between two lives of the daemon, and what may vanish meanwhile."""

from __future__ import annotations

from pathlib import Path

from counting_daemon import encodings
from daemon_asked import Costs
from live_daemon import LiveDaemon
from live_fixtures import Maker
from painted import fill

OFTEN = {"UPDATE_INTERVAL": "0.01"}
"""Look through the folder every 0.6 seconds."""


def test_two_folders_with_one_state_directory_do_not_see_each_other(another: Maker, tmp_path: Path) -> None:
    shared = str(tmp_path / "state")
    first = another("first", STATE_DIR=shared)
    second = another("second", STATE_DIR=shared)
    fill(first.images / "trip", range(20))
    fill(second.images / "trip", range(10, 25))
    first.start()
    first.wait_for({"trip": 20})
    assert first.terminate() == 0

    second.start()
    second.wait_for({"trip": 15})
    assert second.costs() == Costs(encoded=15)
    names = {f"trip/{number}.jpeg" for number in range(10, 25)}
    assert set(second.found("trip", prompt="bright", limit=100)) == names
    assert second.terminate() == 0

    first.start()
    first.wait_for({"trip": 20})
    assert first.costs() == Costs()


def test_a_lost_journal_costs_a_look_at_the_folder_and_no_encoding(daemon: LiveDaemon) -> None:
    fill(daemon.images / "trip", range(30))
    fill(daemon.images / "walk" / "deep", range(30, 50))
    daemon.start()
    daemon.wait_for({"trip": 30, "walk": 20})
    assert daemon.terminate() == 0
    journal = list(daemon.state.glob("journal.sqlite*"))
    assert journal
    for file in journal:
        file.unlink()
    (daemon.images / "trip" / "0.jpeg").unlink()
    daemon.start()
    daemon.wait_for({"trip": 29, "walk": 20})
    daemon.wait_for_costs(Costs(), Costs(removed=1), "trip")


def test_a_folder_that_is_away_loses_nothing_and_is_taken_up_again(counting: LiveDaemon, diary: Path) -> None:
    fill(counting.images / "trip", range(30))
    counting.start(**OFTEN)
    counting.wait_for({"trip": 30})
    away = counting.images.with_name("away")

    counting.images.rename(away)
    counting.wait_until(lambda: waits_for(counting, "No such file"), 15)
    assert counting.get("/health").json["checks"]["source"].startswith("unhealthy: ")
    counting.images.mkdir()
    counting.wait_until(lambda: waits_for(counting, "is empty"), 15)
    assert counting.indexed() == {"trip": 30}
    assert len(counting.found("trip", prompt="bright", limit=100)) in (0, 30)

    counting.images.rmdir()
    away.rename(counting.images)
    counting.wait_until(lambda: waits_for(counting, ""), 30)
    fill(counting.images / "trip", [99])
    counting.wait_for({"trip": 31})
    assert counting.costs() == Costs(encoded=31)
    assert encodings(diary).total() == 31


def waits_for(daemon: LiveDaemon, why: str) -> bool:
    """Tell whether every project waits for that, or, for no reason, whether none waits."""
    reasons = [one["waiting_for"] or "" for one in daemon.projects().values()]
    return all(why in reason if why else not reason for reason in reasons)
