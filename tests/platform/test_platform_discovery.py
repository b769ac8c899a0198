"""Where the platform says that CLIP is, and how it says that it is nowhere."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from platform_emulator import ClipApp, Emulator, Fault, World
from platform_time import at_once

from daemon import logs
from daemon.encoders.addresses import Address, Find, Task, fixed
from daemon.platform import discovery
from daemon.platform.client import Client
from daemon.platform.discovery import Discovery
from state.errors import Misconfigured, Unavailable

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

NOWHERE = 4711
SESSION = "instance.get-render-previews-session-token"


async def listening(name: str) -> TestServer:
    """Start a service that answers ``/post`` with its name."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"server": name, "token": request.headers.get("Authorization")})

    app = web.Application()
    app.router.add_post("/post", answer)
    server = TestServer(app)
    await server.start_server()
    return server


@pytest.fixture
async def service() -> AsyncIterator[TestServer]:
    server = await listening("first")
    yield server
    await server.close()


@pytest.fixture
def clip(world: World, service: TestServer) -> ClipApp:
    return ClipApp(world, str(service.make_url("")))


@pytest.fixture
def hidden() -> list[str]:
    """What was said to be secret."""
    return []


@pytest.fixture(params=["by task", "by name"])
def found(request: pytest.FixtureRequest, client: Client, clip: ClipApp, hidden: list[str]) -> Discovery:
    task = Task(clip.task_id) if request.param == "by task" else None
    return Discovery(client, task, hide=hidden.append)


async def asked(address: Address) -> tuple[int, Any]:
    """Ask for ``/post`` there."""
    headers = {"Authorization": "for CLIP"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{address.url}/post", json={}, headers=headers) as response,
    ):
        return response.status, await response.json()


async def problem_of(find: Find) -> Unavailable:
    with pytest.raises(Unavailable) as problem:
        await find()
    assert problem.value.service == "clip"
    return problem.value


async def test_the_app_is_found_and_answers(found: Discovery, emulator: Emulator) -> None:
    (address,) = await found.find()
    assert address.name == emulator.address
    assert await asked(address) == (200, {"server": "first", "token": "for CLIP"})


async def test_the_same_app_is_at_the_same_address(found: Discovery) -> None:
    assert await found.find() == await found.find()


async def test_an_app_that_was_restarted_is_found_behind_its_new_token(
    found: Discovery, clip: ClipApp
) -> None:
    second = await listening("second")
    try:
        (old,) = await found.find()
        clip.restart(str(second.make_url("")))
        assert (await asked(old))[0] == 404
        (new,) = await found.find()
        assert new != old
        assert await asked(new) == (200, {"server": "second", "token": "for CLIP"})
    finally:
        await second.close()


async def test_an_app_that_was_stopped_is_away_until_it_is_started(found: Discovery, clip: ClipApp) -> None:
    clip.stop()
    problem = await problem_of(found.find)
    assert "start the app there" in str(problem)
    assert "CLIP_HOST" in str(problem)
    clip.restart()
    assert len(await found.find()) == 1


@pytest.mark.parametrize("status", [200, 400, 403, 404])
async def test_an_app_that_nobody_runs_is_away_however_the_platform_says_so(
    client: Client, world: World, status: int
) -> None:
    world.rules.no_session_status = status
    problem = await problem_of(Discovery(client).find)
    assert "CLIP as Service does not run on the platform" in str(problem)


async def test_a_task_that_does_not_exist_is_named(client: Client) -> None:
    problem = await problem_of(Discovery(client, Task(NOWHERE)).find)
    assert f"no task {NOWHERE}" in str(problem)


async def test_a_task_that_has_ended_is_named_with_its_status(client: Client, clip: ClipApp) -> None:
    clip.stop()
    problem = await problem_of(Discovery(client, Task(clip.task_id)).find)
    assert f"task {clip.task_id} has ended (finished)" in str(problem)


@pytest.mark.parametrize(
    "info",
    [
        {},
        [],
        {"settings": None},
        {"settings": {"message": "starting"}},
        {"settings": {"message": {"appInfo": {}}}},
        {"settings": {"message": {"appInfo": {"baseUrl": None}}}},
        {"settings": {"message": {"appInfo": {"baseUrl": "/"}}}},
    ],
)
async def test_a_task_without_an_address_is_away(
    client: Client, info: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: object, **__: object) -> Any:
        return info

    monkeypatch.setattr(client, "post", answer)
    assert "listens nowhere" in str(await problem_of(Discovery(client, Task(1)).find))


