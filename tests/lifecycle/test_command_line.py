"""The commands, with and without a daemon that runs on the same state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from live_daemon import LiveDaemon
from nursery import ForkedDaemon, Nursery
from painted import COLOURS, break_some, fill, painted
from typer.testing import CliRunner

from daemon.__main__ import app
from handlers.selection import Method

COMMANDS = (
    "run",
    "sync",
    "plan",
    "search",
    "diverse",
    "status",
    "quarantine list",
    "quarantine retry",
    "encoder list",
    "encoder use",
    "model fetch",
    "model path",
    "export",
    "import",
    "adopt",
    "doctor",
    "health",
    "reload",
    "samples",
)


@pytest.fixture(scope="module")
def pictures(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedDaemon]:
    """Pictures that were synced by a command."""
    daemon = ForkedDaemon(nursery, tmp_path_factory.mktemp("pictures"))
    fill(daemon.images / "trip", range(12))
    (daemon.images / "trip" / "apple.jpeg").write_bytes(painted(100, colour=COLOURS["red"]))
    break_some(daemon.images / "broken", 1)
    planned = daemon.command("plan", "--project", "trip")
    assert planned.returncode == 0, planned.stderr
    assert "trip: 13 encode" in planned.stdout
    synced = LiveDaemon.command(daemon, "sync")  # once as people start it
    assert synced.returncode == 0, synced.stderr
    assert "broken: 5 pictures in quarantine" in synced.stdout
    assert "13 images fresh, 0 stale" in synced.stdout
    yield daemon
    daemon.close()


@pytest.fixture
def running(pictures: ForkedDaemon) -> ForkedDaemon:
    if not pictures.alive:
        pictures.start()
        pictures.wait_for({"trip": 13})
    return pictures


@pytest.fixture
def stopped(pictures: ForkedDaemon) -> ForkedDaemon:
    if pictures.alive:
        assert pictures.terminate() == 0
    return pictures


def answer(daemon: LiveDaemon, *words: str) -> list[str]:
    done = daemon.command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output
    assert len(shown.output.splitlines()) > 5


def test_every_method_is_named_where_one_is_chosen() -> None:
    shown = CliRunner().invoke(app, ["diverse", "--help"], env={"COLUMNS": "200"}).output
    assert [method for method in get_args(Method) if method not in shown] == []


def test_without_a_daemon_commands_open_the_state_themselves(stopped: LiveDaemon) -> None:
    assert answer(stopped, "search", "red", "--project", "trip", "--limit", "1")[0].endswith(
        "trip/apple.jpeg"
    )
    assert answer(stopped, "status")[-1] == "no daemon is running"
    assert answer(stopped, "quarantine", "list")[-1] == "5 in all"


def test_beside_a_daemon_commands_ask_it(running: LiveDaemon) -> None:
    found = answer(running, "search", "red, green grass", "--project", "trip", "--limit", "3")
    assert found[0].endswith("trip/apple.jpeg")
    assert len([line for line in found if line.endswith(".jpeg")]) == 3
    assert any("Ignored" in line and "grass" in line for line in found)

    picked = answer(running, "diverse", "--project", "trip", "--size", "4")
    assert len({line for line in picked if line.startswith("trip/")}) == 4

    status = answer(running, "status")
    assert any("trip" in line and "13" in line for line in status)
    assert status[-1] == f"daemon at {running.url}"

    assert any("trip: 13 keep" in line for line in answer(running, "plan"))
    assert sum("looks like HTML" in line for line in answer(running, "quarantine", "list")) == 1
    assert answer(running, "quarantine", "retry") == ["5 pictures will be tried again."]
    assert answer(running, "sync")[-1] == "13 images fresh, 0 stale"
    assert answer(running, "quarantine", "list", "--project", "broken")[-1] == "5 in all"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("search", "unicorns", "--project", "trip"), 1, "names no colour, light or texture"),
        (("search", "red", "--project", "nowhere"), 1, "no such project"),
        (("plan", "--project", "nowhere"), 78, "there is no project nowhere"),
        (("diverse", "--project", "trip", "--method", "magic"), 1, "method"),
    ],
)
def test_what_a_command_cannot_do_it_says_in_a_line(
    running: LiveDaemon, words: tuple[str, ...], code: int, problem: str
) -> None:
    failed = running.command(*words)
    assert failed.returncode == code, failed
    assert problem in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_address_left_by_a_killed_daemon_misleads_no_command(running: LiveDaemon) -> None:
    running.kill()
    assert (running.state / "daemon.json").exists()
    assert answer(running, "status")[-1] == "no daemon is running"


def test_sync_says_by_its_exit_code_that_something_stays_stale(daemon: LiveDaemon) -> None:
    fill(daemon.images / "trip", range(5))
    failed = daemon.command("sync", FAILPOINTS="pipeline.before_upsert=unavailable:1")
    assert failed.returncode == 1
    assert "trip waits: failpoint: pipeline.before_upsert" in failed.stdout
    assert daemon.command("sync").returncode == 0
