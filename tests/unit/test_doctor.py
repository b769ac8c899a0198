"""The doctor finds what is amiss, says what to do, and changes nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
from collections import namedtuple
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clip_emulator import ClipEmulator
from platform_emulator import Emulator
from platform_emulator.fixtures import emulator, sly, world
from rich.console import Console

from daemon import doctor, visits
from daemon.directory import prefix, state_directory
from daemon.doctor import examine
from daemon.finding import Finding, Verdict, as_json, as_table, well
from daemon.service import ADDRESS_FILE, listening
from daemon.settings import Settings
from daemon.wiring import wired
from state.errors import Misconfigured
from state.stores.edge_catalogue import SCHEMA, Catalogue

__all__ = ["emulator", "sly", "world"]

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that work: a folder with a project, and palette."""
    (tmp_path / "images" / "trip").mkdir(parents=True)
    return Settings(images_dir=tmp_path / "images", state_dir=tmp_path / "state", encoder="palette")


@pytest.fixture
async def clip() -> AsyncIterator[ClipEmulator]:
    async with ClipEmulator() as running:
        yield running


def those(findings: list[Finding], check: str) -> list[Finding]:
    return [one for one in findings if one.check == check]


def only(findings: list[Finding], check: str) -> Finding:
    (one,) = those(findings, check)
    return one


async def found(settings: Settings) -> list[Finding]:
    return await examine(lambda: settings)


async def test_where_all_is_well_nothing_is_amiss_and_nothing_is_changed(settings: Settings) -> None:
    findings = await found(settings)
    assert well(findings)
    assert {"version", "settings", "state", "disk", "daemon", "source", "encoder"} <= {
        one.check for one in findings
    }
    assert "with 1 folders" in only(findings, "source").says
    assert not settings.state_dir.exists()


async def test_a_wrong_setting_is_named_and_the_rest_is_looked_at_all_the_same() -> None:
    def read() -> Settings:
        raise Misconfigured("PORT", "'eighty' cannot be read")

    findings = await examine(read, clash="python-daemon is installed here")
    assert "PORT" in only(findings, "settings").advice
    assert only(findings, "package").verdict is Verdict.AMISS
    assert only(findings, "version").verdict is Verdict.GOOD


async def test_a_daemon_without_a_source_is_told_which_setting_to_make() -> None:
    assert "IMAGES_DIR" in only(await found(Settings()), "settings").advice


async def test_a_missing_extra_comes_with_the_command_that_installs_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    over_grpc = replace(settings, encoder="auto", clip_host="[::1]:9")
    finding = only(await found(over_grpc), "extras")
    assert "`clip` is not installed" in finding.says
    assert "requirements/all.lock" in finding.advice


@pytest.mark.parametrize(
    ("free", "verdict"), [(2**28, Verdict.AMISS), (3 * 2**29, Verdict.NOTE), (2**40, Verdict.GOOD)]
)
async def test_the_disk_is_measured_against_what_must_stay_free(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(2**30, 0, free))
    assert only(await found(settings), "disk").verdict is verdict


async def test_a_state_directory_that_cannot_be_written_is_amiss(settings: Settings) -> None:
    nowhere = replace(settings, state_dir=Path("/dev/null/state"))
    assert only(await found(nowhere), "state").verdict is Verdict.AMISS


async def test_a_state_that_others_may_read_is_noted(settings: Settings) -> None:
    directory = state_directory(settings)
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    assert only(await found(settings), "state").advice == f"chmod 700 {directory}"


async def test_a_state_that_is_another_user_s_is_told_with_whose_it_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.state_dir.mkdir()
    monkeypatch.setattr(doctor.os, "getuid", lambda: settings.state_dir.stat().st_uid + 1)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    finding = only(await found(settings), "state")
    assert f"{settings.state_dir} cannot be written to" in finding.says
    assert f"as user {settings.state_dir.stat().st_uid}, whose it is" in finding.advice


async def test_a_directory_that_may_not_be_looked_into_is_told_and_ends_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, stat = settings.state_dir, Path.stat
    closed.mkdir()

    def shut(path: Path, **how: Any) -> os.stat_result:
        if closed in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", shut)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != closed)
    assert f"{closed} cannot be written to" in only(await found(settings), "state").says


