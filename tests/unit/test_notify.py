"""What the supervisor is told, and that nobody waits for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.notify import BEAT_LIMIT, NOBODY, Notifier, Supervisor, supervisor_in


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A supervisor that listens, and its address as the environment says it."""
    path = str(tmp_path / "notify")
    address = path if request.param == "path" else f"@{path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path if request.param == "path" else f"\0{path}")
        listening.settimeout(5)
        yield address, listening


def test_each_state_is_told_in_a_datagram_of_its_own(supervisor: tuple[str, socket.socket]) -> None:
    address, listening = supervisor
    notifier = Notifier(address)
    notifier.ready("listens at http://127.0.0.1:8000")
    notifier.alive("idle")
    notifier.stopping()
    assert [listening.recv(4096).decode().split("\n") for _ in range(3)] == [
        ["READY=1", "STATUS=listens at http://127.0.0.1:8000"],
        ["WATCHDOG=1", "STATUS=idle"],
        ["STOPPING=1", "STATUS=draining"],
    ]


def test_a_status_cannot_smuggle_in_another_state(supervisor: tuple[str, socket.socket]) -> None:
    address, listening = supervisor
    Notifier(address).alive("idle\nMAINPID=1")
    assert listening.recv(4096).decode().split("\n") == ["WATCHDOG=1", "STATUS=idle MAINPID=1"]


@pytest.mark.parametrize("address", [None, "", "/nonexistent/socket", f"/{'long' * 50}"])
def test_without_a_supervisor_that_listens_nothing_happens(address: str | None) -> None:
    Notifier(address).ready("here")


def test_a_supervisor_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        notifier = Notifier(str(tmp_path / "notify"))
        for _ in range(2000):
            notifier.alive("idle")


@pytest.mark.parametrize(
    ("environment", "supervisor"),
    [
        ({}, NOBODY),
        ({"NOTIFY_SOCKET": "/run/notify"}, Supervisor("/run/notify", BEAT_LIMIT)),
        ({"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "30000000"}, Supervisor("@notify", 30.0)),
        ({"WATCHDOG_USEC": "0"}, NOBODY),
        ({"WATCHDOG_USEC": "often"}, NOBODY),
    ],
)
def test_who_watches_and_how_patiently_is_said_by_the_environment(
    environment: dict[str, str], supervisor: Supervisor
) -> None:
    assert supervisor_in(environment) == supervisor
