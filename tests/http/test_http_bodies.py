from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from http_fakes import CATS
from http_world import Client, Opener, World

from handlers.auth import Reach
from handlers.parts import Limits
from handlers.routes import ROUTES, Route

POSTS = [route for route in ROUTES if route.method == "POST" and route.reach is not Reach.ANYONE]
WITH_BODY = [route for route in POSTS if "{" not in route.path]

GOOD: dict[str, Any] = {
    "project_id": CATS,
    "task_id": CATS,
    "project_ids": [CATS],
    "image_ids": [101],
    "sample_size": 2,
    "prompt": "red",
}
"""What each route needs at least, to be right but for the one field in question."""

LISTS = {"by_image_ids", "image_ids", "restricted_image_ids", "negative_image_ids", "selected_image_ids"}
BOMB = gzip.compress(b" " * 50_000_000)
OBJECT: list[Any] = [{"a": 1}, [[1]], 1.5]


def wrong_values(field: str) -> Iterator[Any]:
    """Yield values a field must refuse: of wrong type, negative, out of range, oversize."""
    if field in LISTS:
        yield from ["text", 7, True, {"a": 1}, [True], ["x"], [None], [1.5], [-1], [2**63], [10**30]]
        yield list(range(201))
    elif field in {"project_id", "task_id"}:
        yield from [True, {"a": 1}, [1], 1.5, -1, 2**63, 10**30, "", " ", "x" * 256, "a\nb"]
    elif field == "project_ids":
        yield from ["text", 7, {"a": 1}, [True], [None], [-1], [""], list(range(51))]
    elif field in {"prompt", "negative_prompt"}:
        yield from [7, True, {"a": 1}, [7], [None], "x" * 513, ["x" * 513], ["x"] * 17, ",x" * 17]
    elif field in {"force", "return_vectors", "dry_run", "include_query", "exact", "unique_content"}:
        yield from ["text", "true", 7, 1, 0, {"a": 1}, [True]]
    elif field in {"scoring", "method", "sampling_method", "clustering_method"}:
        yield from ["no such one", 7, True, {"a": 1}, ["random"], "x" * 5000]
    elif field == "encoder_id":
        yield from [7, True, {"a": 1}, ["a"], "x" * 101]
    elif field == "threshold":
        yield from ["text", True, {"a": 1}, [0.5], -1.01, 1.01, 10**30]
    else:
        yield from ["text", "-1", "1.5", True, {"a": 1}, [1], 1.5, -1, 2**63, 10**30]
        if field in {"limit", "sample_size", "num_clusters"}:
            yield from [0, 50_001]


TABLE = [(route.path, field) for route in WITH_BODY for field in route.takes.model_fields]


@pytest.fixture
async def strict(opened: Opener) -> Client:
    return await opened(limits=Limits(ids=200, event_projects=50))


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
async def test_a_wrong_field_is_400_and_named(strict: Client, route: Route) -> None:
    for field in route.takes.model_fields:
        for value in wrong_values(field):
            for body in ({**GOOD, field: value}, {"state": {**GOOD, field: value}}):
                answer = await strict.post(route.path, body)
                assert strict.status == 400, (field, value, answer)
                assert answer["errors"][0]["field"].split(".")[0] == field, (value, answer)
                assert field in answer["message"]
                assert len(answer["message"]) < 2_000


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "[1, NaN]"])
async def test_a_number_that_is_not_finite_is_400_and_named(client: Client, literal: str) -> None:
    for path, field in TABLE:
        for body in (f'{{"{field}": {literal}}}', f'{{"state": {{"{field}": {literal}}}}}'):
            answer = await client.raw(path, body.encode())
            assert client.status == 400
            assert answer["errors"] == [{"field": field, "problem": "must be a finite number"}]


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
async def test_null_is_as_good_as_absent(client: Client, route: Route) -> None:
    for field in route.takes.model_fields:
        body = {name: value for name, value in GOOD.items() if name != field}
        absent = await client.post(route.path, body)
        status = client.status
        null = await client.post(route.path, {**body, field: None})
        assert (client.status, null) == (status, absent)
        assert client.status in (200, 202, 400)
        if client.status == 400:
            assert null["errors"][0]["field"] == field


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
async def test_an_empty_body_lacks_what_is_required_and_says_so(client: Client, route: Route) -> None:
    for body in (b"", b"  ", b"{}", b'{"state": {}}'):
        answer = await client.raw(route.path, body)
        if client.status == 400:
            assert answer["errors"][0]["field"] in route.takes.model_fields
        else:
            assert not any(field.is_required() for field in route.takes.model_fields.values())
            assert client.status == 200


