"""The table: every fault on every service, and which rows are tried in every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pytest
from fault_proxy import Fault

SORRY = b'{"detail": "on command"}'
PAGE = b"<!DOCTYPE html><html><body><h1>Bad Gateway</h1><hr>nginx</body></html>"

EVERYWHERE: Mapping[str, Fault] = MappingProxyType(
    {
        "down": Fault("refuse"),
        "closed at once": Fault("close"),
        "silent": Fault("slow"),
        "dribbling": Fault("dribble"),
        "reset amid an answer": Fault("reset"),
        "cut amid an answer": Fault("cut"),
        "half an answer as if whole": Fault("truncate"),
        "answer lost after the work": Fault("lose"),
        "500": Fault("answer", 500, body=SORRY),
        "503": Fault("answer", 503, body=SORRY),
        "503 for a second": Fault("answer", 503, 1, SORRY),
        "429": Fault("answer", 429, 1, SORRY),
        "401": Fault("answer", 401, body=SORRY),
        "403": Fault("answer", 403, body=SORRY),
        "page with 200": Fault("answer", 200, body=PAGE, content_type="text/html"),
        "page with 502": Fault("answer", 502, body=PAGE, content_type="text/html"),
        "empty 200": Fault("answer", 200),
        "another object": Fault("answer", 200, body=b'{"unexpected": [1]}'),
        "a list": Fault("answer", 200, body=b"[]"),
        "null": Fault("answer", 200, body=b"null"),
    }
)
"""What can happen to the answers of any service."""

THEIRS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "source": {"listings that end early": "early_end", "empty listings": "empty"},
        "clip": {
            "NaN": "nan",
            "a zero vector": "zero",
            "a null embedding": "null",
            "an empty embedding": "empty",
            "another dimension": "dimension",
            "too few": "missing",
            "an id twice": "doubled",
            "an unknown id": "unknown",
            "shuffled ids": "shuffled",
            "an executor's error": "error",
        },
        "qdrant": {"writes only heard": "acknowledged", "a full disk": "status"},
    }
)
"""What a service does wrong by itself, and how its emulator calls that."""

ANSWERED_IN_ITS_STEAD = frozenset(
    f"{name}{often}" for name in ("another object", "a list", "null") for often in ("", ", each third time")
)
"""Rows in which somebody else says to a write, as the platform would, that all is well: it is believed."""

ANOTHER_MODEL = "clip: another dimension"
"""The row whose fault is a new model, to which a changed image waits to be given."""

ALWAYS_TRIED = frozenset(
    {
        "source: listings that end early",
        "source: half an answer as if whole",
        "source: a list",
        "clip: down",
        "clip: a zero vector",
        "qdrant: answer lost after the work",
    }
)
"""The rest takes minutes."""

THIRD = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A fault on a service."""

    service: str
    name: str
    fault: Fault


def stubborn() -> list[Any]:
    """Return, for each service, a row whose every failure is final: no client tries again by itself."""
    return [
        pytest.param(Row("qdrant", "500", EVERYWHERE["500"]), id="qdrant"),
        *(
            pytest.param(
                Row(service, "503", EVERYWHERE["503 for a second"]), id=service, marks=pytest.mark.nightly
            )
            for service in ("source", "clip")
        ),
    ]


def rows() -> list[Any]:
    """Return every row as a parameter of a test."""
    return [
        pytest.param(row, id=_name(row), marks=() if _name(row) in ALWAYS_TRIED else pytest.mark.nightly)
        for row in _rows()
    ]


def _name(row: Row) -> str:
    return f"{row.service}: {row.name}"


def _rows() -> Iterator[Row]:
    for service, theirs in THEIRS.items():
        for name, kind in theirs.items():
            yield Row(service, name, Fault("theirs", theirs=kind))
        for name, fault in EVERYWHERE.items():
            yield Row(service, name, fault)
            if fault.kind != "refuse":
                yield Row(service, f"{name}, each third time", replace(fault, every=THIRD))
