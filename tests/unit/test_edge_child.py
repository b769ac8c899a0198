"""What the store's process does to its shards between two messages; no process is needed for it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from state.stores.edge_child import WORN_AFTER, Shards
from state.stores.edge_wire import FIELDS, unpack

DIMENSION = 8


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Shards]:
    shards = Shards({"c": (str(tmp_path / "shard"), DIMENSION)})
    yield shards
    shards.close()


def asked(shards: Shards, operation: str, *arguments: object, body: bytes = b"") -> object:
    (problem, result), _ = unpack(memoryview(shards.answer(operation, "c", arguments, memoryview(body))))
    assert problem is None
    return result


def write(shards: Shards, ids: range, content: str) -> None:
    rows = [[image_id, *(content if field == "content" else 1 for field in FIELDS)] for image_id in ids]
    asked(shards, "upsert", rows, body=np.ones((len(ids), DIMENSION), np.float32).tobytes())


def segments(shard: Path) -> set[str]:
    return {one.name for one in (shard / "segments").iterdir()}


def test_one_overwritten_again_and_again_is_worn(shards: Shards) -> None:
    for turn in range(WORN_AFTER // 500):
        assert not shards.worn
        write(shards, range(500), f"content-{turn}")
    assert shards.worn


def test_one_that_only_grew_is_not_worn(shards: Shards) -> None:
    for start in range(0, 2 * WORN_AFTER, 500):
        write(shards, range(start, start + 500), "content")
    assert not shards.worn


def test_the_room_of_removed_points_is_free_when_it_is_opened_again(tmp_path: Path) -> None:
    first = Shards({"c": (str(tmp_path / "shard"), DIMENSION)})
    for start in range(0, 4000, 500):
        write(first, range(start, start + 500), "content")
    assert asked(first, "remove", 1, body=np.arange(3900, dtype=np.int64).tobytes()) == 3900
    first.close()
    before = segments(tmp_path / "shard")
    again = Shards(first.places)
    assert segments(tmp_path / "shard").isdisjoint(before)
    rows = asked(again, "scroll", 1, 0, 200)
    assert isinstance(rows, list)
    assert [row[0] for row in rows] == list(range(3900, 4000))
    again.close()


def test_after_a_failed_request_the_next_is_answered(shards: Shards) -> None:
    (problem, _), _ = unpack(memoryview(shards.answer("scroll", "unknown", (1, 0, 10), memoryview(b""))))
    assert "unknown" in str(problem)
    write(shards, range(3), "content")
    assert asked(shards, "projects") == [[1, 3]]
