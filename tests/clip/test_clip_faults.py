from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clip_emulator import ClipEmulator, Fault

from daemon.encoders.canary import pictures
from daemon.encoders.clip_connections import LONGEST_RETRY_AFTER, retry_after
from daemon.encoders.clip_http import HttpClip
from state.errors import Rejected, Unavailable

AWAY = {
    "503": (Fault("status"), "status 503: on command"),
    "502 with a page": (Fault("html", status=502), "status 502"),
    "500 with a page": (Fault("html", status=500), "status 500"),
    "200 with a page": (Fault("html", status=200), "no JSON"),
    "429": (Fault("status", status=429, retry_after="7"), "status 429"),
    "401": (Fault("status", status=401), "CLIP_AUTH_TOKEN"),
    "403": (Fault("status", status=403), "CLIP_AUTH_TOKEN"),
    "404": (Fault("status", status=404), "CLIP_HOST"),
    "reset": (Fault("reset"), "it closed the connection amid a call"),
    "reset mid-body": (Fault("cut"), "it closed the connection amid a call"),
    "truncated JSON": (Fault("truncated"), "no JSON, or not whole"),
}
REFUSED = {
    "executor's error": (Fault("error"), "the executor failed: _ExecutorError('on command')"),
    "422": (Fault("status", status=422), "status 422: on command"),
    "NaN": (Fault("nan"), "status 500: Internal Server Error"),
    "zero": (Fault("zero"), "document 4: the embedding is zero"),
    "null": (Fault("null"), "document 4 has no embedding"),
    "empty": (Fault("empty"), "document 4: the embedding has shape"),
    "missing": (Fault("missing"), "no answer for document 4"),
    "doubled": (Fault("doubled"), "document 4 was answered twice"),
    "unknown": (Fault("unknown"), "1 documents were answered that nobody sent"),
}


@pytest.mark.parametrize(("fault", "words"), AWAY.values(), ids=AWAY)
async def test_a_service_that_cannot_answer_is_waited_for(
    clip: ClipEmulator, encoder: HttpClip, fault: Fault, words: str
) -> None:
    clip.faults.add(fault)
    with pytest.raises(Unavailable) as problem:
        await encoder.encode_images(pictures())
    assert problem.value.service == "clip"
    assert problem.value.problem.startswith(encoder.name)
    assert words in problem.value.problem
    clip.faults.clear()
    assert (await encoder.encode_images(pictures())).shape == (8, 512)


@pytest.mark.parametrize(("fault", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_batch_without_whole_vectors_is_rejected(
    clip: ClipEmulator, encoder: HttpClip, fault: Fault, words: str
) -> None:
    clip.faults.add(fault)
    with pytest.raises(Rejected) as problem:
        await encoder.encode_images(pictures())
    assert str(problem.value).startswith(words)
    with pytest.raises(Unavailable):
        await encoder.encode_texts(["a dog", "a cat", "a bird", "a fish", "a cow"])


async def test_shuffled_answers_are_put_in_order(clip: ClipEmulator, encoder: HttpClip) -> None:
    before = await encoder.encode_images(pictures())
    clip.faults.add(Fault("shuffled"))
    np.testing.assert_array_equal(await encoder.encode_images(pictures()), before)


async def test_a_service_that_is_down_is_waited_for_and_found_again(
    clip: ClipEmulator, encoder: HttpClip
) -> None:
    await encoder.ready()
    await clip.stop()
    for ask in (encoder.ready, lambda: encoder.encode_texts(["a dog"])):
        with pytest.raises(Unavailable, match=f"^clip: {encoder.name}: nobody listens there$"):
            await ask()
    await clip.start()
    await encoder.ready()
    await encoder.encode_texts(["a dog"])


async def test_a_slow_service_is_waited_for_no_longer_than_allowed(clip: ClipEmulator) -> None:
    encoder = HttpClip(clip.url, timeout=0.2)
    clip.faults.add(Fault("latency", seconds=60))
    async with asyncio.timeout(2):
        with pytest.raises(Unavailable, match=r"it did not answer within 0\.2 s"):
            await encoder.encode_texts(["a dog"])
    await encoder.close()


async def test_503_every_third_time_harms_no_other_batch(clip: ClipEmulator, encoder: HttpClip) -> None:
    clip.faults.add(Fault("status", every=3))
    asked = await asyncio.gather(*[encoder.encode_texts(["a dog"]) for _ in range(9)], return_exceptions=True)
    assert sum(isinstance(one, Unavailable) for one in asked) == 3
    assert clip.texts == 6


async def test_a_reset_connection_is_tried_once_more_and_only_once(
    clip: ClipEmulator, encoder: HttpClip
) -> None:
    await encoder.encode_texts(["a dog"])
    clip.faults.add(Fault("reset", times=1))
    await encoder.encode_texts(["a dog"])
    assert clip.requests == 3
    clip.faults.add(Fault("reset"))
    with pytest.raises(Unavailable):
        await encoder.encode_texts(["a dog"])
    assert clip.requests == 5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("-5", None),
        ("7", 7.0),
        ("0", 0.0),
        ("9" * 400, LONGEST_RETRY_AFTER),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", LONGEST_RETRY_AFTER),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, datetime(2026, 10, 21, 7, 28, tzinfo=UTC).timestamp()) == seconds


async def test_the_servers_own_delay_is_passed_on(clip: ClipEmulator, encoder: HttpClip) -> None:
    clip.faults.add(Fault("status", status=429, retry_after="7"))
    with pytest.raises(Unavailable) as problem:
        await encoder.encode_texts(["a dog"])
    assert problem.value.retry_after == 7.0


async def answered_by(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Exception:
    """Return what becomes of a picture at a server whose every answer is that of `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        encoder = HttpClip(str(server.make_url("/")))
        try:
            with pytest.raises((Unavailable, Rejected)) as problem:
                await encoder.encode_images(pictures()[:2])
            return problem.value
        finally:
            await encoder.close()


async def test_a_redirect_is_not_followed() -> None:
    paths = []

    async def redirect(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    assert "CLIP_HOST" in str(await answered_by(redirect))
    assert paths == ["/post"]


async def test_an_answer_without_end_is_cut_off() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1_000):
            await response.write(b" " * 2**16)
        return response

    assert "answers with more than" in str(await answered_by(endless))


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("7", Unavailable, "not a JSON object"),
        ("[" * 100_000, Unavailable, "nested too deeply"),
        ('{"data": []}', Unavailable, "not an answer of a Jina gateway"),
        ('{"header": {"status": null}, "data": null}', Rejected, "without documents"),
        ('{"header": {"status": null}, "data": [7]}', Rejected, "without an id"),
        (
            '{"header": {}, "data": [{"id": "1", "embedding": [1]}, {"id": "0", "embedding": [NaN]}]}',
            Rejected,
            "document 0: the embedding is not finite",
        ),
    ],
)
async def test_an_answer_in_other_words_is_told_apart(body: str, error: type[Exception], words: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    problem = await answered_by(answer)
    assert isinstance(problem, error)
    assert words in str(problem)
