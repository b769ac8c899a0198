"""Whatever stands in a request, and however much it looks like an address, nobody goes there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bait import Bait
from clip_emulator import ClipEmulator
from folder_daemon import Running, paint

PROJECT = "pets"


@pytest.fixture
async def bait() -> AsyncIterator[Bait]:
    async with Bait() as one:
        yield one


@pytest.fixture(params=["palette", "clip"])
async def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path)
    paint(running.pictures / PROJECT, range(3))
    async with ClipEmulator() as clip:
        await running.start(*([clip] if request.param == "clip" else []), encoder=request.param)
        await running.settled()
        yield running
        await running.stop()


def baited(place: str) -> list[dict[str, Any]]:
    """Return searches with this text in every field that takes one."""
    ask = {"project_id": PROJECT, "limit": 3}
    return [
        {**ask, "prompt": [f"red {place}", place]},
        {**ask, "prompt": "red", "negative_prompt": [f"blue {place}"]},
        {"project_id": place, "prompt": "red"},
        {**ask, "prompt": "red", "server_address": place, "image_url": place, "url": place},
        {"state": {**ask, "prompt": f"red {place}"}, "context": {"apiToken": place}, "server_address": place},
    ]


async def test_what_looks_like_an_address_is_not_fetched(daemon: Running, bait: Bait) -> None:
    bare = f"{bait.address}/red.png"
    url = f"http://{bare}"
    for place in (url, f"//{bare}", bare, f"url({url})", f"data:image/png;{url}"):
        for body in baited(place):
            status, _ = await daemon.post("/search", **body)
            assert status in (200, 400, 404, 422)
    assert bait.came == 0
