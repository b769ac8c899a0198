"""The systemd unit is valid, exposed to little, and says what the daemon does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dockerfile import ROOT

from daemon.service import BATCH_GRACE, REQUEST_GRACE
from daemon.settings import read_settings

UNIT = ROOT / "systemd/embedsync.service"

MOST_EXPOSED = 1.5

SECRETS = {"api_token", "auth_token", "clip_auth_token", "qdrant_api_key", "supervisely_api_access_token"}


def values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def environment() -> dict[str, str]:
    pairs = [pair.partition("=") for line in values("Environment") for pair in line.split()]
    return {name: value for name, _, value in pairs}


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that exists on this machine."""
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text(), flags=re.M))
    return copy


def analyze(*words: str) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT CHECKED: systemd-analyze is missing; it is in Debian's package systemd")
    run = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_the_unit_is_valid(unit: Path) -> None:
    assert analyze("verify", "--man=no", str(unit)) == ""


def test_the_unit_is_exposed_to_little(unit: Path) -> None:
    told = analyze("security", "--offline=true", "--no-pager", str(unit))
    (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", told)
    assert float(exposure) <= MOST_EXPOSED


def test_a_wrong_unit_is_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMood=mixed"))
    with pytest.raises(AssertionError):
        test_the_unit_is_valid(unit)


def test_the_unit_gives_the_drain_the_time_that_is_promised() -> None:
    assert float(values("TimeoutStopSec")[0]) > REQUEST_GRACE + BATCH_GRACE
    assert values("KillMode") == ["mixed"]


def test_it_is_started_again_for_ever_but_not_with_a_wrong_setting() -> None:
    assert values("Restart") == ["on-failure"]
    assert values("RestartPreventExitStatus") == ["78"]
    assert values("StartLimitIntervalSec") == ["0"]
    assert float(values("RestartSec")[0]) > 0


def test_every_secret_is_a_credential_and_unset_where_there_is_no_file() -> None:
    loaded = dict(one.split(":") for one in values("LoadCredential"))
    assert loaded.keys() == SECRETS
    assert dict(one.split(":") for one in values("SetCredential")) == dict.fromkeys(SECRETS, "\\n")
    files = {name: value for name, value in environment().items() if name.endswith("_FILE")}
    assert files == {f"{one.upper()}_FILE": f"%d/{one}" for one in SECRETS}


def test_an_empty_credential_counts_as_no_secret(tmp_path: Path) -> None:
    empty = tmp_path / "auth_token"
    empty.write_text("\n")
    assert read_settings({"AUTH_TOKEN_FILE": str(empty)}).auth_token is None


def test_the_example_settings_can_be_read() -> None:
    lines = (ROOT / "systemd/embedsync.env").read_text().splitlines()
    given = [line.removeprefix("#") for line in lines if re.match(r"#?[A-Z_]+=", line)]
    named = {name: value for name, _, value in (line.partition("=") for line in given)}
    assert str(read_settings({**named, "AUTH_TOKEN": "x", "API_TOKEN": "y"}).images_dir) == "/srv/pictures"
    assert not any(one.lower() in SECRETS for one in named)


def test_the_command_reads_the_secrets_the_unit_reads() -> None:
    script = (ROOT / "systemd/embedsync-command").read_text()
    (listed,) = re.findall(r"for secret in (.*); do", script)
    assert set(listed.split()) == SECRETS
    subprocess.run(["/bin/sh", "-n", ROOT / "systemd/embedsync-command"], check=True, timeout=10)


def test_the_user_is_that_of_the_container() -> None:
    assert "u embedsync 65532" in (ROOT / "systemd/embedsync.sysusers").read_text()
    assert "USER 65532:65532" in (ROOT / "Dockerfile").read_text()


def test_the_notes_install_every_file_there_is_and_no_other() -> None:
    notes = (ROOT / "docs/operations.md").read_text()
    (install,) = re.findall(r"^## Install under systemd\n.*?^```console\n(.*?)^```", notes, re.M | re.S)
    named = set(re.findall(r"(?<![\w/])(systemd/[\w.-]+)", install))
    assert named == {f"systemd/{file.name}" for file in (ROOT / "systemd").iterdir()}
    upgrade = notes.split("## Upgrade and go back")[1]
    assert set(re.findall(r"(?<![\w/])(systemd/[\w.-]+)", upgrade)) < named
    assert "embedsync.env" not in upgrade, "an upgrade does not overwrite what the administrator wrote"


def test_what_commands_write_before_the_first_start_is_the_service_s() -> None:
    made = (ROOT / "systemd/embedsync.tmpfiles").read_text()
    mode = values("StateDirectoryMode")[0]
    assert f"d /var/lib/{values('StateDirectory')[0]} {mode} embedsync embedsync -" in made.splitlines()
