"""A container's health check asks the daemon where it listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from daemon.probe import check_lives
from state.errors import Misconfigured, Unavailable


class Lives:
    """Something that listens and answers ``/livez`` with a status."""

    def __init__(self) -> None:
        self.status = 200
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(status=self.status)


@pytest.fixture
async def lives() -> AsyncIterator[Lives]:
    one = Lives()
    app = web.Application()
    app.router.add_get("/livez", one.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.port = runner.addresses[0][1]
    yield one
    await runner.cleanup()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_one_that_answers_lives_wherever_it_listens(lives: Lives, host: str) -> None:
    await asyncio.to_thread(check_lives, host, lives.port)


async def test_one_that_answers_something_else_does_not(lives: Lives) -> None:
    lives.status = 500
    with pytest.raises(Unavailable, match="status 500"):
        await asyncio.to_thread(check_lives, "127.0.0.1", lives.port)


def test_one_that_is_not_there_does_not() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        check_lives("127.0.0.1", 1)


def test_a_port_left_to_chance_cannot_be_asked() -> None:
    with pytest.raises(Misconfigured, match="PORT"):
        check_lives("127.0.0.1", 0)
