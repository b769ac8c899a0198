from __future__ import annotations

import re
from collections.abc import Iterator

from http_world import Client, Opener

from handlers.parts import Limits
from handlers.routes import ROUTES


async def test_every_route_is_described_with_its_fields_and_refusals(client: Client) -> None:
    paths = (await client.get("/openapi.json"))["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == {
        (route.method, route.path) for route in ROUTES
    }
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        assert operation["summary"]
        assert str(route.success) in operation["responses"]
        text = str(operation) + str(operation.get("requestBody"))
        if route.takes.model_fields:
            assert "schema" in text


async def test_every_reference_resolves_and_every_operation_has_its_own_name(client: Client) -> None:
    schema = await client.get("/openapi.json")
    assert schema["openapi"] == "3.1.0"
    for reference in references(schema):
        name = re.fullmatch(r"#/components/schemas/(.+)", reference)
        assert name is not None
        assert name.group(1) in schema["components"]["schemas"]
    names = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


async def test_limits_stand_in_the_schema_as_they_are_set(opened: Opener) -> None:
    client = await opened(limits=Limits(search_limit=123, ids=45, prompts=6))
    schema = await client.get("/openapi.json")
    fields = schema["components"]["schemas"]["SearchRequest"]["properties"]
    assert "x-limit" not in str(schema)
    assert "'maximum': 123" in str(fields["limit"])
    assert "'maxItems': 45" in str(fields["by_image_ids"])
    assert "'maxItems': 6" in str(fields["prompt"])


async def test_the_sdks_envelope_is_described_beside_the_flat_form(client: Client) -> None:
    paths = (await client.get("/openapi.json"))["paths"]
    flat, envelope = paths["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert envelope["properties"]["state"] == flat
    assert {"context", "api_token"} <= envelope["properties"].keys()


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)
