"""What an operator and a supervisor see of a running daemon."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from live_daemon import LiveDaemon


class Supervisor:
    """Listens where systemd would."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def hears(self, seconds: float = 30.0) -> str:
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode().split("\n")[0]

    def hears_until(self, state: str) -> list[str]:
        heard = [self.hears()]
        while heard[-1] != state:
            heard.append(self.hears())
        return heard

    def hears_what_was_said(self) -> None:
        """Take what is on its way; several beats a second would be, if there were any more."""
        with suppress(TimeoutError):
            for _ in range(20):
                self.hears(0.5)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    one = Supervisor(tmp_path / "notify")
    yield one
    one.close()


def supervised(daemon: LiveDaemon, supervisor: Supervisor) -> LiveDaemon:
    return daemon.start(NOTIFY_SOCKET=supervisor.address, WATCHDOG_USEC="600000")


def test_the_supervisor_is_told_of_the_start_of_every_beat_and_of_the_end(
    daemon: LiveDaemon, supervisor: Supervisor
) -> None:
    supervised(daemon, supervisor)
    assert supervisor.hears_until("READY=1")
    assert [supervisor.hears() for _ in range(3)] == ["WATCHDOG=1"] * 3
    assert daemon.terminate() == 0
    assert supervisor.hears_until("STOPPING=1")


def test_a_daemon_that_hangs_is_silent(daemon: LiveDaemon, supervisor: Supervisor) -> None:
    supervised(daemon, supervisor)
    supervisor.hears_until("READY=1")
    daemon.send(signal.SIGSTOP)
    try:
        supervisor.hears_what_was_said()
        with pytest.raises(TimeoutError):
            supervisor.hears(0.8)
    finally:
        daemon.send(signal.SIGCONT)


def test_a_new_log_level_takes_effect_at_once_and_a_new_secret_without_a_new_process(
    daemon: LiveDaemon, tmp_path: Path
) -> None:
    level, token = tmp_path / "level", tmp_path / "token"
    level.write_text("warning")
    token.write_text("the-first-secret")
    files = {"LOG_LEVEL": "", "LOG_LEVEL_FILE": str(level), "AUTH_TOKEN_FILE": str(token)}
    daemon.environment.update(files)
    level.write_text("info")
    daemon.start()
    process = daemon.process.pid
    level.write_text("debug")
    assert daemon.command("reload").returncode == 0
    daemon.wait_until(lambda: '"settings.renewed"' in daemon.life, 10)
    assert daemon.life.count('"daemon.ready"') == 1
    token.write_text("the-second-secret")
    daemon.send(signal.SIGHUP)
    daemon.wait_until(lambda: daemon.life.count('"daemon.ready"') == 2, 20)
    daemon.url = json.loads([one for one in daemon.life.splitlines() if "daemon.ready" in one][-1])["url"]
    assert daemon.get("/status", token="the-first-secret").status == 401
    assert daemon.get("/status", token="the-second-secret").status == 200
    assert daemon.process.pid == process
    assert "the-second-secret" not in daemon.log
    assert daemon.terminate() == 0


def test_settings_that_became_wrong_are_not_taken(daemon: LiveDaemon, tmp_path: Path) -> None:
    level = tmp_path / "level"
    level.write_text("info")
    daemon.start(LOG_LEVEL_FILE=str(level))
    level.write_text("loud")
    daemon.send(signal.SIGHUP)
    daemon.wait_until(lambda: '"settings.kept"' in daemon.life, 10)
    assert daemon.get("/readyz").status == 200


def test_reloading_without_a_daemon_is_an_error_in_words(daemon: LiveDaemon) -> None:
    failed = daemon.command("reload")
    assert failed.returncode == 1
    assert "no daemon is running" in failed.stderr


def test_health_says_by_its_exit_code_whether_the_daemon_lives(daemon: LiveDaemon) -> None:
    daemon.start()
    port = daemon.url.rpartition(":")[2]
    assert daemon.command("health", PORT=port).returncode == 0
    assert daemon.terminate() == 0
    assert daemon.command("health", PORT=port).returncode == 1


def test_the_doctor_finds_a_running_daemon_well_and_a_wrong_setting_not(daemon: LiveDaemon) -> None:
    (daemon.images / "trip").mkdir()
    daemon.start()
    daemon.wait_until(lambda: daemon.get("/health").status == 200, 20)
    well = daemon.command("doctor", "--json")
    assert (well.returncode, json.loads(well.stdout)["well"]) == (0, True)
    sick = daemon.command("doctor", PORT="eighty")
    assert sick.returncode == 1
    assert "PORT" in sick.stdout
