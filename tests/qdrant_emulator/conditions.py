"""Filters as the server takes them, turned into the engine's own."""

from __future__ import annotations

from typing import Any

from qdrant_edge import FieldCondition, Filter, HasIdCondition, MatchAny, MatchValue, RangeFloat

Json = dict[str, Any]


class Unknown(ValueError):
    """A condition the emulator does not know, because the store never asks it."""


def condition_of(condition: Json) -> FieldCondition | HasIdCondition | Filter:
    if "has_id" in condition:
        return HasIdCondition(set(condition["has_id"]))
    if "value" in (match := condition.get("match") or {}):
        return FieldCondition(condition["key"], match=MatchValue(match["value"]))
    if "any" in match:
        return FieldCondition(condition["key"], match=MatchAny(match["any"]))
    if limits := condition.get("range"):
        return FieldCondition(condition["key"], range=RangeFloat(**limits))
    raise Unknown(f"{condition} is no condition")


def filter_of(found: Json | None) -> Filter | None:
    if not found:
        return None
    return Filter(**{kind: [condition_of(one) for one in some] for kind, some in found.items() if some})
