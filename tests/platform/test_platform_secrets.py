"""Tokens are written nowhere, whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer
from platform_emulator import Emulator, World
from platform_walk import Walk, storm
from running import Running

from daemon import logs

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

AUTH_TOKEN = "canary-of-the-operator"
CALLS = (
    ("/search", {"prompt": "red"}),
    ("/search", {"by_image_ids": [10_001]}),
    ("/diverse", {"sample_size": 3}),
    ("/embeddings", {"force": True}),
    ("/task_status", {}),
    ("/cancel_embeddings", {}),
    ("/search", {"prompt": "", "limit": "many"}),
)


@pytest.fixture
def written() -> Iterator[StringIO]:
    """All that is logged, by whatever library, with nobody told which words are secret."""
    root, stream = logging.getLogger(), StringIO()
    handlers, level = list(root.handlers), root.level
    levels = {
        name: logging.getLogger(name).level for name in ("httpx", "httpcore", "aiohttp.access", "asyncio")
    }
    logs.set_up("debug", "json", [], stream)
    sdk = logging.getLogger("logger")
    sdk.addHandler(root.handlers[0])
    yield stream
    sdk.removeHandler(root.handlers[0])
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


async def test_no_token_is_in_any_line_that_is_written(
    emulator: Emulator,
    world: World,
    sly: Any,
    prompt: None,
    tmp_path: Path,
    written: StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    walk = Walk(emulator, seed=1, images=40, projects=2)
    anna, stranger = world.user("anna"), "canary-of-a-stranger"
    for project_id in walk.followed:
        world.grant(anna, project_id, write=True)
    running = Running(emulator, tmp_path, auth_token=AUTH_TOKEN)
    await running.start()
    try:
        async with TestClient(TestServer(running.parts.app)) as http:
            await running.has(walk.followed[0], 20)
            storm(emulator, methods=0.04, pictures=0.04)
            for token in (anna, stranger, AUTH_TOKEN):
                for path, fields in CALLS:
                    walk.step()
                    state = {"project_id": walk.followed[0], **fields}
                    body = {"state": state, "context": {"apiToken": token}, "api_token": token}
                    await (await http.post(path, json=body)).read()
                    await (await http.post(path, json=state, headers={"x-api-key": token})).read()
            emulator.faults.clear()
            await asyncio.sleep(0.5)
    finally:
        await running.stop()
    text = written.getvalue() + "".join(capfd.readouterr())
    assert "project.synced" in text
    assert '"request' in text
    for secret in (world.admin_token, anna, stranger, AUTH_TOKEN):
        assert secret not in text
