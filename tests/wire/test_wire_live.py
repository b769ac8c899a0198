"""The transports against a real gateway over each of its protocols; by `make wire`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from clip_emulator import Model
from wire_gateway import Gateway
from wire_record import ANSWERS, record

from daemon.encoders import canary
from daemon.encoders.clip_grpc import GrpcClip
from daemon.encoders.clip_http import HttpClip
from daemon.encoders.clip_ws import WebsocketClip
from state.errors import Rejected, Unavailable
from state.model import Pixels, Vectors

TRANSPORTS = {"http": HttpClip, "ws": WebsocketClip, "grpc": GrpcClip}
DIMENSION, EACH, BATCH = 64, 2_500, 50

Clip = HttpClip | WebsocketClip | GrpcClip


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(os.environ["WIRE_PYTHON"]) as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
async def encoder(gateway: Gateway, request: pytest.FixtureRequest) -> AsyncIterator[Clip]:
    encoder = TRANSPORTS[request.param](gateway.urls[request.param])
    yield encoder
    await encoder.close()


def painted(number: int) -> Pixels:
    colours = np.random.default_rng(number).integers(5, 250, (2, 2, 3), np.uint8)
    return colours.repeat(8, axis=0).repeat(8, axis=1)


def unit(rows: list[np.ndarray]) -> Vectors:
    matrix = np.stack(rows)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


async def test_five_thousand_documents_keep_their_order_and_values(encoder: Clip) -> None:
    texts = [f"picture number {number}, größer" for number in range(EACH)]
    pictures = await asyncio.to_thread(lambda: [painted(number) for number in range(EACH)])
    model = Model(dimension=DIMENSION)
    of_texts = await asyncio.to_thread(lambda: unit([model.of_text(one) for one in texts]))
    of_pictures = await asyncio.to_thread(lambda: unit([model.of_picture(one) for one in pictures]))
    slots = asyncio.Semaphore(4)

    async def check(start: int) -> None:
        batch = slice(start, start + BATCH)
        async with slots:
            vectors = (await encoder.encode_texts(texts[batch])).vectors
            np.testing.assert_allclose(vectors, of_texts[batch], atol=1e-6)
            vectors = await encoder.encode_images(pictures[batch])
            assert (vectors * of_pictures[batch]).sum(axis=1).min() > 0.999

    await asyncio.gather(*map(check, range(0, EACH, BATCH)))
    assert np.abs(of_pictures @ of_pictures[0])[1:].max() < 0.999


async def test_a_black_picture_fails_the_executor_and_its_batch(encoder: Clip) -> None:
    with pytest.raises(Rejected, match=r"the executor failed: .*cannot identify image file"):
        await encoder.encode_images([painted(1), np.zeros((16, 16, 3), np.uint8)])
    assert (await encoder.encode_images([painted(1)])).shape == (1, DIMENSION)


async def test_a_white_picture_comes_out_as_nan_and_rejects_its_batch(encoder: Clip) -> None:
    with pytest.raises(Rejected, match=r"500|not finite"):
        await encoder.encode_images([painted(1), np.full((16, 16, 3), 255, np.uint8)])
    assert (await encoder.encode_images([painted(1)])).shape == (1, DIMENSION)


async def test_after_an_idle_time_it_answers_again(encoder: Clip) -> None:
    await encoder.encode_texts(["a dog"])
    await asyncio.sleep(5.5)
    await encoder.encode_texts(["a dog"])


async def test_all_transports_are_one_encoder(gateway: Gateway) -> None:
    encoders = [make(gateway.urls[scheme]) for scheme, make in TRANSPORTS.items()]
    first, *others = [await canary.encode(one) for one in encoders]
    assert all(canary.agree(first, one) for one in others)
    for one in encoders:
        await one.close()


async def test_without_its_executor_it_is_not_ready_and_answers_are_as_recorded(
    gateway: Gateway, tmp_path: os.PathLike[str]
) -> None:
    """Comes last: nobody is behind the gateway any more."""
    encoders = [make(gateway.urls[scheme]) for scheme, make in TRANSPORTS.items()]
    for one in encoders:
        await one.ready()
    await record(gateway, tmp_path)
    for one in encoders:
        with pytest.raises(Unavailable):
            await one.ready()
        with pytest.raises(Unavailable):
            await one.encode_images([painted(1)])
        await one.close()
    for file in ANSWERS.iterdir():
        assert (tmp_path / file.name).read_text() == file.read_text(), file.name
