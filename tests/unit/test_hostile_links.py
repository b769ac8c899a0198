"""Whoever links a picture writes what they like; it leads to no host but those that are allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from bait import Bait

from daemon.platform.pictures import Pictures
from state.errors import Inconsistent, Rejected
from state.model import ImageRef


async def _none(_: int) -> None:
    return


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    async with TestServer(web.Application()) as server:  # has no picture at all
        one = Pictures(str(server.make_url("")).rstrip("/"), None, ("allowed.example",), 2, 10_000)
        yield one
        await one.close()


@pytest.fixture
async def elsewhere() -> AsyncIterator[Bait]:
    async with Bait("127.0.0.2") as bait:
        yield bait


OUT = (
    "@{0}/a.jpg",
    "http:@{0}/a.jpg",
    "http:user@{0}/a.jpg",
    "//{0}/a.jpg",
    "http://{0}/a.jpg",
    "HTTP://allowed.example@{0}/a.jpg",
    "http://allowed.example\\@{0}/a.jpg",
    "http://{0}\\@allowed.example/a.jpg",
    "\thttp://{0}/a.jpg",
    "ht\ntp://{0}/a.jpg",
)


@pytest.mark.parametrize("link", OUT)
async def test_a_link_leads_to_no_host_that_is_not_allowed(
    pictures: Pictures, elsewhere: Bait, link: str
) -> None:
    image = ImageRef(1, 1, 1, "a.jpg", None, link.format(elsewhere.address))
    with pytest.raises((Rejected, Inconsistent)):
        await pictures.fetch(image, _none)
    assert elsewhere.came == 0


@pytest.mark.parametrize(
    "link", ["http://[", "http://[::1", "ftp://allowed.example/a", "file://allowed.example/etc/passwd"]
)
async def test_a_link_that_is_no_address_is_the_picture_s_own_fault(pictures: Pictures, link: str) -> None:
    with pytest.raises(Rejected):
        await pictures.fetch(ImageRef(1, 1, 1, "a.jpg", None, link), _none)
