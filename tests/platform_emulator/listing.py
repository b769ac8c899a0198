"""Filters, sorting and pages, as every ``….list`` of the platform has them."""

from __future__ import annotations

import base64
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Generic, TypeVar

from . import clock
from .model import Image, Refused
from .tables import Rules, scattered

Row = TypeVar("Row")
Body = Mapping[str, Any]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "in": lambda value, wanted: value in wanted,
    "!in": lambda value, wanted: value not in wanted,
    ">": lambda value, bound: value is not None and value > bound,
    ">=": lambda value, bound: value is not None and value >= bound,
    "<": lambda value, bound: value is not None and value < bound,
    "<=": lambda value, bound: value is not None and value <= bound,
}
_SPELLINGS = {"eq": "=", "not": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _date(value: Any) -> int:
    return clock.read(value)


@dataclass(frozen=True)
class Field(Generic[Row]):
    """A field that can be filtered and sorted by: how to read it, and how to read a filter's value."""

    get: Callable[[Row], Any]
    parse: Callable[[Any], Any] = lambda value: value


def number(name: str) -> Field[Any]:
    return Field(operator.attrgetter(name), int)


def date(name: str) -> Field[Any]:
    return Field(operator.attrgetter(name), _date)


def plain(name: str) -> Field[Any]:
    return Field(operator.attrgetter(name))


@dataclass(frozen=True)
class Condition:
    field: str
    operator: str
    value: Any


Fields = Mapping[str, Field[Any]]


def conditions(body: Body, fields: Fields) -> list[Condition]:
    """Read a body's `filter`.

    :raises Refused: when a field or an operator is unknown, or a value means nothing
    """
    found = []
    for one in body.get("filter") or []:
        name, spelled, value = one.get("field"), one.get("operator", "="), one.get("value")
        sign = _SPELLINGS.get(spelled, spelled)
        if name not in fields or sign not in _OPERATORS:
            raise Refused(400, "Validation failed", message=f"cannot filter by {name} {spelled}")
        parse = fields[name].parse
        try:
            if sign in {"in", "!in"}:
                value = {parse(item) for item in value}
            elif value is not None:
                value = parse(value)
        except (TypeError, ValueError) as error:
            raise Refused(400, "Validation failed", message=f"bad value for {name}") from error
        found.append(Condition(name, sign, value))
    return found


def matching(rows: Sequence[Row], wanted: Iterable[Condition], fields: Fields) -> Sequence[Row]:
    """Return the rows that meet every condition."""
    for one in wanted:
        get, holds, value = fields[one.field].get, _OPERATORS[one.operator], one.value
        rows = [row for row in rows if holds(get(row), value)]
    return rows


def narrowed(images: Sequence[Image], wanted: Iterable[Condition]) -> tuple[Sequence[Image], list[Condition]]:
    """Meet the conditions on the id by bisection of `images`, which are in order of id; return the rest."""
    low, high, rest = 0, len(images), []
    for one in wanted:
        if one.field == "id" and one.operator in {">", ">=", "<", "<=", "="}:
            below = bisect_left(images, one.value, key=operator.attrgetter("id"))
            beyond = bisect_right(images, one.value, key=operator.attrgetter("id"))
            low = max(low, {">": beyond, ">=": below, "=": below}.get(one.operator, 0))
            high = min(high, {"<": below, "<=": beyond, "=": beyond}.get(one.operator, high))
        else:
            rest.append(one)
    return (images if (low, high) == (0, len(images)) else images[low:high]), rest


def ordered(rows: Sequence[Row], body: Body, fields: Fields, already: str = "") -> Sequence[Row]:
    """Sort rows as a body wants it; nothing first. They are in order of `already`."""
    name, descending = body.get("sort") or already, body.get("sort_order") == "desc"
    if name == already and not descending:
        return rows
    if name not in fields:
        raise Refused(400, "Validation failed", message=f"cannot sort by {name}")
    get = fields[name].get
    return sorted(rows, key=lambda row: (get(row) is not None, get(row)), reverse=descending)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """What one call of a listing answers; `after` leads on in token mode."""

    rows: Sequence[Row]
    total: int
    per_page: int
    after: str | None = None

    def answer(self, shown: Callable[[Row], dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "total": self.total,
            "perPage": self.per_page,
            "pagesCount": max(1, ceil(self.total / self.per_page)),
            "entities": [shown(row) for row in self.rows],
            **more,
        }


def _per_page(body: Body, rules: Rules) -> int:
    return max(1, min(int(body.get("per_page") or rules.per_page), rules.max_per_page))


def numbered_page(rows: Sequence[Row], body: Body, rules: Rules) -> Page[Row]:
    """Cut the page out that the body asks for by number."""
    per_page = _per_page(body, rules)
    start = (max(1, int(body.get("page") or 1)) - 1) * per_page
    return Page(rows[start : start + per_page], len(rows), per_page)


def page_after(images: Sequence[Image], body: Body, rules: Rules) -> Page[Image]:
    """Cut the page out that follows the body's opaque `after`; `images` are scattered."""
    per_page, start = _per_page(body, rules), 0
    if body.get("after") is not None:
        try:
            last = int(base64.urlsafe_b64decode(str(body["after"])))
        except ValueError as error:
            raise Refused(400, "Validation failed", message="unknown token in after") from error
        start = bisect_right(images, last, key=scattered)
    rows = images[start : start + per_page]
    more = start + per_page < len(images)
    after = base64.urlsafe_b64encode(str(scattered(rows[-1])).encode()).decode() if more else None
    return Page(rows, len(images), per_page, after)
