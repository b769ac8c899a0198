"""Fixtures for whoever tests against the emulator; a conftest imports those it wants.

Without the SDK, which comes with the extra `platform`, tests that want `api` or `as_user` are skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .emulator import Emulator
from .world import World

Api = Any
"""The SDK's, whose types are its own affair."""

AsUser = Callable[..., Api]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def world(emulator: Emulator) -> World:
    return emulator.world


@pytest.fixture
def project(world: World) -> int:
    """A project with seven images in one dataset."""
    return world.project("seven", images=7)


@pytest.fixture(scope="session")
def sly() -> Any:
    """The SDK itself; it takes seconds to import and warns of what it does to others.

    It imports every module on the stack once more, so it gets a stack of its own: a worker's own main
    module has a name that cannot be imported.
    """
    reason = "the SDK comes with the extra `platform`"
    with warnings.catch_warnings(), ThreadPoolExecutor(1) as thread:
        warnings.simplefilter("ignore")
        return thread.submit(pytest.importorskip, "supervisely", reason=reason).result()


@pytest.fixture
def as_user(emulator: Emulator, sly: Any, monkeypatch: pytest.MonkeyPatch) -> AsUser:
    """Make an SDK with somebody's token, which does not wait between its tries."""
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    for name in ("API_TOKEN", "SUPERVISELY_API_SERVER_ADDRESS", "SUPERVISELY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)

    def make(token: str | None, tries: int = 1, **more: Any) -> Api:
        return sly.Api(emulator.address, token, retry_count=tries, retry_sleep_sec=0, **more)

    return make


@pytest.fixture
def api(as_user: AsUser, world: World) -> Api:
    """The SDK with the administrator's token."""
    return as_user(world.admin_token)
