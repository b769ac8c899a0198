"""The whole daemon over a server that really listens: what it stores, and what it says when that is away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from folder_daemon import Running, paint
from qdrant_emulator import QdrantEmulator
from structlog.testing import capture_logs

from daemon.stores import _instance
from state.errors import Misconfigured, Occupied, Unavailable
from state.stores.qdrant_holder import Holder


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    paint(tmp_path / "pictures" / "cats", range(20))
    daemon = Running(tmp_path)
    yield daemon
    await daemon.stop()


async def test_a_folder_is_embedded_into_the_server_and_found_again_after_a_restart(
    running: Running, emulator: QdrantEmulator
) -> None:
    await running.start(qdrant_host=emulator.url)
    await running.settled()
    status, found = await running.post("/search", project_id="cats", prompt="bright", limit=5)
    assert (status, len(found["items"])) == (200, 5)
    await running.restart()
    await running.settled()
    assert running.encoded == 0
    assert await running.post("/search", project_id="cats", prompt="bright", limit=5) == (status, found)
    assert not (running.parts.directory / "vectors").exists()


async def test_while_the_server_is_away_requests_say_so_and_then_all_goes_on(
    running: Running, emulator: QdrantEmulator
) -> None:
    await running.start(qdrant_host=emulator.url, qdrant_call_seconds=2.0)
    await running.settled()

    async def waits() -> bool:
        return any(one["event"] == "project.waits" and "qdrant" in one["problem"] for one in logs)

    with capture_logs() as logs:
        await emulator.away()
        paint(running.pictures / "cats", range(100, 110))
        status, answer = await running.post("/search", project_id="cats", prompt="bright")
        assert (status, "qdrant" in answer["message"]) == (503, True)
        assert (await running.get("/health"))["checks"]["qdrant"].startswith("unhealthy")
        await running.until(waits)
    await emulator.back()

    async def all_of_it() -> bool:
        return await running.count("palette-199-1") == 30

    await running.until(all_of_it)
    await running.settled()


async def test_a_second_daemon_with_a_state_of_its_own_is_told_who_holds_the_store(
    running: Running, emulator: QdrantEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("state.stores.qdrant_holder.BEAT_SECONDS", 0.5)
    await running.start(qdrant_host=emulator.url)
    second = Running(tmp_path)
    with pytest.raises(Occupied, match="is held by process"):
        await second.start(qdrant_host=emulator.url, state_dir=tmp_path / "other")
    await second.stop()


async def test_after_a_death_the_same_state_goes_on_at_once(
    running: Running, emulator: QdrantEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.start(qdrant_host=emulator.url)
    await running.settled()

    async def die(*_: object) -> None:
        """Leave the claim behind."""

    with monkeypatch.context() as dying:
        dying.setattr(Holder, "__aexit__", die)
        await running.stop()
    async with asyncio.timeout(10):
        await running.start()
    await running.settled()
    assert running.encoded == 0


def test_a_copy_of_a_state_directory_is_another_instance_and_the_same_one_is_not(tmp_path: Path) -> None:
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    name = _instance(first)
    shutil.copytree(first, copy)
    assert _instance(first) == name != _instance(copy)


async def test_a_wrong_key_is_told_by_the_name_of_its_setting(
    running: Running, emulator: QdrantEmulator
) -> None:
    emulator.keys.writing = "the right one"
    with pytest.raises(Misconfigured, match="QDRANT_API_KEY"):
        await running.start(qdrant_host=emulator.url, qdrant_api_key="a wrong one")


async def test_a_server_that_never_comes_is_given_up_after_its_time(running: Running) -> None:
    with pytest.raises(Unavailable, match="qdrant"):
        await running.start(qdrant_host="http://127.0.0.1:9")


async def test_two_folders_on_one_server_do_not_see_each_other(
    running: Running, emulator: QdrantEmulator, tmp_path: Path
) -> None:
    other = Running(tmp_path / "second")
    paint(other.pictures / "dogs", range(50, 60))
    await running.start(qdrant_host=emulator.url)
    await other.start(qdrant_host=emulator.url)
    await running.settled()
    await other.settled()
    assert await running.count("palette-199-1") == 20
    assert await other.count("palette-199-1") == 10
    await other.stop()
    assert await running.count("palette-199-1") == 20
