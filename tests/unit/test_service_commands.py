"""The operator's commands speak to the daemon that holds this state, and to nobody else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from daemon import service_commands
from daemon.__main__ import app
from daemon.directory import state_directory
from daemon.service import ADDRESS_FILE, listening
from daemon.settings import Settings
from daemon.wiring import Parts, wired

PROJECT = "trip"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "images" / PROJECT).mkdir(parents=True)
    return Settings(images_dir=tmp_path / "images", state_dir=tmp_path / "state", encoder="palette")


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    """A daemon that serves, and has seen its one project."""
    async with wired(settings) as one, listening(one.app, "127.0.0.1", 0) as url:
        (one.directory / ADDRESS_FILE).write_text(json.dumps({"url": url, "pid": os.getpid()}))
        await one.surveys.survey()
        yield one


async def command(settings: Settings, *words: str) -> Result:
    told = {"IMAGES_DIR": str(settings.images_dir), "STATE_DIR": str(settings.state_dir)}
    return await asyncio.to_thread(CliRunner().invoke, app, words, env=told)


@pytest.mark.parametrize("verdict", ["confirm", "cancel"])
async def test_held_removals_are_settled_by_a_command(settings: Settings, parts: Parts, verdict: str) -> None:
    (number,) = parts.surveys.projects
    journal = parts.controller._journal
    await journal.hold(number, [1, 2], 0.0)
    done = await command(settings, "removals", verdict, "--project", PROJECT)
    assert (done.exit_code, f"2 held removals {verdict}" in done.output) == (0, True)
    assert await journal.held_counts() == {}
    assert await journal.kept(number) == ({1, 2} if verdict == "cancel" else set())


@pytest.mark.parametrize("words", [("reload",), ("removals", "confirm", "--project", PROJECT)])
async def test_without_a_daemon_they_say_so(settings: Settings, words: tuple[str, ...]) -> None:
    failed = await command(settings, *words)
    assert failed.exit_code == 1
    assert "no daemon is running on this state" in failed.output


async def test_whoever_reloads_is_told_whom_it_reached(
    settings: Settings, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(service_commands.os, "kill", lambda process, signal: told.append(process))
    done = await command(settings, "reload")
    assert (done.exit_code, told) == (0, [os.getpid()])
    assert str(os.getpid()) in done.output


async def test_an_address_file_left_by_another_life_sends_no_signal_to_a_stranger(
    settings: Settings, parts: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[int] = []
    monkeypatch.setattr(service_commands.os, "kill", lambda process, signal: told.append(process))
    copied = replace(settings, state_dir=tmp_path / "copy")
    state_directory(copied).mkdir(parents=True)
    (state_directory(copied) / ADDRESS_FILE).write_text((parts.directory / ADDRESS_FILE).read_text())
    assert (await command(copied, "reload")).exit_code == 1
    assert told == []
