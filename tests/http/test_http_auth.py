from __future__ import annotations

from ipaddress import ip_network

import pytest
from http_fakes import CATS, DOGS, EMPTY, SECRET
from http_world import Client, Opener, World

from handlers.auth import Access
from handlers.routes import ROUTES, Reach
from state.errors import Unavailable
from state.model import Progress, TaskStatus

TOKEN = "the-admin's-own"
GUARDED = Access(auth_token=TOKEN)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SEARCH = {"project_id": CATS, "prompt": "red"}
PROXIED = {"X-Forwarded-For": "203.0.113.7"}
TOKENLESS = [route.path for route in ROUTES if route.reach is Reach.NEIGHBOURS]


async def elsewhere(opened: Opener, **settings: object) -> Client:
    """Open an application that does not take loopback for a neighbour."""
    return await opened(access=Access(TOKEN, (ip_network("192.0.2.0/24"),)), **settings)


def bodies(token: str) -> list[dict]:
    return [
        {"json": {**SEARCH, "api_token": token}},
        {"json": {"state": SEARCH, "context": {"apiToken": token}}},
        {"json": {"state": SEARCH, "api_token": token, "context": {"apiToken": "another"}}},
        {"json": SEARCH, "headers": {"x-api-key": token}},
        {"json": SEARCH, "headers": {"Authorization": f"bearer {token}"}},
    ]


@pytest.mark.parametrize("place", range(5))
async def test_the_token_is_found_in_each_of_its_places(opened: Opener, place: int) -> None:
    client = await opened(access=GUARDED)
    assert (await client.http.post("/search", **bodies(TOKEN)[place])).status == 200
    assert (await client.http.post("/search", **bodies("wrong")[place])).status == 401


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "ä", "\udcff", "x" * 5000])
async def test_a_missing_or_wrong_token_is_401(opened: Opener, token: str) -> None:
    client = await opened(access=GUARDED)
    raw = token.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    answer = await client.post("/search", SEARCH, headers={"x-api-key": raw})
    assert client.status == 401
    assert client.headers["WWW-Authenticate"] == "Bearer"
    assert not token or token not in answer["message"]


async def test_who_has_no_token_learns_nothing_about_projects_or_fields(opened: Opener) -> None:
    client = await opened(access=GUARDED)
    answers = [await client.post("/search", body) for body in (SEARCH, {"project_id": 99}, {"limit": -1})]
    assert client.status == 401
    assert answers[0] == answers[1] == answers[2]


async def test_server_address_in_a_body_does_not_matter(opened: Opener) -> None:
    client = await opened(platform=True)
    body = {"state": SEARCH, "server_address": "http://192.0.2.9", "api_token": "alice"}
    await client.post("/search", body)
    assert client.status == 200
    await client.post("/search", {**body, "api_token": "mallory"})
    assert client.status == 401


async def test_every_route_but_the_probes_is_closed_to_strangers(opened: Opener) -> None:
    client = await elsewhere(opened)
    for route in ROUTES:
        if route.reach is not Reach.ANYONE:
            path = route.path.replace("{project_id}", "1")
            for headers in (PROXIED, {"x-api-key": "wrong"}):
                response = await client.http.request(route.method, path, headers=headers)
                assert response.status == 401


@pytest.mark.parametrize(
    "path", ["/health", "/livez", "/readyz", "/openapi.json", "/is_alive", "/is_running"]
)
async def test_probes_need_no_token(opened: Opener, path: str) -> None:
    client = await elsewhere(opened)
    assert (await client.http.get(path, headers=PROXIED)).status == 200


@pytest.mark.parametrize("path", TOKENLESS)
async def test_the_seven_old_calls_need_no_token_from_a_trusted_network_only(
    opened: Opener, path: str
) -> None:
    path = path.replace("{project_id}", "1")
    body = {"project_id": CATS, "task_id": CATS}
    near, far = await opened(access=GUARDED), await elsewhere(opened)
    assert (await near.http.post(path, json=body)).status == 200
    assert (await near.http.post(path, json=body, headers=PROXIED)).status == 401
    assert (await near.http.post(path, json=body, headers={"Origin": "http://evil.test"})).status == 401
    assert (await near.http.post(path, json={**body, "api_token": "wrong"})).status == 401
    assert (await far.http.post(path, json=body)).status == 401
    assert (await far.http.post(path, json=body, headers=BEARER)).status == 200


def test_seven_calls_are_answered_without_a_token() -> None:
    assert len(TOKENLESS) == 7


@pytest.mark.parametrize("path", ["/metrics", "/status"])
async def test_what_concerns_all_projects_needs_the_admins_token_beyond_loopback(
    opened: Opener, path: str
) -> None:
    client = await opened(access=GUARDED, platform=True)
    assert (await client.http.get(path)).status == 200
    assert (await client.http.get(path, headers=PROXIED)).status == 401
    assert (await client.http.get(path, headers={**PROXIED, **BEARER})).status == 200
    assert (await client.http.get(path, headers={"x-api-key": "alice"})).status == 401


