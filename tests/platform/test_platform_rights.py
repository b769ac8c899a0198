from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import platform_emulator.projects as emulated_projects
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from platform_emulator import Emulator, Fault, World
from platform_time import HandClock, at_once

from daemon.platform import rights as rights_module
from daemon.platform.client import Client
from daemon.platform.rights import Rights
from state.errors import Invisible, NotInPlan, Unavailable, UnknownCaller

NOWHERE = 999_999


@pytest.fixture
async def rights(client: Client, clock: HandClock) -> AsyncIterator[Rights]:
    opened = Rights(client, clock)
    yield opened
    await opened.close()


async def test_a_reader_is_let_in_and_a_stranger_is_not(
    rights: Rights, anna: str, stranger: str, project: int
) -> None:
    await rights.authorise(anna, project)
    with pytest.raises(Invisible):
        await rights.authorise(stranger, project)


async def test_an_unknown_token_is_unknown_whatever_it_asks_for(rights: Rights, project: int) -> None:
    for number in (project, NOWHERE):
        with pytest.raises(UnknownCaller):
            await rights.authorise("guessed", number)
    with pytest.raises(UnknownCaller):
        await rights.recognise("guessed")


async def test_an_empty_token_is_not_taken_for_the_daemons_own(rights: Rights, project: int) -> None:
    with pytest.raises(UnknownCaller):
        await rights.authorise("", project)


async def test_a_known_token_is_recognised_without_rights_to_anything(rights: Rights, stranger: str) -> None:
    await rights.recognise(stranger)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_hidden_project_and_none_cost_the_same(
    rights: Rights, emulator: Emulator, stranger: str, project: int, status: int
) -> None:
    emulator.world.rules.denied_status = status
    seen = []
    for number in (project, NOWHERE):
        emulator.counters.clear()
        with pytest.raises(Invisible) as refusal:
            await rights.authorise(stranger, number)
        seen.append((dict(emulator.counters.callers), str(refusal.value)))
    assert seen[0] == seen[1]


async def test_a_number_the_server_refuses_is_as_good_as_hidden(
    rights: Rights, emulator: Emulator, anna: str
) -> None:
    emulator.faults.add(Fault("projects.info", "status", status=400))
    with pytest.raises(Invisible):
        await rights.authorise(anna, NOWHERE)


async def test_an_allowance_is_remembered_for_a_minute(
    rights: Rights, emulator: Emulator, clock: HandClock, anna: str, project: int
) -> None:
    await rights.authorise(anna, project)
    emulator.world.revoke(anna, project)
    emulator.counters.clear()
    clock.advance(59.9)
    await rights.authorise(anna, project)
    assert not emulator.counters.calls
    clock.advance(0.1)
    with pytest.raises(Invisible):
        await rights.authorise(anna, project)


async def test_a_denial_is_remembered_for_five_seconds(
    rights: Rights, emulator: Emulator, clock: HandClock, stranger: str, project: int
) -> None:
    with pytest.raises(Invisible):
        await rights.authorise(stranger, project)
    emulator.world.grant(stranger, project)
    emulator.counters.clear()
    clock.advance(4.9)
    with pytest.raises(Invisible):
        await rights.authorise(stranger, project)
    assert not emulator.counters.calls
    clock.advance(0.1)
    await rights.authorise(stranger, project)


async def test_an_answer_counts_from_when_it_was_asked_for(
    rights: Rights, emulator: Emulator, clock: HandClock, anna: str, project: int
) -> None:
    emulator.faults.add(Fault("projects.info", "call", action=lambda: clock.advance(50)))
    await rights.authorise(anna, project)
    emulator.counters.clear()
    clock.advance(10)
    await rights.authorise(anna, project)
    assert emulator.counters.calls["projects.info"] == 1


async def test_nobody_gets_the_answer_meant_for_another(
    rights: Rights, world: World, anna: str, stranger: str, project: int
) -> None:
    other = world.project("hidden from anna")
    world.grant(stranger, other)
    questions = [(anna, project), (anna, other), (stranger, project), (stranger, other), ("guessed", project)]
    for _ in range(2):  # the second time from memory
        answers = await asyncio.gather(
            *(rights.authorise(token, number) for token, number in questions), return_exceptions=True
        )
        assert list(map(type, answers)) == [type(None), Invisible, Invisible, type(None), UnknownCaller]


async def test_many_who_ask_the_same_at_once_cost_one_question(
    rights: Rights, emulator: Emulator, anna: str, project: int
) -> None:
    await asyncio.gather(*(rights.authorise(anna, project) for _ in range(20)))
    assert emulator.counters.calls == {"projects.info": 1, "teams.info": 1}


