from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from platform_emulator import Emulator, World
from platform_emulator.fixtures import api, as_user, emulator, project, sly, world
from platform_time import HandClock, at_once

import daemon.platform.client
import daemon.platform.flags
import daemon.removals
from daemon.platform.client import Client

__all__ = ["api", "as_user", "emulator", "project", "sly", "world"]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def client(emulator: Emulator, sly: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """The daemon's client: its own token is the administrator's, and its pauses take no time."""
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    opened = await Client.open(emulator.address, emulator.world.admin_token, sleep=at_once)
    yield opened
    await opened.close()


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a daemon pause for moments where it would for seconds: what happens is the same."""
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    for module, name, seconds in (
        (daemon.removals, "SECOND_LOOK", 0.3),
        (daemon.platform.client, "FIRST_PAUSE", 0.02),
        (daemon.platform.client, "LONGEST_PAUSE", 0.2),
        (daemon.platform.flags, "FIRST_PAUSE", 0.05),
        (daemon.platform.flags, "LONGEST_PAUSE", 0.2),
        (daemon.platform.flags, "GATHER_SECONDS", 0.1),
    ):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def anna(world: World, project: int) -> str:
    """The token of somebody who may read the project."""
    token = world.user("anna")
    world.grant(token, project)
    return token


@pytest.fixture
def stranger(world: World) -> str:
    """The token of somebody who may read nothing."""
    return world.user("stranger")
