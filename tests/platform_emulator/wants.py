"""What a request must bring along."""

from __future__ import annotations

from typing import Any

from .listing import Body
from .model import Refused


def identifier(body: Body, name: str) -> int:
    """Return an id of a body.

    :raises Refused: when it is missing or no number
    """
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(400, "Validation failed", message=f"{name} must be a number")
    return value


def identifiers(body: Body, name: str) -> list[int]:
    values = body.get(name)
    if not isinstance(values, list):
        raise Refused(400, "Validation failed", message=f"{name} must be a list")
    return [identifier({name: value}, name) for value in values]


def text(body: Body, name: str) -> str:
    value: Any = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, "Validation failed", message=f"{name} must be a text")
    return value


def flag(body: Body, name: str) -> bool:
    return bool(body.get(name))
