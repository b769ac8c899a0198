"""When a whole look is due, so that another encoder may take a project over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.switch import FEW, LATE_SECONDS, Switch
from state.journal import SqliteJournal
from state.stores.memory import MemoryStore

OLD, NEW, NEWER, PROJECT, IMAGES = "tiny-4", "tiny-4-2", "tiny-4-3", 1, 500


@dataclass
class World:
    switch: Switch
    store: MemoryStore
    encoder: Any
    now: float = 1e9


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store, journal = MemoryStore(), SqliteJournal(tmp_path / "journal.sqlite")
    encoder: Any = SimpleNamespace(id=NEW)
    matrices: Any = store
    with ThreadPoolExecutor(1) as threads:
        switch = Switch(encoder, store, matrices, journal, threads, 3600.0, lambda: made.now)
        made = World(switch, store, encoder)
        await store.set_pointer(PROJECT, OLD)
        yield made
    await journal.close()


async def test_a_look_that_had_all_makes_a_whole_one_due(world: World) -> None:
    assert await world.switch.due(PROJECT)


async def test_where_the_encoder_at_work_answers_nothing_is_due(world: World) -> None:
    await world.store.set_pointer(PROJECT, NEW)
    assert not await world.switch.due(PROJECT)


async def test_while_pictures_are_late_none_is_due_for_an_hour(world: World) -> None:
    await world.switch.complete(PROJECT, NEW, IMAGES, late=3)
    world.now += LATE_SECONDS - 1
    assert not await world.switch.due(PROJECT, late=3)
    world.now += 1
    assert await world.switch.due(PROJECT, late=3)


async def test_while_many_are_late_none_is_due_however_long_it_takes(world: World) -> None:
    await world.switch.complete(PROJECT, NEW, IMAGES, late=FEW + 1)
    world.now += 10 * LATE_SECONDS
    assert not await world.switch.due(PROJECT, late=FEW + 1)
    assert await world.switch.due(PROJECT, late=FEW)


async def test_where_no_whole_look_was_short_of_few_pictures_none_is_due(world: World) -> None:
    assert not await world.switch.due(PROJECT, late=1)


async def test_each_encoder_that_pictures_are_late_with_has_an_hour_of_its_own(world: World) -> None:
    await world.switch.complete(PROJECT, NEW, IMAGES, late=3)
    world.now += LATE_SECONDS
    world.encoder.id = NEWER
    await world.switch.complete(PROJECT, NEWER, IMAGES, late=3)
    assert not await world.switch.due(PROJECT, late=3)


async def test_the_hour_of_one_that_came_back_is_not_counted_from_before(world: World) -> None:
    await world.switch.complete(PROJECT, NEW, IMAGES, late=3)
    world.encoder.id = OLD
    await world.switch.complete(PROJECT, OLD, IMAGES, late=0)
    world.now += LATE_SECONDS
    world.encoder.id = NEW
    assert not await world.switch.due(PROJECT, late=3)