async def test_who_gives_up_waiting_leaves_the_answer_to_the_others(
    rights: Rights, emulator: Emulator, anna: str, project: int
) -> None:
    emulator.faults.add(Fault("projects.info", "latency", seconds=0.2))
    first, second = (asyncio.create_task(rights.authorise(anna, project)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    await second
    assert first.cancelled()
    assert emulator.counters.calls["projects.info"] == 1


@pytest.mark.parametrize("method", ["projects.info", "teams.info"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "retry_after": 30},
        {"kind": "status", "status": 500},
        {"kind": "html", "status": 502},
        {"kind": "html", "status": 200},
        {"kind": "reset"},
        {"kind": "truncated"},
    ],
    ids=str,
)
async def test_on_doubt_the_answer_is_no_and_not_remembered(
    rights: Rights, emulator: Emulator, anna: str, project: int, method: str, fault: dict[str, Any]
) -> None:
    emulator.faults.add(Fault(method, times=None, **fault))
    answers = await asyncio.gather(
        *(rights.authorise(anna, project) for _ in range(3)), return_exceptions=True
    )
    assert list(map(type, answers)) == [Unavailable] * 3
    assert answers[0].retry_after == fault.get("retry_after")
    emulator.faults.clear()
    await rights.authorise(anna, project)


async def test_an_answer_about_another_project_proves_nothing(
    rights: Rights, anna: str, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated_projects, "shown", lambda *_: {"id": project + 1, "teamId": 1})
    with pytest.raises(Unavailable):
        await rights.authorise(anna, project)


async def test_the_free_plan_has_no_ai_features(
    rights: Rights, world: World, clock: HandClock, anna: str, project: int
) -> None:
    team_id = world.projects[project].team_id
    world.set_plan(team_id, "free")
    with pytest.raises(NotInPlan, match=f"^Team {team_id} with 'free' plan cannot use AI features.$"):
        await rights.authorise(anna, project)
    for plan in ("pro", None):
        world.set_plan(team_id, plan)
        clock.advance(60)
        await rights.authorise(anna, project)


async def test_the_plan_of_a_hidden_project_is_not_told(
    rights: Rights, world: World, stranger: str, project: int
) -> None:
    world.set_plan(world.projects[project].team_id, "free")
    with pytest.raises(Invisible):
        await rights.authorise(stranger, project)


async def test_a_team_not_named_is_found_by_the_workspace(
    rights: Rights, world: World, anna: str, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = world.projects[project].workspace_id
    monkeypatch.setattr(emulated_projects, "shown", lambda *_: {"id": project, "workspaceId": place})
    world.set_plan(world.projects[project].team_id, "free")
    with pytest.raises(NotInPlan):
        await rights.authorise(anna, project)


async def test_the_daemons_own_token_is_never_used_for_a_caller(
    rights: Rights, emulator: Emulator, anna: str, project: int
) -> None:
    await rights.authorise(anna, project)
    await rights.recognise(anna)
    await rights.projects_of(anna, emulator.world.image_ids(project))
    assert {login for _, login in emulator.counters.callers} == {"anna"}


async def test_only_so_many_answers_are_kept(
    rights: Rights, emulator: Emulator, anna: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights_module, "MOST_VERDICTS", 3)
    for number in (1, 2, 3, 1, 4, 1, 2):
        with pytest.raises(Invisible):
            await rights.authorise(anna, number)
    assert emulator.counters.calls["projects.info"] == 5


async def test_images_lead_to_the_projects_the_caller_sees(
    rights: Rights, emulator: Emulator, anna: str, project: int
) -> None:
    world = emulator.world
    other, hidden = world.project("second", images=3), world.project("hidden", images=2)
    world.grant(anna, other)
    mine, more = world.image_ids(project), world.image_ids(other)
    found = await rights.projects_of(anna, [*mine, *more, *world.image_ids(hidden), NOWHERE])
    assert found == {project: frozenset(mine), other: frozenset(more)}
    assert emulator.counters.calls["images.list"] == 2
    with pytest.raises(UnknownCaller):
        await rights.projects_of("guessed", mine)


async def test_closing_gives_up_what_is_being_asked(
    client: Client, emulator: Emulator, anna: str, project: int
) -> None:
    rights = Rights(client)
    emulator.faults.add(Fault("projects.info", "latency", seconds=0.5))
    waiting = asyncio.create_task(rights.authorise(anna, project))
    await asyncio.sleep(0.05)
    await rights.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_session_the_server_opens_for_one_token_is_not_used_for_another(
    sly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    cookies: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        headers = {"Set-Cookie": f"session={request.headers['x-api-key']}; Path=/"}
        return web.Response(body=json.dumps({"id": 1}), content_type="application/json", headers=headers)

    app = web.Application()
    app.router.add_post("/public/api/v3/users.me", answer)
    async with TestServer(app) as server:
        client = await Client.open(str(server.make_url("")).rstrip("/"), "own", sleep=at_once)
        for token in ("one", "two"):
            await client.on_behalf_of(token).post("users.me", {})
        await client.close()
    assert cookies == [None, None]
