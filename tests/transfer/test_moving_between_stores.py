"""Out of one store and into another of any kind: the same vectors, the same answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfer_stores import ENCODER, OTHER, Opener, Stumbling, all_in, fill, found

from daemon.transfer.exporting import export_points
from daemon.transfer.importing import import_points
from daemon.transfer.manifest import load
from state.model import Hit
from state.stores.memory import MemoryStore

DOCUMENT = Path(__file__).parents[2] / "docs" / "backup.md"
SMALL = 4 * ENCODER.dimension * 25
"""Bytes of a shard of 25 vectors."""

BY_GRPC = pytest.param("server by gRPC", marks=pytest.mark.nightly)
KINDS = ("memory", "embedded", "server", BY_GRPC)


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_store_it_goes_into_all_is_there(
    open_store: Opener, source: Stumbling, directory: Path, kind: str
) -> None:
    await export_points(source, directory, shard_bytes=SMALL)
    target = await open_store(kind)
    imported = await import_points(target, directory)
    assert (imported.points, imported.written, imported.kept) == (157, 157, 0)
    for collection in (ENCODER.id, OTHER):
        before, after = await all_in(source, collection), await all_in(target, collection)
        assert [(one.image.id, one.image.content, one.image.name) for one in before] == [
            (one.image.id, one.image.content, one.image.name) for one in after
        ]
        for one, other in zip(before, after, strict=True):
            np.testing.assert_allclose(other.vector, one.vector, rtol=2**-9, atol=1e-6)
    assert await target.pointers() == {1: ENCODER.id, 2: ENCODER.id}
    assert await target.pinned() == ENCODER.id
    again = await import_points(target, directory)
    assert (again.points, again.written, again.kept) == (157, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_store_it_comes_from_the_export_holds_it_to_the_bit(
    open_store: Opener, directory: Path, kind: str
) -> None:
    store = await open_store(kind)
    await fill(store)
    manifest = await export_points(store, directory, shard_bytes=SMALL)
    again = MemoryStore()
    imported = await import_points(again, directory)
    assert imported.exact
    assert manifest.points == 157
    for one, other in zip(await all_in(store), await all_in(again), strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)


def answers(hits: list[list[Hit]]) -> list[list[tuple[int, float]]]:
    return [[(hit.image.id, hit.score) for hit in row] for row in hits]


@pytest.mark.parametrize("by", ["server", BY_GRPC])
async def test_from_embedded_to_a_server_and_back_every_search_answers_the_same(
    open_store: Opener, tmp_path: Path, by: str
) -> None:
    first, server, second = [await open_store(kind) for kind in ("embedded", by, "embedded")]
    await fill(first)
    await export_points(first, tmp_path / "there")
    await import_points(server, tmp_path / "there")
    on_server = answers(await found(server))
    await export_points(server, tmp_path / "back")
    await import_points(second, tmp_path / "back")
    before, after = answers(await found(first)), answers(await found(second))
    assert before == after
    for here, there in zip(before, on_server, strict=True):
        scores, others = dict(here), dict(there)
        common = scores.keys() & others.keys()
        assert len(common) >= 28
        assert max(abs(scores[image] - others[image]) for image in common) < 5e-4


async def test_after_a_journey_of_any_length_the_digest_is_the_same(
    open_store: Opener, tmp_path: Path
) -> None:
    store = await open_store("embedded")
    await fill(store)
    digests = []
    for number, kind in enumerate(["server", "embedded", "server", "embedded", "embedded"]):
        directory = tmp_path / str(number)
        digests.append((await export_points(store, directory)).digest)
        store = await open_store(kind)
        await import_points(store, directory)
    embedded = [digests[0], digests[2], digests[4]]
    assert len(set(embedded)) == 1


async def test_what_nobody_vouched_for_is_not_vouched_for_after_the_journey(
    source: Stumbling, directory: Path
) -> None:
    await export_points(source, directory)
    target = MemoryStore()
    await import_points(target, directory)
    assert await target.withdraw(ENCODER.id) == 30
    assert await target.projects(ENCODER.id) == {1: 120}
    assert await target.withdraw(OTHER) == 0


async def test_a_project_can_travel_alone(source: Stumbling, tmp_path: Path) -> None:
    await export_points(source, tmp_path / "one", project_id=2)
    await export_points(source, tmp_path / "all")
    for directory, wanted in ((tmp_path / "one", None), (tmp_path / "all", 2)):
        target = MemoryStore()
        assert (await import_points(target, directory, wanted)).points == 30
        assert await target.projects(ENCODER.id) == {2: 30}
        assert await target.pointers() == {2: ENCODER.id}
        assert await target.pinned() is None


async def test_numpy_reads_an_export_in_the_five_lines_of_the_document(
    source: Stumbling, directory: Path
) -> None:
    await export_points(source, directory, shard_bytes=SMALL)
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    seen: dict[str, Any] = {}
    exec(code.replace("/backup/today", str(directory)), seen)
    assert len([line for line in code.splitlines() if line]) == 5
    assert len(seen["shards"]) == len(load(directory).shards)
    assert sum(len(one) for one in seen["vectors"]) == 157
    assert [len(one) for one in seen["payloads"]] == [len(one) for one in seen["vectors"]]
    assert set(seen["payloads"][0][0]) >= {"id", "project_id", "content", "name"}