async def test_with_nothing_configured_only_loopback_is_let_in(opened: Opener) -> None:
    client = await opened()
    await client.post("/search", SEARCH)
    assert client.status == 200
    await client.post("/search", SEARCH, headers=PROXIED)
    assert client.status == 401


async def test_a_user_sees_their_projects_and_nothing_else(opened: Opener) -> None:
    client = await opened(platform=True)
    user = {"x-api-key": "alice"}
    await client.post("/search", SEARCH, headers=user)
    assert client.status == 200
    hidden = await client.post("/search", {**SEARCH, "project_id": SECRET}, headers=user)
    assert client.status == 404
    absent = await client.post("/search", {**SEARCH, "project_id": 999}, headers=user)
    assert client.status == 404
    named = await client.post("/search", {**SEARCH, "project_id": "secret"}, headers=user)
    assert hidden == absent == named


async def test_an_unknown_token_is_401_whether_the_project_exists_or_not(opened: Opener) -> None:
    client = await opened(platform=True)
    for project in (CATS, SECRET, 999):
        await client.post("/search", {**SEARCH, "project_id": project}, headers={"x-api-key": "mallory"})
        assert client.status == 401


async def test_a_free_plan_is_403_and_names_the_team(opened: Opener) -> None:
    client = await opened(platform=True)
    answer = await client.post("/search", SEARCH, headers={"x-api-key": "poor"})
    assert client.status == 403
    assert answer["message"] == "Team 7 with 'free' plan cannot use AI features."


async def test_on_doubt_nobody_is_let_in(opened: Opener, world: World) -> None:
    world.platform.failure = Unavailable("source", "time-out")
    client = await opened(platform=True)
    await client.post("/search", SEARCH, headers={"x-api-key": "alice"})
    assert client.status == 503


async def test_the_admins_token_is_not_shown_to_the_platform(opened: Opener, world: World) -> None:
    world.platform.failure = AssertionError("asked")
    client = await opened(access=GUARDED, platform=True)
    await client.post("/search", {**SEARCH, "project_id": SECRET}, headers=BEARER)
    assert client.status == 200


async def test_progress_of_all_projects_shows_a_user_only_theirs(opened: Opener, world: World) -> None:
    for project in (CATS, DOGS, SECRET):
        world.syncs.board[project] = Progress(project, 2, 1, TaskStatus.RUNNING)
    client = await opened(platform=True)
    answer = await client.post("/processing_progress", headers={"x-api-key": "bob"})
    assert answer["progress"].keys() == {str(DOGS)}
    answer = await client.post("/processing_progress")
    assert len(answer["progress"]) == 3


async def test_up_to_date_does_not_tell_a_hidden_project_from_none(opened: Opener) -> None:
    client = await opened(platform=True)
    for project in (SECRET, 999):
        answer = await client.post("/embeddings_up_to_date", {"project_id": project, "api_token": "bob"})
        assert (client.status, answer) == (200, None)


async def test_images_of_hidden_projects_are_as_unknown_as_none(opened: Opener, world: World) -> None:
    client = await opened(platform=True)
    user = {"x-api-key": "alice"}
    await client.post("/embeddings", {"image_ids": [501]}, headers=user)
    assert client.status == 404
    await client.post("/embeddings", {"image_ids": [501, 101]}, headers=user)
    assert [project for project, _, _ in world.syncs.started] == [CATS]
    answer = await client.post("/events", {"image_ids": [501]}, headers=user)
    assert (answer["project_ids"], world.syncs.marked) == ([], {})


async def test_only_an_operator_asks_about_the_whole_quarantine(opened: Opener) -> None:
    client = await opened(platform=True, access=GUARDED)
    await client.get("/quarantine", headers={"x-api-key": "alice"})
    assert client.status == 401
    await client.get("/quarantine?project_id=1", headers={"x-api-key": "alice"})
    assert client.status == 200
    await client.get("/quarantine", headers=BEARER)
    assert client.status == 200


async def test_a_users_answer_is_left_on_the_platform(opened: Opener, world: World) -> None:
    client = await opened(platform=True, access=GUARDED)
    user = {"x-api-key": "alice"}
    answer = await client.post("/search", {"projectId": CATS, "prompt": "red", "limit": 2}, headers=user)
    assert (answer["collection_id"], answer["collectionId"]) == (77, 77)
    body = {"project_id": CATS, "sample_size": 1, "image_ids": [104]}
    answer = await client.post("/diverse", body, headers=user)
    assert answer["collection_id"] == 77
    assert "collectionId" not in answer
    assert world.platform.published == [
        ("search", CATS, "alice", [101, 102]),
        ("diverse", CATS, "alice", [104]),
    ]
    answer = await client.post("/search", SEARCH, headers=BEARER)
    assert answer["collection_id"] is None
    await client.post("/search", {"project_id": EMPTY, "prompt": "red"}, headers=user)
    assert len(world.platform.published) == 2
