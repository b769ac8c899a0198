from __future__ import annotations

import asyncio
import logging

import pytest
import structlog
from http_fakes import CATS, FAILURES
from http_world import Client, Opener, World

from state.errors import Unavailable


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_failure_below_becomes_its_status_and_tells_no_internals(
    client: Client, world: World, kind: str
) -> None:
    failure, status = FAILURES[kind]
    world.store.failure = failure
    with structlog.testing.capture_logs() as logs:
        answer = await client.post("/search", {"project_id": CATS, "by_image_ids": [101]})
    assert client.status == status
    assert ("request.failed" in [event["event"] for event in logs]) is (status == 500)
    for internal in ("10.0.0.7", "/srv", "ZeroDivision", "the count"):
        assert internal not in answer["message"]
    if status == 503:
        assert int(client.headers["Retry-After"]) >= 1
    if status == 500:
        assert answer["request_id"] == client.headers["X-Request-Id"]
        assert answer["request_id"] in answer["message"]


async def test_a_service_away_is_named_and_its_wait_passed_on(client: Client, world: World) -> None:
    world.encoder.failure = Unavailable("clip", "at grpc://10.0.0.7", 12.1)
    answer = await client.post("/search", {"project_id": CATS, "prompt": "red"})
    assert (client.status, client.headers["Retry-After"]) == (503, "13")
    assert answer["message"].startswith("clip ")
    await client.post("/search", {"project_id": CATS, "by_image_ids": [101]})
    assert client.status == 200


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), None, 0.0, -3.0])
async def test_retry_after_is_always_a_sensible_number(client: Client, world: World, seconds: float) -> None:
    world.store.failure = Unavailable("qdrant", "gone", seconds)
    await client.post("/search", {"project_id": CATS, "by_image_ids": [101]})
    assert 1 <= int(client.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/search", 405), ("DELETE", "/search", 405), ("POST", "/livez", 405)],
)
async def test_an_unknown_address_or_method_is_json(
    client: Client, method: str, path: str, status: int
) -> None:
    response = await client.http.request(method, path)
    assert response.status == status
    assert (await response.json())["message"]
    assert response.headers["X-Request-Id"]
    assert ("Allow" in response.headers) is (status == 405)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("a b", False), ("x" * 65, False), ("<script>", False), ("", False)],
)
async def test_a_sane_request_id_is_kept(opened: Opener, given: str, kept: bool) -> None:
    client = await opened(new_id=lambda: "ours")
    await client.get("/livez", headers={"X-Request-Id": given})
    assert client.headers["X-Request-Id"] == (given if kept else "ours")


async def test_every_request_is_logged_without_its_secrets(opened: Opener) -> None:
    client = await opened(new_id=lambda: "ours", path_prefix="net/abc/")
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        body = {"project_id": CATS, "prompt": "red", "api_token": "s3cret"}
        await client.post("/net/abc/search", body, headers={"x-api-key": "s3cret"})
    [event] = logs
    assert event | {"seconds": 0} == {
        "event": "request.answered",
        "log_level": "info",
        "method": "POST",
        "route": "/search",
        "status": 200,
        "seconds": 0,
        "request_id": "ours",
    }
    assert event["seconds"] > 0


async def test_every_route_is_served_under_the_prefix_too(opened: Opener) -> None:
    client = await opened(path_prefix="/net/abc")
    for path in ("/livez", "/net/abc/livez", "/net/abc/openapi.json", "/net/abc/health"):
        await client.get(path)
        assert client.status == 200


async def connections(client: Client, count: int) -> None:
    """Wait until the application has as many open."""
    async with asyncio.timeout(5):
        while True:
            if len(client.http.server.runner.server.connections) == count:
                return
            await asyncio.sleep(0.01)


async def test_a_caller_who_hangs_up_does_no_harm(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), structlog.testing.capture_logs() as logs:
        for cut in (b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", b"POST /sea"):
            _, writer = await asyncio.open_connection("127.0.0.1", client.http.port)
            writer.write(cut)
            await connections(client, 1)
            writer.close()
            await connections(client, 0)
        await client.get("/livez")
    assert client.status == 200
    assert caplog.records == []
    assert not [event for event in logs if event["log_level"] == "error"]
