"""What may go wrong at the other end, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from fake_gateway import FakeGateway, answer, array, read, well
from tiny_flow import DIMENSION, embedding

from daemon.encoders.clip_gateway import MAX_MESSAGE_BYTES
from daemon.encoders.clip_grpc import GrpcClip
from state.errors import Rejected, Unavailable

TOKEN = "kJ3-a-token-to-be-kept"
PICTURES = list(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as fake:
        yield fake


@pytest.fixture
async def clip(gateway: FakeGateway) -> AsyncIterator[GrpcClip]:
    transport = GrpcClip(gateway.url, TOKEN)
    yield transport
    await transport.close()


def spoilt(change: Callable[[list[tuple[str, dict[str, Any]]]], object]) -> Any:
    async def encode(data: bytes, context: Any) -> bytes:
        documents = [(one.id, array(embedding(one.blob))) for one in read(data)]
        change(documents)
        return answer(documents)

    return encode


def second(dense: dict[str, Any]) -> Any:
    return spoilt(lambda documents: documents.__setitem__(1, ("1", dense)))


@pytest.mark.parametrize(
    ("encode", "problem"),
    [
        (second(array(np.full(DIMENSION, np.nan, np.float32))), "document 1: the embedding is not finite"),
        (second(array(np.zeros(DIMENSION, np.float32))), "document 1: the embedding is zero"),
        (second(array(np.ones(DIMENSION + 1, np.float32))), "document 1: 65 numbers"),
        (second(array(np.ones((2, 2), np.float32))), "document 1"),
        (second({}), "document 1 has no embedding"),
        (second({"buffer": b"1234567", "shape": [2], "dtype": "<f4"}), "document 1 has no embedding"),
        (second({"buffer": b"12345678", "shape": [1], "dtype": "|O8"}), "document 1 has no embedding"),
        (spoilt(lambda documents: documents.pop()), "3 documents answered, and not the 4"),
        (spoilt(lambda documents: documents.append(documents[0])), "5 documents answered"),
        (spoilt(lambda documents: documents.__setitem__(1, documents[0])), "not the 4 that were sent"),
    ],
)
async def test_an_answer_that_is_no_vectors_rejects_the_batch(
    gateway: FakeGateway, clip: GrpcClip, encode: Any, problem: str
) -> None:
    gateway.encode = encode
    with pytest.raises(Rejected, match=problem):
        await clip.encode_images(PICTURES)
    assert clip.dimension is None


async def test_answers_in_another_order_are_put_right(gateway: FakeGateway, clip: GrpcClip) -> None:
    in_order = await clip.encode_images(PICTURES)
    gateway.encode = spoilt(lambda documents: documents.reverse())
    np.testing.assert_array_equal(await clip.encode_images(PICTURES), in_order)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
async def test_numbers_of_any_width_become_float32(gateway: FakeGateway, clip: GrpcClip, dtype: str) -> None:
    gateway.encode = second(array(np.array([3, 4] + [0] * (DIMENSION - 2), dtype)))
    vectors = await clip.encode_images(PICTURES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[1, :3], [0.6, 0.8, 0], rtol=1e-6)


async def test_an_executor_s_error_is_one_short_line_without_the_token(
    gateway: FakeGateway, clip: GrpcClip
) -> None:
    async def fail(data: bytes, context: Any) -> bytes:
        exception = {"name": "OSError", "args": [f"cannot\nidentify {TOKEN} " + 500 * "x"]}
        return answer([], status={"code": 1, "description": "OSError()", "exception": exception})

    gateway.encode = fail
    with pytest.raises(Rejected, match="OSError: cannot identify … xxx") as refused:
        await clip.encode_images(PICTURES)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("status", "kind", "problem"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable, "UNAVAILABLE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable, "RESOURCE_EXHAUSTED"),
        (grpc.StatusCode.INTERNAL, Unavailable, "INTERNAL"),
        (grpc.StatusCode.CANCELLED, Unavailable, "CANCELLED"),
        (grpc.StatusCode.UNAUTHENTICATED, Unavailable, "CLIP_AUTH_TOKEN"),
        (grpc.StatusCode.PERMISSION_DENIED, Unavailable, "CLIP_AUTH_TOKEN"),
        (grpc.StatusCode.UNIMPLEMENTED, Unavailable, "CLIP_HOST"),
        (grpc.StatusCode.INVALID_ARGUMENT, Rejected, "INVALID_ARGUMENT"),
    ],
)
async def test_a_status_says_whether_to_wait_and_never_shows_the_token(
    gateway: FakeGateway, clip: GrpcClip, status: Any, kind: type[Exception], problem: str
) -> None:
    async def refuse(data: bytes, context: Any) -> bytes:
        await context.abort(status, f"you came with {TOKEN}")

    gateway.encode = refuse
    with pytest.raises(kind, match=problem) as refused:
        await clip.encode_images(PICTURES)
    assert TOKEN not in f"{refused.value!r} {clip!r} {clip.name}"


async def test_the_token_goes_with_each_call_as_it_is(gateway: FakeGateway, clip: GrpcClip) -> None:
    await clip.encode_images(PICTURES)
    assert gateway.metadata["authorization"] == TOKEN


async def test_a_text_that_is_refused_is_the_service_s_fault(gateway: FakeGateway, clip: GrpcClip) -> None:
    gateway.encode = spoilt(lambda documents: documents.clear())
    with pytest.raises(Unavailable, match="embeds no texts"):
        await clip.encode_texts(["a dog"])
    with pytest.raises(Rejected, match="blank"):
        await clip.encode_texts(["a dog", " "])


async def test_a_message_too_large_for_the_other_end_is_to_be_halved(
    gateway: FakeGateway, clip: GrpcClip
) -> None:
    async def fat(data: bytes, context: Any) -> bytes:
        return bytes(MAX_MESSAGE_BYTES + 1)

    gateway.encode = fat
    with pytest.raises(Rejected, match="larger than max"):
        await clip.encode_images(PICTURES)


async def test_an_answer_that_is_no_message_is_unavailable(gateway: FakeGateway, clip: GrpcClip) -> None:
    async def babble(data: bytes, context: Any) -> bytes:
        return b"<html>\xff"

    gateway.encode = babble
    with pytest.raises(Unavailable, match="no message of a Jina gateway"):
        await clip.encode_images(PICTURES)


async def test_a_service_that_restarts_is_found_again_at_the_next_call(
    gateway: FakeGateway, clip: GrpcClip
) -> None:
    before = await clip.encode_images(PICTURES)
    await gateway.stop()
    with pytest.raises(Unavailable, match=r"^clip: grpc://127\.0\.0\.1:\d+: nobody listens there$"):
        await clip.encode_images(PICTURES)
    await gateway.start()
    np.testing.assert_array_equal(await clip.encode_images(PICTURES), before)


async def test_a_connection_lost_amid_a_batch_is_unavailable(gateway: FakeGateway, clip: GrpcClip) -> None:
    came = asyncio.Event()
    gateway.encode = hanging(came)
    batch = asyncio.create_task(clip.encode_images(PICTURES))
    await came.wait()
    await gateway.stop()
    with pytest.raises(Unavailable):
        await batch


async def test_after_a_failure_the_next_call_connects_anew_and_running_ones_end_in_peace(
    gateway: FakeGateway, clip: GrpcClip
) -> None:
    came, go = asyncio.Event(), asyncio.Event()

    async def slowly(data: bytes, context: Any) -> bytes:
        came.set()
        await go.wait()
        return await well(data, context)

    async def refuse(data: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    gateway.encode = slowly
    running = asyncio.create_task(clip.encode_images(PICTURES))
    await came.wait()
    gateway.encode = refuse
    with pytest.raises(Unavailable):
        await clip.encode_images(PICTURES)
    gateway.encode = well
    await clip.encode_images(PICTURES)
    go.set()
    assert len(await running) == len(PICTURES)
    first, second, third = gateway.peers
    assert first == second != third


async def test_who_waits_when_the_transport_is_closed_is_told_and_not_cancelled(
    gateway: FakeGateway, clip: GrpcClip
) -> None:
    came = asyncio.Event()
    gateway.encode = hanging(came)
    batch = asyncio.create_task(clip.encode_images(PICTURES))
    await came.wait()
    await clip.close()
    with pytest.raises(Unavailable, match="closed"):
        await batch
    with pytest.raises(Unavailable, match="closed"):
        await clip.ready()


async def test_a_cancelled_call_is_cancelled_at_the_other_end_too(
    gateway: FakeGateway, clip: GrpcClip
) -> None:
    came, left = asyncio.Event(), asyncio.Event()
    gateway.encode = hanging(came, left)
    batch = asyncio.create_task(clip.encode_images(PICTURES))
    await came.wait()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    async with asyncio.timeout(5):
        await left.wait()


async def test_a_slow_service_is_unavailable_when_its_time_is_over(gateway: FakeGateway) -> None:
    gateway.encode = hanging(asyncio.Event())
    clip = GrpcClip(gateway.url, timeout=0.1)
    with pytest.raises(Unavailable, match=r"it did not answer within 0\.1 s"):
        await clip.encode_images(PICTURES)
    await clip.close()


def hanging(came: asyncio.Event, left: asyncio.Event | None = None) -> Any:
    async def encode(data: bytes, context: Any) -> bytes:
        came.set()
        try:
            await asyncio.sleep(30)
        finally:
            if left:
                left.set()
        return b""

    return encode
