from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from platform_emulator import Emulator, World
from platform_emulator.fixtures import api, as_user, emulator, project, sly, world
from platform_time import HandClock, at_once

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
def anna(world: World, project: int) -> str:
    """The token of somebody who may read the project."""
    token = world.user("anna")
    world.grant(token, project)
    return token


@pytest.fixture
def stranger(world: World) -> str:
    """The token of somebody who may read nothing."""
    return world.user("stranger")
