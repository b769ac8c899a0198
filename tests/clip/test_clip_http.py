from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from clip_emulator import ClipEmulator, Model

from daemon.encoders import canary, clip_connections, clip_http, jina_json
from daemon.encoders.clip_documents import blobs
from daemon.encoders.clip_http import HttpClip
from state.errors import Misconfigured, Rejected, Unavailable
from state.model import Pixels, Vectors

DOCUMENTS = 5_000


def unit(rows: list[np.ndarray]) -> Vectors:
    matrix = np.stack(rows)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def painted(number: int) -> Pixels:
    """A picture of four colours that no other number has."""
    colours = np.random.default_rng(number).integers(0, 256, (2, 2, 3), np.uint8)
    return colours.repeat(8, axis=0).repeat(8, axis=1)


async def in_batches(encode, documents, size=64):
    batches = [documents[start : start + size] for start in range(0, len(documents), size)]
    return np.concatenate(await asyncio.gather(*map(encode, batches)))


async def test_pictures_have_the_vectors_of_the_model(encoder: HttpClip) -> None:
    vectors = await encoder.encode_images(canary.pictures())
    expected = unit([Model().of_picture(one) for one in canary.pictures()])
    assert vectors.shape == (8, encoder.dimension) == (8, 512)
    assert (vectors * expected).sum(axis=1).min() > 0.9995


async def test_five_thousand_pictures_keep_their_order(encoder: HttpClip) -> None:
    pictures = await asyncio.to_thread(lambda: [painted(number) for number in range(DOCUMENTS)])
    vectors = await in_batches(encoder.encode_images, pictures)
    expected = await asyncio.to_thread(lambda: unit([Model().of_picture(one) for one in pictures]))
    assert (vectors * expected).sum(axis=1).min() > 0.999
    assert (vectors * np.roll(expected, 1, axis=0)).sum(axis=1).max() < 0.999


async def test_five_thousand_texts_keep_their_order_and_values(encoder: HttpClip) -> None:
    texts = [f"picture number {number}, größer" for number in range(DOCUMENTS)]

    async def encode(some: list[str]) -> Vectors:
        return (await encoder.encode_texts(some)).vectors

    expected = await asyncio.to_thread(lambda: unit([Model().of_text(text) for text in texts]))
    np.testing.assert_allclose(await in_batches(encode, texts), expected, atol=1e-6)


async def test_a_batch_of_megabytes_is_sent(encoder: HttpClip) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8)
    vectors = await encoder.encode_images(list(noise))
    assert (vectors * unit([Model().of_picture(one) for one in noise])).sum(axis=1).min() > 0.999


async def test_several_batches_are_under_way_at_once_but_no_more_than_allowed() -> None:
    async with ClipEmulator(seconds=0.2, at_once=10) as clip:
        encoder = HttpClip(clip.url, connections=2)
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*[encoder.encode_texts(["a dog"]) for _ in range(4)])
        assert 0.4 <= asyncio.get_running_loop().time() - started < 0.75
        assert len(clip.peers) == 2
        await encoder.close()


async def test_pictures_are_written_and_answers_read_off_the_loop(
    encoder: HttpClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def note(function):
        def noted(*arguments):
            threads.append(threading.current_thread())
            return function(*arguments)

        return noted

    monkeypatch.setattr(jina_json, "blobs", note(blobs))
    monkeypatch.setattr(clip_http, "unit_vectors", note(clip_http.unit_vectors))
    await encoder.encode_images([painted(1)])
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_an_idle_connection_is_dropped_before_the_server_does(
    clip: ClipEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clip_connections.IDLE_SECONDS < 5
    monkeypatch.setattr(clip_connections, "IDLE_SECONDS", 0.3)
    encoder = HttpClip(clip.url)
    await encoder.encode_texts(["a dog"])
    await encoder.encode_texts(["a dog"])
    assert len(clip.peers) == 1
    await asyncio.sleep(0.7)
    await encoder.encode_texts(["a dog"])
    assert len(clip.peers) == 2
    await encoder.close()


async def test_a_path_and_a_token_are_used_as_they_are() -> None:
    async with ClipEmulator(prefix="/net/abc-d", token="Verbatim and whole") as clip:
        encoder = HttpClip(clip.url + "/", "Verbatim and whole")
        await encoder.ready()
        await encoder.encode_texts(["a dog"])
        await encoder.close()


async def test_without_an_executor_it_is_not_ready(clip: ClipEmulator, encoder: HttpClip) -> None:
    await encoder.ready()
    clip.executor = False
    with pytest.raises(Unavailable, match="not ready: failed to connect"):
        await encoder.ready()
    with pytest.raises(Unavailable, match="status 503: failed to connect"):
        await encoder.encode_texts(["a dog"])


async def test_who_waits_when_it_is_closed_is_told_so() -> None:
    async with ClipEmulator(seconds=60) as clip:
        encoder = HttpClip(clip.url)
        waiting = asyncio.create_task(encoder.encode_images([painted(1)]))
        await asyncio.sleep(0.3)
        assert clip.requests == 1
        await encoder.close()
        for asked in (waiting, encoder.encode_images([painted(1)]), encoder.ready()):
            with pytest.raises(Unavailable, match="closed"):
                await asked


async def test_no_documents_cost_no_request(clip: ClipEmulator, encoder: HttpClip) -> None:
    await encoder.encode_texts(["a dog"])
    assert (await encoder.encode_images([])).shape == (0, 512)
    assert (await encoder.encode_texts([])).vectors.shape == (0, 512)
    assert clip.requests == 1


@pytest.mark.parametrize("text", ["", " \n", "half a \ud83d letter"])
async def test_a_text_that_cannot_be_embedded_is_rejected_without_asking(
    clip: ClipEmulator, encoder: HttpClip, text: str
) -> None:
    with pytest.raises(Rejected, match="text 1 "):
        await encoder.encode_texts(["a dog", text])
    assert clip.requests == 0


@pytest.mark.parametrize(
    "base", ["clip:1234", "http://", "ftp://clip", "http://clip:99999", "http://[::1", ""]
)
def test_what_is_no_address_is_misconfigured(base: str) -> None:
    with pytest.raises(Misconfigured, match="CLIP_HOST"):
        HttpClip(base)


@pytest.mark.parametrize("token", ["two\nlines", "größer"])
def test_a_token_that_no_header_can_carry_is_misconfigured(token: str) -> None:
    with pytest.raises(Misconfigured, match="CLIP_AUTH_TOKEN") as problem:
        HttpClip("http://clip", token)
    assert token not in str(problem.value)


async def test_the_same_model_at_two_addresses_is_one_encoder_and_another_model_is_not(
    clip: ClipEmulator, encoder: HttpClip
) -> None:
    async with ClipEmulator() as twin:
        other = HttpClip(twin.url)
        known = await canary.encode(encoder)
        assert canary.agree(known, await canary.encode(other))
        twin.model = 1
        assert not canary.agree(known, await canary.encode(other))
        await other.close()
