from __future__ import annotations

import traceback

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clip_emulator import ClipEmulator, Fault
from test_clip_faults import AWAY, REFUSED

from daemon.encoders.canary import pictures
from daemon.encoders.clip_http import HttpClip
from state.errors import Misconfigured, Rejected, Unavailable

TOKEN, PATH_TOKEN = "header-secret-1234", "path-secret-5678"


def shown(encoder: HttpClip, problem: BaseException) -> str:
    """All that a person or a log may get to see of a failure."""
    return "".join([encoder.name, repr(encoder), repr(problem), *traceback.format_exception(problem)])


def assert_closed(words: str) -> None:
    assert TOKEN not in words
    assert PATH_TOKEN not in words


async def failure(encoder: HttpClip) -> BaseException:
    with pytest.raises((Unavailable, Rejected)) as problem:
        await encoder.encode_images(pictures())
    return problem.value


@pytest.mark.parametrize("fault", [*AWAY, *REFUSED])
async def test_no_failure_shows_a_token(fault: str) -> None:
    async with ClipEmulator(prefix=f"/net/{PATH_TOKEN}", token=TOKEN) as clip:
        encoder = HttpClip(clip.url, TOKEN)
        clip.faults.add((AWAY | REFUSED)[fault][0])
        assert_closed(shown(encoder, await failure(encoder)))
        await encoder.close()


@pytest.mark.parametrize("base", ["http://127.0.0.1:1", "http://no-such-host.invalid", "http://127.0.0.1:{}"])
async def test_no_failure_to_connect_shows_a_token(base: str) -> None:
    async with ClipEmulator() as silent:
        silent.faults.add(Fault("latency", seconds=60))
        address = base.format(silent.url.rpartition(":")[2])
        encoder = HttpClip(f"{address}/{PATH_TOKEN}?key={PATH_TOKEN}", TOKEN, timeout=0.5)
        assert_closed(shown(encoder, await failure(encoder)))
        await encoder.close()


async def test_a_server_that_repeats_our_secrets_is_not_repeated() -> None:
    async def answer(request: web.Request) -> web.Response:
        words = f"{request.headers['Authorization']} asked\n{request.path} " + "on and on " * 100
        status = {"code": 1, "description": words}
        return web.json_response({"header": {"status": status}, "data": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        encoder = HttpClip(str(server.make_url(f"/{PATH_TOKEN}")), TOKEN)
        problem = await failure(encoder)
        await encoder.close()
    assert_closed(shown(encoder, problem))
    assert str(problem).startswith("the executor failed: … asked /…/post on and on")
    assert len(str(problem)) < 250


async def test_an_unknown_name_and_a_port_without_tls_are_told_in_our_words() -> None:
    async with ClipEmulator() as clip:
        for address, words in (
            ("http://no-such-host.invalid", "its name is not known here"),
            (clip.url.replace("http:", "https:"), "it speaks no TLS"),
        ):
            encoder = HttpClip(f"{address}/{PATH_TOKEN}", TOKEN)
            problem = await failure(encoder)
            assert words in str(problem)
            assert_closed(shown(encoder, problem))
            await encoder.close()


def test_a_user_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(Misconfigured, match="user") as problem:
        HttpClip("https://user:pass-word@host:8443")
    assert "pass-word" not in str(problem.value)


@pytest.mark.parametrize("base", ["https://host:8443/net/abc?q=1", "http://[::1]:51000/abc"])
def test_the_name_is_scheme_host_and_port(base: str) -> None:
    assert HttpClip(base).name in {"https://host:8443", "http://[::1]:51000"}
