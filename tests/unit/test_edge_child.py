"""What the store's process does to its shards between two messages; no process is needed for it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from state.stores import edge_child
from state.stores.edge_child import Shards
from state.stores.edge_wire import FIELDS, unpack

DIMENSION = 8


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shards]:
    monkeypatch.setattr(edge_child, "RELOAD_AFTER", 20)
    shards = Shards()
    asked(shards, "open", str(tmp_path / "shard"), DIMENSION)
    yield shards
    shards.close()


@pytest.fixture
def loads(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which shards were loaded, since the first."""
    loaded: list[Path] = []
    load = edge_child.open_shard

    def recorded(directory: Path, dimension: int) -> edge_child.Shard:
        loaded.append(directory)
        return load(directory, dimension)

    monkeypatch.setattr(edge_child, "open_shard", recorded)
    return loaded


def asked(shards: Shards, operation: str, *arguments: object, body: bytes = b"") -> object:
    (problem, result), _ = unpack(memoryview(shards.answer(operation, "c", arguments, memoryview(body))))
    assert problem is None
    return result


def write(shards: Shards, ids: range, content: str) -> None:
    rows = [[image_id, *(content if field == "content" else 1 for field in FIELDS)] for image_id in ids]
    asked(shards, "upsert", rows, body=np.ones((len(ids), DIMENSION), np.float32).tobytes())


def test_a_shard_overwritten_again_and_again_is_loaded_anew_and_keeps_all(
    shards: Shards, loads: list[Path]
) -> None:
    for turn in range(5):
        write(shards, range(5), f"content-{turn}")
        shards.flush()
    assert len(loads) == 1
    assert asked(shards, "projects") == [[1, 5]]
    rows = asked(shards, "scroll", 1, 0, 10)
    assert isinstance(rows, list)
    assert {row[1 + FIELDS.index("content")] for row in rows} == {"content-4"}


def test_a_shard_that_only_grows_is_not_loaded_anew(shards: Shards, loads: list[Path]) -> None:
    for start in range(0, 100, 10):
        write(shards, range(start, start + 10), "content")
        shards.flush()
    assert loads == []


def test_after_a_failed_request_the_next_is_answered(shards: Shards) -> None:
    (problem, _), _ = unpack(memoryview(shards.answer("scroll", "unknown", (1, 0, 10), memoryview(b""))))
    assert "unknown" in str(problem)
    write(shards, range(3), "content")
    assert asked(shards, "projects") == [[1, 3]]
