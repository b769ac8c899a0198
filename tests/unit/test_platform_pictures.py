"""Downloading a picture: room is made for its bytes before they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from daemon.platform.pictures import Pictures
from state.errors import Rejected
from state.model import ImageRef

SIZE, LIMIT = 300_000, 1_000_000
IMAGE = ImageRef(1, 1, 1, "a.jpg", "hash", "/a.jpg")

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def whole(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * SIZE)


async def in_chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"x" * (SIZE // 3))
    return response


async def compressed(_: web.Request) -> web.StreamResponse:
    response = web.Response(body=b"x" * SIZE)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def too_large(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * (LIMIT + 1))


class Reserved(list[int]):
    """The sizes that were asked for; a size may have to wait."""

    def __init__(self) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def __call__(self, size: int) -> None:
        self.append(size)
        self.asked.set()
        await self.open.wait()


@pytest.fixture
async def pictures(request: pytest.FixtureRequest) -> AsyncIterator[Pictures]:
    app = web.Application()
    app.router.add_get("/{path:.*}", request.param)
    async with TestServer(app) as server:
        pictures = Pictures(str(server.make_url("")), None, (), 2, LIMIT)
        yield pictures
        await pictures.close()


def answering(answer: Answer) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pictures", [answer], indirect=True)


@answering(whole)
async def test_room_is_made_for_all_of_it_at_once_where_the_server_tells_its_size(pictures: Pictures) -> None:
    reserved = Reserved()
    reserved.open.clear()
    fetching = asyncio.create_task(pictures.fetch(IMAGE, reserved))
    async with asyncio.timeout(5):
        await reserved.asked.wait()
    assert reserved == [SIZE]
    assert not fetching.done()
    reserved.open.set()
    assert len((await fetching).data) == SIZE
    assert max(reserved) == SIZE


@pytest.mark.parametrize("pictures", [in_chunks, compressed], indirect=True)
async def test_room_grows_with_what_comes_where_the_size_is_not_told(pictures: Pictures) -> None:
    reserved = Reserved()
    assert len((await pictures.fetch(IMAGE, reserved)).data) == SIZE
    assert reserved == sorted(reserved)
    assert len(set(reserved)) > 2
    assert reserved[-1] == SIZE


@answering(too_large)
async def test_no_room_is_made_for_what_is_too_large(pictures: Pictures) -> None:
    reserved = Reserved()
    with pytest.raises(Rejected, match=str(LIMIT)):
        await pictures.fetch(IMAGE, reserved)
    assert reserved == []