@pytest.mark.parametrize("path", ["http://elsewhere/x", "//elsewhere/x", "@elsewhere", "net/x"])
async def test_no_answer_of_the_platform_leads_to_another_host(
    client: Client, emulator: Emulator, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: object, **__: object) -> Any:
        return {"settings": {"message": {"appInfo": {"baseUrl": path}}}}

    monkeypatch.setattr(client, "post", answer)
    (address,) = await Discovery(client, Task(1)).find()
    assert address.name == emulator.address


@pytest.mark.parametrize("answer", ["<html>", "two words", "../../etc", "a/b", "a?b", "ü" * 20, "x" * 5000])
async def test_what_is_no_token_is_not_used_as_one(
    client: Client, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def text(*_: object) -> str:
        return answer

    monkeypatch.setattr(client, "post_text", text)
    problem = await problem_of(Discovery(client).find)
    assert answer not in str(problem)


@pytest.mark.parametrize("kind", ["status", "html", "reset", "cut"])
async def test_a_platform_in_trouble_is_named_as_such(
    found: Discovery, emulator: Emulator, kind: Any
) -> None:
    for method in (SESSION, "tasks.info"):
        emulator.faults.add(Fault(method, kind, status=503, retry_after=7))
    problem = await problem_of(found.find)
    assert "the platform cannot say where it is" in str(problem)
    assert problem.retry_after == (7 if kind == "status" else None)
    assert len(await found.find()) == 1


async def test_a_platform_that_does_not_answer_is_not_waited_for(
    found: Discovery, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(discovery, "ANSWER_SECONDS", 0.05)
    for method in ("post", "post_text"):
        monkeypatch.setattr(client, method, never)
    async with asyncio.timeout(5):
        assert "within 0.05 s" in str(await problem_of(found.find))


async def test_a_token_that_the_platform_forgot_is_named_as_the_cause(found: Discovery, world: World) -> None:
    world.forget_user(world.admin_token)
    assert "does not know the daemon's token" in str(await problem_of(found.find))


@pytest.mark.parametrize("prefix", ["", "/apps/net"])
async def test_apps_may_be_reached_at_an_address_of_their_own(
    client: Client, clip: ClipApp, prefix: str
) -> None:
    found = Discovery(client, net_server=f"http://net.internal:8080{prefix}/", hide=lambda _: None)
    assert await found.find() == (Address("http", "net.internal", 8080, f"{prefix}/{clip.tokens[0]}"),)


async def test_the_address_of_the_apps_does_not_move_a_task(
    client: Client, clip: ClipApp, emulator: Emulator
) -> None:
    found = Discovery(client, Task(clip.task_id), "http://net.internal:8080", hide=lambda _: None)
    assert (await found.find())[0].name == emulator.address


@pytest.mark.parametrize("server", ["grpc://net", "http://user:pass@net", "http://net?x=1", "http://"])
async def test_an_address_of_the_apps_that_cannot_be_is_refused_at_once(client: Client, server: str) -> None:
    with pytest.raises(Misconfigured) as problem:
        Discovery(client, net_server=server)
    assert problem.value.setting == "SUPERVISELY_NET_SERVER_ADDRESS"


async def test_every_token_is_said_to_be_secret(found: Discovery, clip: ClipApp, hidden: list[str]) -> None:
    await found.find()
    before = set(hidden)
    clip.restart()
    await found.find()
    assert len(before) == 1
    assert len(set(hidden)) == 2
    assert set(hidden) & set(clip.tokens)


@pytest.fixture
def written() -> Iterator[StringIO]:
    """All that is logged, by whatever library."""
    root, stream = logging.getLogger(), StringIO()
    handlers, level = list(root.handlers), root.level
    logs.set_up("debug", "json", [], stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_no_token_is_in_any_line_or_error(
    emulator: Emulator, world: World, sly: Any, clip: ClipApp, written: StringIO, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    client = await Client.open(emulator.address, world.admin_token, sleep=at_once)
    log, tokens, shown = structlog.get_logger(), set(), []
    try:
        for find in (Discovery(client).find, Discovery(client, Task(clip.task_id)).find):
            (address,) = await find()
            log.info("clip.found", address=address, path=address.path, url=address.url)
            tokens |= {*clip.tokens}
            clip.stop()
            emulator.faults.add(Fault("tasks.info", "truncated", skip=1))
            emulator.faults.add(Fault(SESSION, "html", status=400, skip=1))
            for _ in range(2):
                shown += traceback.format_exception(await problem_of(find))
            clip.restart()
            shown += [str(address), repr(address)]
    finally:
        await client.close()
    lines = "".join([written.getvalue(), *shown])
    assert logs.REDACTED in lines
    assert len(tokens) == 4
    assert not [token for token in tokens if token in lines]


async def test_configured_addresses_are_found_the_same_way() -> None:
    find: Find = fixed((Address("http", "clip", 80),))
    assert await find() == (Address("http", "clip", 80),)
