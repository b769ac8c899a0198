"""What a real gateway answered once, replayed; `make wire` records it anew."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clip_emulator import Model
from PIL import Image

from daemon.encoders.clip_http import HttpClip
from state.errors import Rejected, Unavailable
from state.model import Vectors

ANSWERS = Path(__file__).with_name("answers")
DIMENSION = 64


def recorded(name: str) -> dict[str, Any]:
    return json.loads((ANSWERS / f"{name}.json").read_text())


@asynccontextmanager
async def replayed(name: str) -> AsyncIterator[tuple[HttpClip, list[Any]]]:
    """An encoder whose every request is answered as that one was, and the requests it makes."""
    exchange, asked = recorded(name), []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json() if request.can_read_body else None)
        return web.Response(text=exchange["answer"], status=exchange["status"], content_type=exchange["type"])

    app = web.Application()
    app.add_routes([web.get("/dry_run", answer), web.post("/post", answer)])
    async with TestServer(app) as server:
        encoder = HttpClip(str(server.make_url("/")))
        try:
            yield encoder, asked
        finally:
            await encoder.close()


def pictures(name: str) -> list[np.ndarray]:
    """The pictures of a recorded request."""
    blobs = [b64decode(one["blob"]) for one in recorded(name)["request"]["data"]]
    return [np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")) for blob in blobs]


def unit(rows: list[np.ndarray]) -> Vectors:
    matrix = np.stack(rows)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


async def test_ready() -> None:
    async with replayed("ready") as (encoder, asked):
        await encoder.ready()
        assert asked == [None]


async def test_texts() -> None:
    request = recorded("texts")["request"]
    texts = [one["text"] for one in request["data"]]
    async with replayed("texts") as (encoder, asked):
        vectors = (await encoder.encode_texts(texts)).vectors
    assert asked == [request]
    model = Model(dimension=DIMENSION)
    np.testing.assert_allclose(vectors, unit([model.of_text(text) for text in texts]), atol=1e-6)


async def test_pictures() -> None:
    shown = pictures("pictures")
    async with replayed("pictures") as (encoder, asked):
        vectors = await encoder.encode_images(shown)
    model = Model(dimension=DIMENSION)
    np.testing.assert_allclose(vectors, unit([model.of_picture(one) for one in shown]), atol=1e-6)
    (request,) = asked
    written = [Image.open(io.BytesIO(b64decode(one.pop("blob")))) for one in request["data"]]
    for sent, one in zip(written, shown, strict=True):
        assert np.abs(np.asarray(sent, int) - one).max() <= 3
    wanted = recorded("pictures")["request"]
    assert request == wanted | {"data": [{"id": one["id"]} for one in wanted["data"]]}


Ask = Callable[[HttpClip], Awaitable[object]]


def ready(encoder: HttpClip) -> Awaitable[object]:
    return encoder.ready()


def a_text(encoder: HttpClip) -> Awaitable[object]:
    return encoder.encode_texts(["a dog"])


def a_picture(encoder: HttpClip) -> Awaitable[object]:
    return encoder.encode_images([np.full((16, 16, 3), 90, np.uint8)])


@pytest.mark.parametrize(
    ("name", "ask", "error", "words"),
    [
        ("not_ready", ready, Unavailable, "is not ready: failed to connect to all addresses"),
        ("the_executor_is_away", a_text, Unavailable, "status 503: failed to connect to all addresses"),
        ("the_executor_is_away", a_picture, Unavailable, "status 503: failed to connect to all addresses"),
        ("an_empty_text", a_text, Unavailable, "document 0 has no embedding"),
        ("an_empty_picture", a_picture, Rejected, "document 0 has no embedding"),
        ("bad_base64", a_picture, Rejected, "document 0 has no embedding"),
        ("half_a_base64", a_picture, Rejected, "status 500: Internal Server Error"),
        ("no_picture", a_picture, Rejected, "the executor failed: UnidentifiedImageError('cannot identify"),
        ("the_executor_fails", a_picture, Rejected, "the executor failed: OSError('cannot identify image"),
        ("nan", a_picture, Rejected, "status 500: Internal Server Error"),
        ("malformed", a_picture, Rejected, "status 422: "),
    ],
)
async def test_a_fault(name: str, ask: Ask, error: type[Exception], words: str) -> None:
    async with replayed(name) as (encoder, _):
        with pytest.raises(error) as problem:
            await ask(encoder)
    assert words in str(problem.value)
    assert len(str(problem.value)) < 270


def test_every_answer_is_replayed() -> None:
    replays = Path(__file__).read_text()
    assert [one.stem for one in ANSWERS.glob("*.json") if f'"{one.stem}"' not in replays] == []