BROKEN = {
    "no JSON": b"project_id=1",
    "cut off": b'{"project_id": 1',
    "a list": b"[1]",
    "a number": b"7",
    "null": b"null",
    "a text": b'"project_id"',
    "not UTF-8": b'{"project_id": "\xff"}',
    "UTF-16": '{"project_id": 1}'.encode("utf-16"),
    "half a surrogate": b'{"project_id": "\\ud800"}',
    "two values": b'{"project_id": 1}{}',
    "a comment": b'{"project_id": 1 /* one */}',
    "deep lists": b'{"project_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep and open": b"[" * 400_000,
    "deep state": b'{"state": {"project_id": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "state is no object": b'{"state": [1]}',
    "state is a text": b'{"state": "project_id"}',
    "context is no object": b'{"context": 7, "project_id": 1}',
    "token is no text": b'{"api_token": 7, "project_id": 1}',
    "token in context is no text": b'{"context": {"apiToken": {}}, "project_id": 1}',
    "long digits": b'{"project_id": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_body_is_400_for_every_route(client: Client, name: str) -> None:
    for route in POSTS:
        answer = await client.raw(route.path.replace("{project_id}", "1"), BROKEN[name])
        if "project_id" not in route.takes.model_fields and name == "deep state":
            continue  # what means nothing to a route is not looked at
        if "{" in route.path and name in ("deep state", "long digits"):
            continue  # the project is in the path
        assert client.status == 400, answer
        assert answer["errors"][0]["field"]


async def test_a_body_too_large_is_413(opened: Opener) -> None:
    client = await opened(limits=Limits(body_bytes=10_000))
    for route in POSTS:
        path = route.path.replace("{project_id}", "1")
        await client.raw(path, b'{"project_id": 1, "x": "' + b"x" * 10_000 + b'"}')
        assert client.status == 413


async def test_a_body_of_millions_of_values_is_413(client: Client) -> None:
    for value in (b"{}", b"1"):
        answer = await client.raw("/search", b'{"project_id": 1, "x": [' + (value + b",") * 600_000 + b"1]}")
        assert client.status == 413
        assert "values" in answer["message"]


async def test_a_bomb_is_413_and_broken_compression_400(opened: Opener) -> None:
    client = await opened(limits=Limits(body_bytes=100_000))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    body = gzip.compress(b'{"project_id": 1, "prompt": "red"}')
    await client.raw("/search", body, headers=headers)
    assert client.status == 200
    await client.raw("/search", BOMB, headers=headers)
    assert client.status == 413
    await client.raw("/search", b"no gzip at all", headers=headers)
    assert client.status == 400


async def test_the_envelope_and_the_flat_form_mean_the_same(client: Client) -> None:
    flat = await client.post("/search", {"project_id": CATS, "prompt": "red"})
    envelope = {
        "state": {"project_id": CATS, "prompt": "red"},
        "context": {},
        "api_token": "anything",
        "server_address": "http://192.0.2.9",
    }
    assert await client.post("/search", envelope) == flat


@pytest.mark.parametrize("project", [CATS, "1", "cats", " cats "])
async def test_a_project_is_named_by_number_digits_or_name(client: Client, project: object) -> None:
    await client.post("/search", {"project_id": project, "prompt": "red"})
    assert client.status == 200


async def test_fields_nobody_knows_do_no_harm(client: Client) -> None:
    await client.post("/search", {"project_id": CATS, "prompt": "red", "objects": {"deep": [1]}})
    assert client.status == 200


@pytest.mark.parametrize(
    "query", ["project_id=", "limit=0", "limit=x", "limit=-1", "limit=1.5", "limit=99999"]
)
async def test_a_wrong_query_string_is_400_and_named(client: Client, query: str) -> None:
    answer = await client.get(f"/quarantine?{query}")
    assert client.status == 400
    assert answer["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/stop-embeddings-update/" + "x" * 300, "/stop-embeddings-update/%00"])
async def test_a_wrong_path_is_400(client: Client, world: World, path: str) -> None:
    await client.post(path)
    assert client.status == 400