async def test_a_file_that_another_user_left_in_the_state_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = state_directory(settings) / "journal.sqlite"
    left.parent.mkdir(parents=True, mode=0o700)
    left.touch()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != left)
    finding = only(await found(settings), "state")
    assert finding.says.startswith(f"{left} cannot be written to")
    assert finding.advice.startswith("chown -R ")


async def test_a_port_that_is_taken_is_told_before_the_daemon_finds_out(
    settings: Settings, port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(settings, port=other.getsockname()[1])
        finding = only(await found(taken), "port")
    assert finding.verdict is Verdict.AMISS
    assert "set PORT" in finding.advice
    assert only(await found(taken), "port").verdict is Verdict.GOOD


async def test_an_address_that_this_machine_has_not_is_told(settings: Settings) -> None:
    elsewhere = replace(settings, host="192.0.2.1", auth_token="a-token-for-all")
    finding = only(await found(elsewhere), "port")
    assert finding.verdict is Verdict.AMISS
    assert "192.0.2.1" in finding.says


async def test_a_daemon_that_holds_the_state_and_says_nothing_is_amiss(settings: Settings) -> None:
    async with wired(settings):
        findings = await found(settings)
    finding = only(findings, "daemon")
    assert finding.verdict is Verdict.AMISS
    assert f"process {os.getpid()} holds the state" in finding.says
    assert those(findings, "port") == []


async def test_a_copied_address_file_leads_to_nobody_else_s_daemon(
    settings: Settings, tmp_path: Path
) -> None:
    copied = replace(settings, state_dir=tmp_path / "copy")
    state_directory(copied).mkdir(parents=True, mode=0o700)
    async with wired(settings) as parts, listening(parts.app, "127.0.0.1", 0) as url:
        told = json.dumps({"url": url, "pid": os.getpid()})
        (state_directory(copied) / ADDRESS_FILE).write_text(told)
        assert only(await found(copied), "daemon").says == "none runs on this state"


async def test_held_removals_come_with_the_command_that_settles_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wired(settings) as parts, listening(parts.app, "127.0.0.1", 0) as url:
        (parts.directory / ADDRESS_FILE).write_text(json.dumps({"url": url, "pid": os.getpid()}))
        await parts.surveys.survey()
        (number,) = parts.surveys.projects
        journal = parts.controller._journal
        await journal.hold(number, [1, 2], 0.0)
        told = those(await found(settings), "projects")
        await journal.settle_held(number, None, cancel=True)
        settled = those(await found(settings), "projects")
    assert [(one.verdict, one.says) for one in told[1:]] == [(Verdict.NOTE, "trip: 2 removals are held")]
    assert f"`embedsync removals confirm --project {number}`" in told[1].advice
    assert settled[1:] == []


async def test_an_empty_folder_is_amiss(settings: Settings) -> None:
    assert settings.images_dir is not None
    (settings.images_dir / "trip").rmdir()
    assert "mount" in only(await found(settings), "source").advice


async def test_a_running_daemon_is_asked_and_its_troubles_are_told(settings: Settings) -> None:
    async with wired(settings) as parts, listening(parts.app, "127.0.0.1", 0) as url:
        (parts.directory / ADDRESS_FILE).write_text(json.dumps({"url": url, "pid": 1}))
        unsurveyed = await found(settings)
        await parts.surveys.survey()
        surveyed = await found(settings)
    assert only(unsurveyed, "daemon").says == f"runs at {url}"
    assert "not surveyed yet" in only(unsurveyed, "source").says
    assert well(surveyed)
    assert "1, with 0 images fresh" in only(surveyed, "projects").says
    assert "its canaries are known" in only(surveyed, "encoder").says


async def test_clip_is_known_by_its_canaries_to_a_state_nobody_is_asked_to_open(
    settings: Settings, clip: ClipEmulator
) -> None:
    with_clip = replace(settings, encoder="auto", clip_host=clip.url)
    assert "no encoder is known here yet" in only(await found(with_clip), "encoder").says
    async with wired(with_clip):
        held = await found(with_clip)
    assert "is clip-512-1" in only(held, "encoder").says
    async with ClipEmulator(model=1) as another:
        moved = replace(settings, encoder="auto", clip_host=another.url)
        stranger = only(await found(moved), "encoder")
    assert stranger.verdict is Verdict.NOTE
    assert "unknown here; known: clip-512-1" in stranger.says


async def test_clip_that_is_away_is_amiss(settings: Settings) -> None:
    away = replace(settings, encoder="auto", clip_host="http://[::1]:9")
    findings = await found(away)
    assert only(findings, "encoder").verdict is Verdict.AMISS
    assert only(findings, "source").verdict is Verdict.GOOD


async def test_a_state_of_a_newer_version_is_told(settings: Settings) -> None:
    vectors = state_directory(settings) / "vectors"
    vectors.mkdir(parents=True)
    newer = Catalogue(vectors / f"{prefix(settings)}_catalogue")
    newer._database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    newer.close()
    told = those(await found(settings), "state")[-1]
    assert told.verdict is Verdict.AMISS
    assert f"{vectors}/{prefix(settings)}_catalogue: it has schema {SCHEMA + 1}" in told.says
    assert "before the upgrade" in told.advice


@pytest.fixture
def on_platform(emulator: Emulator, sly: object, tmp_path: Path) -> Settings:
    return Settings(
        source="supervisely",
        server_address=emulator.address,
        api_token=emulator.world.admin_token,
        encoder="palette",
        state_dir=tmp_path,
    )


async def test_the_platform_knows_the_token(on_platform: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    findings = await found(on_platform)
    assert "the token is that of admin" in only(findings, "source").says
    assert only(findings, "clock").verdict is Verdict.GOOD


async def test_a_token_the_platform_does_not_know_is_amiss_and_not_shown(
    on_platform: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    token = "nobody-s-own-token"
    unknown = replace(on_platform, api_token=token)
    findings = await found(unknown)
    assert only(findings, "source").verdict is Verdict.AMISS
    assert token not in json.dumps(as_json(findings))


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


@pytest.mark.parametrize(("ahead", "words"), [(0.0, "agrees"), (3600.0, "+3600 s"), (-90.0, "-90 s")])
async def test_clocks_that_differ_are_mentioned_and_not_blamed(ahead: float, words: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(headers={"Date": formatdate(1_000_000, usegmt=True)})

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        finding = await visits._clock_skew(str(server.make_url("")), lambda: 1_000_000 + ahead)
    assert words in finding.says
    assert finding.verdict is not Verdict.AMISS


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, Verdict.GOOD), (401, Verdict.AMISS), (404, Verdict.AMISS)]
)
async def test_a_qdrant_server_is_asked_with_its_key(
    settings: Settings, status: int, verdict: Verdict
) -> None:
    keys = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers.get("api-key"))
        return web.json_response({"result": {"collections": []}}, status=status)

    app = web.Application()
    app.router.add_get("/collections", answer)
    async with TestServer(app) as server:
        url = str(server.make_url(""))
        findings = await found(replace(settings, qdrant_host=url, qdrant_api_key="the-key"))
    assert only(findings, "qdrant").verdict is verdict
    assert keys == ["the-key"]


async def test_a_qdrant_server_that_is_away_is_amiss(settings: Settings, port: int) -> None:
    findings = await found(replace(settings, qdrant_host=f"127.0.0.1:{port}"))
    assert only(findings, "qdrant").verdict is Verdict.AMISS


async def test_the_table_and_the_json_say_all_of_it(settings: Settings) -> None:
    findings = [*await found(settings), Finding("x", Verdict.AMISS, "broken", "mend [it]")]
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(as_table(findings))
    shown = console.export_text()
    assert all(one.says in shown and one.advice in shown for one in findings)
    assert as_json(findings)["well"] is False
    assert as_json(findings)["findings"][-1] == {
        "check": "x",
        "verdict": "amiss",
        "says": "broken",
        "advice": "mend [it]",
    }
