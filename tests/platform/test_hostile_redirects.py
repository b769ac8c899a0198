"""A service that sends us elsewhere is not followed: with us would go a token, or a picture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from platform_app import Listener
from platform_time import at_once

from daemon.platform.client import Client
from daemon.platform.pictures import Pictures
from daemon.platform.rights import Rights
from state.errors import EmbedsyncError
from state.model import ImageRef
from state.stores.qdrant import QdrantStore
from state.stores.qdrant_collections import Layout

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


@pytest.fixture
async def elsewhere() -> AsyncIterator[Listener]:
    async with Listener() as one:
        yield one


@pytest.fixture(params=[301, 302, 303, 307, 308])
async def service(request: pytest.FixtureRequest, elsewhere: Listener) -> AsyncIterator[str]:
    """A service that answers everything by sending the caller elsewhere."""

    async def away(asked: web.Request) -> web.Response:
        return web.Response(status=request.param, headers={"Location": elsewhere.address + asked.path})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", away)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_the_platform_does_not_send_a_token_elsewhere(
    service: str, elsewhere: Listener, sly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    client = await Client.open(service, "the-daemon's-own", sleep=at_once)
    rights = Rights(client)
    try:
        for asking in (
            client.post("projects.info", {"id": 1}),
            rights.authorise("somebody's", 1),
            rights.recognise("somebody's"),
            rights.projects_of("somebody's", [1]),
        ):
            with pytest.raises(EmbedsyncError):
                await asking
    finally:
        await rights.close()
        await client.close()
    assert elsewhere.connections == 0


async def test_no_picture_is_fetched_from_elsewhere(service: str, elsewhere: Listener) -> None:
    async def reserve(_: int) -> None:
        return

    pictures = Pictures(service, f"{service}/imgproxy", (), 2, 10_000)
    try:
        with pytest.raises(EmbedsyncError):
            await pictures.fetch(ImageRef(1, 1, 1, "a.jpg", None, "/a.jpg"), reserve)
    finally:
        await pictures.close()
    assert elsewhere.connections == 0


async def test_a_qdrant_server_does_not_send_its_key_elsewhere(service: str, elsewhere: Listener) -> None:
    time = [0.0]

    async def sleep(seconds: float) -> None:
        time[0] += seconds

    with pytest.raises(EmbedsyncError):
        await QdrantStore.open(
            service,
            "embedsync_1",
            name="first",
            instance="first",
            layout=Layout(),
            clock=lambda: time[0],
            sleep=sleep,
        )
    assert elsewhere.connections == 0
