"""Bringing everything up to date once."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from folder_daemon import paint
from rich.console import Console

from daemon.folder.source import FolderSource
from daemon.once import bring_up_to_date
from daemon.removals import Removals
from daemon.settings import Settings
from state.errors import Inconsistent
from state.model import ImageRef, Scope


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    pictures = tmp_path / "pictures"
    for number, project in enumerate(("one", "two")):
        paint(pictures / project, [2 * number, 2 * number + 1])
    return Settings(images_dir=pictures, state_dir=tmp_path / "state", port=0, settle_seconds=0.05)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_each_project_is_looked_at_once(
    settings: Settings, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Counter[int] = Counter()
    images = FolderSource.images

    async def counted(source: FolderSource, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        whole[project_id] += scope.full
        async for page in images(source, project_id, scope):
            yield page

    monkeypatch.setattr(FolderSource, "images", counted)
    async with asyncio.timeout(20):
        assert await bring_up_to_date(settings, console) == 0
    assert list(whole.values()) == [1, 1]
    assert "4 images fresh, 0 stale" in said(console)


async def test_a_source_that_cannot_be_listed_is_said_so_at_once(
    settings: Settings, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(source: FolderSource) -> None:
        raise Inconsistent("nothing is there")

    monkeypatch.setattr(FolderSource, "survey", refuse)
    with pytest.raises(Inconsistent, match="nothing is there"):
        async with asyncio.timeout(20):
            await bring_up_to_date(settings, console)


async def test_a_root_task_that_ends_ends_the_command(
    settings: Settings, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(removals: Removals) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(Removals, "run", end)
    with pytest.raises(RuntimeError, match="removals"):
        async with asyncio.timeout(20):
            await bring_up_to_date(settings, console)
