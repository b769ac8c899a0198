"""``/openapi.json``, made from the table of routes and the models of requests and answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from handlers.answers import Failure
from handlers.auth import Reach
from handlers.parts import Limits
from handlers.routes import Route

Schema = dict[str, Any]

REFUSALS = {
    400: "A field, or the body, is wrong: `errors` names it",
    401: "No token, or an unknown one",
    403: "The plan does not include it",
    404: "There is no such project, it is not yours to see, or it has no embeddings yet",
    408: "The body did not arrive in time",
    413: "The body is too large",
    422: "Well formed, but it can never work",
    429: "Too much is going on, or you ask too often: see `Retry-After`",
    500: "Our own fault: report the request id",
    503: "A service is away, or this takes too long: see `Retry-After`",
}

BOUNDS = {"array": "maxItems", "string": "maxLength", "integer": "maximum"}

TEXT_OR_NULL: Schema = {"type": ["string", "null"]}

WRAPPING: Schema = {
    "context": {"type": ["object", "null"], "properties": {"apiToken": TEXT_OR_NULL}},
    "api_token": TEXT_OR_NULL,
    "server_address": {"description": "Ignored."},
}


def describe(routes: Sequence[Route], limits: Limits, version: str) -> Schema:
    """Return the description of the API, OpenAPI 3.1."""
    schemas, components = _schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, components)
    description: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "embedsync",
            "version": version,
            "description": "Every POST takes its fields flat, or in the SDK's envelope under `state`;"
            " camelCase is understood. `null` counts as absent.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }
    _fill_in(description, limits)
    return description


def _schemas(routes: Sequence[Route]) -> tuple[Mapping[str, Schema], dict[str, Schema]]:
    """Return the schema of each type, by :func:`_key`, and the models they refer to, by name."""
    types = [
        Failure,
        *(kind for route in routes for kind in (route.takes, route.answers) if kind is not None),
    ]
    mode: JsonSchemaMode = "validation"
    found, definitions = TypeAdapter.json_schemas(
        [(key, mode, TypeAdapter(kind)) for key, kind in {_key(kind): kind for kind in types}.items()],
        ref_template="#/components/schemas/{model}",
    )
    return {key: schema for (key, _), schema in found.items()}, dict(definitions.get("$defs", {}))


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(route: Route, schemas: Mapping[str, Schema], components: Mapping[str, Schema]) -> Schema:
    in_path = re.findall(r"{(\w+)}", route.path)
    fields = components.get(route.takes.__name__, {}).get("properties", {})
    required = components.get(route.takes.__name__, {}).get("required", [])
    operation: Schema = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
        "security": [] if route.reach is Reach.ANYONE else [{"bearer": []}, {"key": []}, {}],
        "responses": _responses(route, schemas),
    }
    if in_path or route.method == "GET":
        operation["parameters"] = [
            {
                "name": name,
                "in": "path" if name in in_path else "query",
                "required": name in required,
                "schema": schema,
            }
            for name, schema in fields.items()
        ]
    elif fields:
        operation["requestBody"] = {
            "required": bool(required),
            "content": {"application/json": {"schema": _either_form(schemas[_key(route.takes)])}},
        }
    return operation


def _either_form(fields: Schema) -> Schema:
    envelope = {"type": "object", "properties": {"state": fields, **WRAPPING}, "required": ["state"]}
    return {"anyOf": [fields, envelope]}


def _responses(route: Route, schemas: Mapping[str, Schema]) -> Schema:
    if route.answers is None:
        content: Schema = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": schemas[_key(route.answers)]}}
    probe = route.reach is Reach.ANYONE
    refusal = {"application/json": {"schema": schemas[_key(Failure)]}}
    refusals = {code: meaning for code, meaning in REFUSALS.items() if not probe or code in (500, 503)}
    answer = {"description": "The answer", "content": content}
    return {
        str(route.success): answer,
        **{
            str(code): {"description": meaning, "content": content if code in route.also else refusal}
            for code, meaning in refusals.items()
        },
    }


def _fill_in(schema: Any, limits: Limits) -> None:
    """Replace the marks of :class:`~handlers.fields.AtMost` by the limits they stand for."""
    if isinstance(schema, dict):
        _bound(schema, limits)
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            _fill_in(part, limits)


def _bound(schema: Schema, limits: Limits) -> None:
    name = schema.pop("x-limit", None)
    if name is not None:
        # A number may also come as a text of digits; the limit is the number's.
        either = (each for each in schema.get("anyOf", ()) if each.get("type") == "integer")
        bounded = schema if "type" in schema else next(either, schema)
        if (bound := BOUNDS.get(bounded.get("type", ""))) is not None:
            bounded[bound] = getattr(limits, name)
