"""Places that fail on purpose."""

import os
import signal
from pathlib import Path

import pytest

from daemon.failpoints import NAMES, Failpoints
from state.errors import Misconfigured, Unavailable

NAME = "pipeline.after_upsert"


def test_nothing_fails_unless_armed() -> None:
    failpoints = Failpoints()
    for name in NAMES:
        failpoints.reach(name)


def test_it_fails_at_the_nth_time_and_only_then() -> None:
    failpoints = Failpoints({NAME: "unavailable:3"})
    failures = []
    for number in range(1, 7):
        try:
            failpoints.reach(NAME)
        except Unavailable:
            failures.append(number)
    assert failures == [3]


def test_without_a_number_it_fails_at_the_first_time() -> None:
    with pytest.raises(Unavailable, match=NAME):
        Failpoints({NAME: "unavailable"}).reach(NAME)


def test_kill_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    with pytest.raises(Unavailable):
        Failpoints({NAME: "kill"}).reach(NAME)
    assert killed == [(os.getpid(), signal.SIGKILL)]


@pytest.mark.parametrize(
    "armed",
    [
        {"no.such.place": "kill"},
        {NAME: ""},
        {NAME: "explode"},
        {NAME: "kill:0"},
        {NAME: "kill:-1"},
        {NAME: "kill:²"},
        {NAME: "kill:many"},
    ],
)
def test_what_cannot_be_meant_is_refused(armed: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="FAILPOINTS"):
        Failpoints(armed)


def test_every_failpoint_is_reached_somewhere() -> None:
    daemon = Path(__file__).parents[2] / "daemon"
    code = "".join(path.read_text() for path in daemon.glob("*.py") if path.name != "failpoints.py")
    assert {name for name in NAMES if f'reach("{name}")' not in code} == set()
