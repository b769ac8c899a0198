"""The commands, on a folder of pictures with an embedded store, and beside a daemon."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qdrant_emulator import QdrantEmulator
from transfer_stores import ENCODER, fill, points
from typer.testing import CliRunner, Result

from daemon import transfer_commands
from daemon.alone import running, store_alone
from daemon.service import synchronising
from daemon.settings import Settings
from daemon.sources import project_number
from daemon.transfer.exporting import export_points
from daemon.wiring import wired
from state.errors import Occupied, Rejected, Unavailable
from state.model import Hit, Within

PICTURES = 12


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "pictures" / "trip"
    folder.mkdir(parents=True)
    for seed in range(PICTURES):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{seed}.png")
    return Settings(images_dir=folder.parent, state_dir=tmp_path / "state", encoder="palette")


@pytest.fixture
def run(settings: Settings) -> Callable[..., Result]:
    """Run one of the commands."""
    told = {
        "IMAGES_DIR": str(settings.images_dir),
        "STATE_DIR": str(settings.state_dir),
        "ENCODER": "palette",
    }
    return lambda *words: CliRunner().invoke(transfer_commands.app, words, env=told)


async def synced(settings: Settings) -> tuple[float, list[list[Hit]]]:
    """Bring all up to date; return how many pictures were encoded for it, and what searches answer."""
    async with wired(settings) as parts, synchronising(parts):
        await parts.surveys.survey()
        async with asyncio.timeout(20):
            await parts.controller.idle()
        encoder_id = parts.encoder.id
        assert encoder_id
        ((project_id, count),) = (await parts.store.projects(encoder_id)).items()
        assert count == PICTURES
        queries = (await parts.encoder.encode_texts(["dark red", "blue", "green"])).vectors
        hits = await parts.store.query(encoder_id, queries, Within(project_id), PICTURES, exact=True)
        return parts.metrics.registry.get_sample_value("embedsync_images_encoded_total") or 0.0, hits


def test_a_state_that_was_lost_comes_back_at_no_encoding_and_answers_as_before(
    settings: Settings, run: Callable[..., Result], tmp_path: Path
) -> None:
    encoded, before = asyncio.run(synced(settings))
    assert encoded == PICTURES
    directory = str(tmp_path / "backup")
    exported = run("export", directory)
    assert exported.exit_code == 0, exported.output
    assert f"{PICTURES} vectors of 1 projects by palette" in exported.output
    shutil.rmtree(settings.state_dir)
    imported = run("import", directory)
    assert imported.exit_code == 0, imported.output
    assert f"{PICTURES} vectors verified to the last bit: {PICTURES} written" in imported.output
    encoded, after = asyncio.run(synced(settings))
    assert encoded == 0
    assert [[(hit.image.path, hit.score) for hit in row] for row in after] == [
        [(hit.image.path, hit.score) for hit in row] for row in before
    ]
    again = run("import", directory)
    assert f"0 written, {PICTURES} there already" in again.output


def test_a_project_goes_by_its_name_too(
    settings: Settings, run: Callable[..., Result], tmp_path: Path
) -> None:
    asyncio.run(synced(settings))
    assert settings.images_dir
    number = project_number(settings, "trip")
    for project in ("trip", str(number)):
        exported = run("export", str(tmp_path / project), "--project", project)
        assert exported.exit_code == 0, exported.output
        imported = run("import", str(tmp_path / project), "--project", project)
        assert f"{PICTURES} there already" in imported.output
    refused = run("export", str(tmp_path / "backup"), "--project", "journey")
    assert (refused.exit_code, "there is no project journey" in refused.output) == (1, True)
    (settings.images_dir / "2024").mkdir()
    assert project_number(settings, "2024") not in (number, 2024)


def test_on_the_platform_a_name_may_be_that_of_many_projects() -> None:
    platform = Settings(source="supervisely", server_address="http://platform", api_token="token")
    assert project_number(platform, "7") == 7
    with pytest.raises(Rejected, match="number"):
        project_number(platform, "trip")


def test_what_cannot_be_done_is_said_in_a_line(run: Callable[..., Result], tmp_path: Path) -> None:
    for words, problem in (
        (("export", str(tmp_path / "empty")), "no vectors to export"),
        (("import", str(tmp_path / "empty")), "no finished export"),
    ):
        failed = run(*words)
        assert failed.exit_code == 1
        assert problem in failed.output


async def test_beside_a_daemon_on_a_server_it_is_said_to_stop_that_first(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "qdrant").mkdir()
    async with QdrantEmulator(tmp_path / "qdrant") as qdrant:
        there = Settings(images_dir=settings.images_dir, state_dir=settings.state_dir, qdrant_host=qdrant.url)
        async with store_alone(there):
            with pytest.raises(Occupied, match="stop the daemon first"):
                async with store_alone(there):
                    pass
        async with store_alone(there) as store:
            await store.healthy()


async def test_with_a_key_that_may_only_read_an_export_goes_on_beside_a_daemon(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "qdrant").mkdir()
    async with QdrantEmulator(tmp_path / "qdrant") as qdrant:
        qdrant.keys.writing, qdrant.keys.reading = "all", "read"
        writer, reader = (
            replace(settings, state_dir=tmp_path / key, qdrant_host=qdrant.url, qdrant_api_key=key)
            for key in ("all", "read")
        )
        async with store_alone(writer) as store:
            await fill(store)
            async with store_alone(reader) as the_same:
                assert (await export_points(the_same, tmp_path / "export")).points == 157
            await store.upsert(ENCODER.id, points([5000]))


async def test_what_has_to_run_ends_with_the_work() -> None:
    ended = asyncio.Event()

    async def root() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with running({"root": root}):
        await asyncio.sleep(0)
    assert ended.is_set()
    with pytest.raises(Rejected, match="the work's own"):
        async with running({"root": root}):
            raise Rejected("the work's own")


async def test_the_work_ends_with_what_has_to_run() -> None:
    async def root() -> None:
        raise Unavailable("qdrant", "another took over")

    started = time.monotonic()
    with pytest.raises(Unavailable, match="took over"):
        async with running({"root": root}):
            await asyncio.sleep(60)
    assert time.monotonic() - started < 10
