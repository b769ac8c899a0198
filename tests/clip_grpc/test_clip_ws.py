"""The websocket transport, against a server that speaks as Jina's gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fake_gateway import well
from tiny_flow import DIMENSION, embedding

from daemon.encoders.clip_documents import blobs
from daemon.encoders.clip_ws import WebsocketClip
from state.errors import Misconfigured, Rejected, Unavailable

TOKEN = "kJ3-a-token-to-be-kept"
PATH = "/net/a-secret-path"
PICTURES = list(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))


class FakeWebsocket:
    """Does `encode` with each connection to its one route, and says that it is ready on the other."""

    def __init__(self) -> None:
        self.encode: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.answer_well
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get(f"{PATH}/", self._encode), web.get(f"{PATH}/dry_run", self._ready)])
        return app

    async def _encode(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != TOKEN:
            raise web.HTTPUnauthorized
        return await self.encode(request)

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        socket = await accepted(request)
        await socket.send_bytes(b"")
        await socket.receive()
        return socket

    async def answer_well(self, request: web.Request) -> web.StreamResponse:
        socket = await accepted(request)
        await socket.send_bytes(await well(await socket.receive_bytes(), None))
        await socket.receive()
        return socket


async def accepted(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=("bytes",), max_msg_size=2**26)
    await socket.prepare(request)
    return socket


@pytest.fixture
async def gateway() -> AsyncIterator[FakeWebsocket]:
    fake = FakeWebsocket()
    async with TestServer(fake.app(), shutdown_timeout=0.1) as server:
        fake.url = str(server.make_url(PATH).with_scheme("ws"))
        yield fake


@pytest.fixture
async def clip(gateway: FakeWebsocket) -> AsyncIterator[WebsocketClip]:
    transport = WebsocketClip(gateway.url, TOKEN, timeout=5)
    yield transport
    await transport.close()


async def test_texts_and_pictures_get_their_own_vectors_under_any_path(clip: WebsocketClip) -> None:
    await clip.ready()
    for vectors, contents in (
        ((await clip.encode_texts(["a dog", "a cat"])).vectors, ["a dog", "a cat"]),
        (await clip.encode_images(PICTURES), blobs(PICTURES)),
    ):
        wanted = np.stack([embedding(content) for content in contents])
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert clip.dimension == DIMENSION


async def test_batches_at_once_do_not_mix(clip: WebsocketClip) -> None:
    texts = [f"text {number}" for number in range(40)]
    answers = await asyncio.gather(*(clip.encode_texts([text]) for text in texts))
    wanted = np.stack([embedding(text) for text in texts])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(np.concatenate([one.vectors for one in answers]), wanted, atol=1e-6)


async def close_with_a_reason(request: web.Request) -> web.StreamResponse:
    socket = await accepted(request)
    await socket.receive()
    await socket.close(code=1011, message=f"the executor may be down, {TOKEN}".encode())
    return socket


async def drop(request: web.Request) -> web.StreamResponse:
    socket = await accepted(request)
    await socket.receive()
    assert request.transport
    request.transport.abort()
    return socket


async def talk(request: web.Request) -> web.StreamResponse:
    socket = await accepted(request)
    await socket.send_str("hello")
    await socket.receive()
    return socket


async def hang(request: web.Request) -> web.StreamResponse:
    socket = await accepted(request)
    await asyncio.sleep(30)
    return socket


async def send_elsewhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://127.0.0.1:1/")


async def refuse(request: web.Request) -> web.StreamResponse:
    raise web.HTTPServiceUnavailable(headers={"Retry-After": "7"})


async def answer_http(request: web.Request) -> web.StreamResponse:
    return web.Response(text="a page")


@pytest.mark.parametrize(
    ("encode", "problem"),
    [
        (close_with_a_reason, "close: the executor may be down, …"),
        (drop, "closed: no answer|it closed the connection amid a call"),
        (talk, "text: hello"),
        (hang, "did not answer within 0.3 s"),
        (send_elsewhere, "sends us elsewhere"),
        (refuse, "status 503"),
        (answer_http, "status 200"),
    ],
)
async def test_what_is_no_answer_is_unavailable_and_shows_no_secret(
    gateway: FakeWebsocket, encode: Callable[[web.Request], Awaitable[web.StreamResponse]], problem: str
) -> None:
    gateway.encode = encode
    clip = WebsocketClip(gateway.url, TOKEN, timeout=0.3)
    with pytest.raises(Unavailable, match=problem) as told:
        await clip.encode_images(PICTURES)
    assert told.value.retry_after == (7 if encode is refuse else None)
    for secret in (TOKEN, PATH):
        assert secret not in f"{told.value!r} {clip!r} {clip.name}"
    await clip.close()


async def test_a_token_that_is_refused_is_named_by_its_setting(gateway: FakeWebsocket) -> None:
    clip = WebsocketClip(gateway.url, "another-token")
    with pytest.raises(Unavailable, match="CLIP_AUTH_TOKEN"):
        await clip.encode_images(PICTURES)
    await clip.close()


async def test_a_cancelled_batch_leaves_no_connection(gateway: FakeWebsocket, clip: WebsocketClip) -> None:
    left = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        socket = await accepted(request)
        await socket.receive()
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING)
        left.set()
        return socket

    gateway.encode = wait
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await clip.encode_images(PICTURES)
    async with asyncio.timeout(5):
        await left.wait()


async def test_nobody_listening_is_unavailable() -> None:
    clip = WebsocketClip(f"ws://127.0.0.1:1{PATH}", TOKEN)
    with pytest.raises(Unavailable, match=r"ws://127\.0\.0\.1:1: nobody listens there"):
        await clip.ready()
    await clip.close()
    with pytest.raises(Unavailable, match="closed"):
        await clip.encode_texts(["a dog"])


def test_an_address_of_another_scheme_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="CLIP_HOST"):
        WebsocketClip("http://127.0.0.1")


async def test_an_answer_with_holes_rejects_the_batch(gateway: FakeWebsocket, clip: WebsocketClip) -> None:
    async def nothing(request: web.Request) -> web.StreamResponse:
        socket = await accepted(request)
        await socket.receive()
        await socket.send_bytes(b"")
        await socket.receive()
        return socket

    gateway.encode = nothing
    with pytest.raises(Rejected, match="0 documents answered"):
        await clip.encode_images(PICTURES)
