"""Reading a body: both its forms, strictly, and the caller's token out of it.

A body is flat (``{"project_id": 1}``) or the SDK's envelope (``{"state": {…}, "context": {"apiToken": …},
"api_token": …}``); both mean the same. ``null`` counts as absent. ``server_address`` is never looked
at: whoever sends it would choose who vouches for them.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson
from aiohttp import web

from handlers.errors import BadRequest

EXPLAINED_BYTES = 65_536
"""Broken bodies up to this size are read a second time to name the field at fault."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request asks, whichever form it came in.

    :param camel: whether its fields are spelled in camelCase, and so should the answer's be
    """

    fields: Mapping[str, object]
    token: str | None = field(default=None, repr=False)
    camel: bool = False


async def read_body(request: web.Request, most_values: int) -> Body:
    """Read and unwrap a body; an empty one asks for nothing in particular.

    :param most_values: about how many values it may hold; millions of empty objects fit into a body
        of allowed size, and parsing them would hold up everybody for a second
    :raises BadRequest: when it is no JSON object, holds too much, or its wrapping is wrong
    """
    try:
        raw = await request.read()
    except (web.RequestPayloadError, ConnectionError):
        raise BadRequest("body", "is broken off, or its encoding is broken") from None
    if sum(map(raw.count, (b",", b"[", b"{"))) > most_values:
        raise BadRequest("body", f"holds more than {most_values} values", 413)
    return unwrap(_parse(raw)) if raw.strip() else Body({})


def unwrap(body: Mapping[str, object]) -> Body:
    """Tell the fields from the wrapping.

    :raises BadRequest: when ``state`` or ``context`` is no object, or a token is no text
    """
    context = _part(body, "context", dict) or {}
    token = _part(body, "api_token", str) or _part(context, "apiToken", str)
    fields = _part(body, "state", dict)
    present = {name: value for name, value in (fields or body).items() if value is not None}
    return Body(present, token or None, any(name != name.lower() for name in present))


def _part(body: Mapping[str, object], name: str, kind: type[Any]) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadRequest(name, "must be an object" if kind is dict else "must be a text")
    return value


def _parse(raw: bytes) -> dict[str, object]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _explain(raw, error)
    if not isinstance(body, dict):
        raise BadRequest("body", "must be a JSON object")
    return body


def _explain(raw: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    """Say what is wrong with a body: NaN and the like by field, everything else by position."""
    if len(raw) <= EXPLAINED_BYTES:
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(raw, object_pairs_hook=_refuse_not_finite)
    raise BadRequest("body", f"is not valid JSON: {error}") from None


def _refuse_not_finite(pairs: list[tuple[str, object]]) -> dict[str, object]:
    for name, value in pairs:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise BadRequest(name, "must be a finite number")
    return dict(pairs)
