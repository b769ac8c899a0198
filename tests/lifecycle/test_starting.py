"""What keeps the daemon from starting is said in one line, with an exit code that means it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from live_daemon import ROOT, LiveDaemon
from live_fixtures import Maker
from painted import fill

OCCUPIED, MISCONFIGURED = 75, 78


def one_line(failed: subprocess.CompletedProcess[str]) -> str:
    (line,) = failed.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("HOST", "0.0.0.0", "beyond loopback, which needs AUTH_TOKEN"),
        ("IMAGES_DIR", "/nonexistent/pictures", "/nonexistent/pictures is not a directory"),
        ("STATE_DIR", "/dev/null/state", "cannot be made"),
        ("PORT", "eighty", "'eighty' cannot be read"),
        ("AUTH_TOKEN_FILE", "/nonexistent/token", "cannot be read"),
        ("FAILPOINTS", "nowhere=kill:1", "there is no failpoint nowhere"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_wrong(
    daemon: LiveDaemon, setting: str, value: str, problem: str
) -> None:
    failed = daemon.command("run", **{setting: value})
    assert failed.returncode == MISCONFIGURED
    assert one_line(failed).startswith(f"Misconfigured: {setting}: ")
    assert problem in one_line(failed)


def test_the_other_package_named_daemon_is_named(daemon: LiveDaemon, tmp_path: Path) -> None:
    metadata = tmp_path / "site" / "python_daemon-3.1.2.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: python-daemon\nVersion: 3.1.2\n")
    # A process of its own, for its search path to be read anew.
    failed = LiveDaemon.command(daemon, "run", PYTHONPATH=f"{ROOT}:{tmp_path / 'site'}")
    assert failed.returncode == MISCONFIGURED
    assert one_line(failed).startswith("python-daemon is installed here")


def test_a_second_daemon_on_the_same_state_is_told_who_holds_it(daemon: LiveDaemon) -> None:
    fill(daemon.images / "trip", range(5))
    daemon.start()
    daemon.wait_for({"trip": 5})
    failed = daemon.command("run")
    assert failed.returncode == OCCUPIED
    assert re.search(rf"^Occupied: .* held by process {daemon.process.pid}\b", one_line(failed))
    assert len(daemon.found("trip", prompt="bright", limit=10)) == 5


def test_a_taken_port_is_named(daemon: LiveDaemon, another: Maker) -> None:
    port = daemon.start().url.rpartition(":")[2]
    failed = another().command("run", PORT=port)
    assert failed.returncode == OCCUPIED
    assert f"Occupied: cannot listen on 127.0.0.1:{port}" in failed.stderr.splitlines()[-1]


def test_a_token_opens_the_daemon_and_is_written_nowhere(daemon: LiveDaemon, tmp_path: Path) -> None:
    canary, stranger = "canary-in-the-coal-mine", "somebody-else-s-token"
    fill(daemon.images / "trip", range(5))
    daemon.start(AUTH_TOKEN=canary, LOG_LEVEL="debug")
    wish = {"project_id": "trip", "prompt": "red"}
    daemon.wait_until(lambda: daemon.post("/search", wish, token=canary).status == 200, 20)
    assert daemon.post("/search", wish).status == 401
    assert daemon.post("/search", wish, token=stranger).status == 401
    assert daemon.post("/search", {**wish, "api_token": stranger}).status == 401
    assert daemon.get("/status", token=stranger).status == 401
    assert daemon.post("/search", wish, token=canary).status == 200
    assert daemon.post("/search", {"state": wish, "api_token": canary}).status == 200
    assert daemon.post("/search", {**wish, "limit": "x", "api_token": canary}).status in (400, 422)
    assert daemon.terminate() == 0
    assert "request.answered" in daemon.log
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert canary.encode() not in content, path
        assert stranger.encode() not in content, path
