"""The transport against a real Jina flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np
import pytest
from running_flow import RunningFlow, until_ready
from tiny_flow import DIMENSION, embedding

from daemon.encoders.clip_documents import blobs
from daemon.encoders.clip_grpc import GrpcClip
from state.errors import Rejected, Unavailable
from state.model import Pixels, Vectors

BLACK = np.zeros((16, 16, 3), np.uint8)
BATCH = 50


@pytest.fixture(scope="module")
def flow() -> Iterator[RunningFlow]:
    with RunningFlow() as running:
        yield running


@pytest.fixture
async def clip(flow: RunningFlow) -> AsyncIterator[GrpcClip]:
    transport = GrpcClip(flow.url, token="a-token-nobody-asks-for")
    await until_ready(transport)
    yield transport
    await transport.close()


def painted(count: int) -> list[Pixels]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8))


def expected(contents: Sequence[str] | Sequence[bytes]) -> Vectors:
    vectors = np.stack([embedding(content) for content in contents])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def test_five_thousand_texts_and_pictures_get_their_own_vectors_in_order(clip: GrpcClip) -> None:
    texts, pictures = [f"text {number}" for number in range(2500)], painted(2500)
    starts = range(0, 2500, BATCH)
    slots = asyncio.Semaphore(4)

    async def batch(start: int) -> tuple[Vectors, Vectors]:
        async with slots:
            of_texts = await clip.encode_texts(texts[start : start + BATCH])
            return of_texts.vectors, await clip.encode_images(pictures[start : start + BATCH])

    of_texts, of_pictures = zip(*await asyncio.gather(*map(batch, starts)), strict=True)
    for vectors, contents in ((of_texts, texts), (of_pictures, await asyncio.to_thread(blobs, pictures))):
        right = await asyncio.to_thread(expected, contents)
        np.testing.assert_allclose(np.concatenate(vectors), right, atol=1e-6)
    assert clip.dimension == DIMENSION


async def test_a_picture_that_cannot_be_decoded_rejects_its_batch_and_no_other(clip: GrpcClip) -> None:
    with pytest.raises(Rejected, match="cannot identify image file") as refused:
        await clip.encode_images([*painted(3), BLACK])
    assert len(str(refused.value)) < 250
    assert "\n" not in str(refused.value)
    assert (await clip.encode_images(painted(3))).shape == (3, DIMENSION)


async def test_a_cancelled_batch_is_let_go_at_once(clip: GrpcClip) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await clip.encode_texts(["sleep 1"])
    assert time.monotonic() - started < 0.8
    assert (await clip.encode_texts(["a dog"])).vectors.shape == (1, DIMENSION)


async def test_a_batch_that_takes_too_long_is_unavailable(flow: RunningFlow) -> None:
    clip = GrpcClip(flow.url, timeout=0.3)
    with pytest.raises(Unavailable, match="it did not answer within"):
        await clip.encode_texts(["sleep 1"])
    await clip.close()


@pytest.mark.nightly  # two starts of a flow, and the patience of its gateway
async def test_a_flow_that_loses_its_model_or_all_is_unavailable_until_it_is_back() -> None:
    flow = RunningFlow()
    clip = GrpcClip(flow.url)
    await asyncio.to_thread(flow.start)
    try:
        await until_ready(clip)
        before = await clip.encode_texts(["a dog"])
        await asyncio.to_thread(flow.kill_model)
        with pytest.raises(Unavailable, match=r"clip: grpc://127\.0\.0\.1"):
            await clip.encode_texts(["a dog"])
        with pytest.raises(Unavailable, match="not ready"):
            await clip.ready()
    finally:
        await asyncio.to_thread(flow.stop)
    with pytest.raises(Unavailable, match="nobody listens there"):
        await clip.encode_texts(["a dog"])
    await asyncio.to_thread(flow.start)
    try:
        await until_ready(clip)
        np.testing.assert_array_equal((await clip.encode_texts(["a dog"])).vectors, before.vectors)
    finally:
        await asyncio.to_thread(flow.stop)
    await clip.close()
