"""The parts of the embedded store that need no process."""

from pathlib import Path

import numpy as np
import pytest

from state.model import Within
from state.stores import edge_shard
from state.stores.edge import free_space_floor
from state.stores.edge_wire import chunks, pack, scope, unpack

GIB = 1 << 30


@pytest.mark.parametrize(("total", "floor"), [(2 * GIB, GIB), (40 * GIB, 2 * GIB), (1000 * GIB, 5 * GIB)])
def test_the_space_to_keep_free_grows_with_the_disk_within_bounds(total: int, floor: int) -> None:
    assert free_space_floor(total) == floor


def test_of_a_failed_batch_nothing_stays(tmp_path: Path) -> None:
    shard = edge_shard.open_shard(tmp_path / "shard", 8)
    rows = [[image_id, 1, 2, "", "", "", "", "", 0] for image_id in range(4)]
    wrong = memoryview(np.ones((4, 9), np.float32).tobytes())
    with pytest.raises(Exception, match="dimension"):
        edge_shard.upsert(shard, wrong, rows)
    assert edge_shard.projects(shard, memoryview(b"")) == ([], b"")
    shard.close()


def test_a_shard_keeps_what_it_was_made_with_when_loaded_again(tmp_path: Path) -> None:
    edge_shard.open_shard(tmp_path / "shard", 8).close()
    shard = edge_shard.open_shard(tmp_path / "shard", 8)
    assert set(shard.info().payload_schema) == {"project_id", "dataset_id", "content"}
    shard.close()


def test_a_frame_returns_head_and_body() -> None:
    head, body = unpack(memoryview(pack(("op", 1, None), b"raw")))
    assert head == ["op", 1, None]
    assert bytes(body) == b"raw"


def test_ids_travel_sorted_unique_and_only_if_a_point_may_have_them() -> None:
    parts = [np.frombuffer(part, np.int64).tolist() for part in chunks([5, 2**80, -3, 1, 5, 9], 2)]
    assert parts == [[1, 5], [9]]


def test_left_out_ids_are_taken_from_those_to_keep() -> None:
    narrowed, ids = scope(Within(1, dataset_id=2, ids=frozenset([1, 2, 3]), exclude=frozenset([2])))
    assert narrowed == (1, 2, True)
    assert np.frombuffer(ids, np.int64).tolist() == [1, 3]
