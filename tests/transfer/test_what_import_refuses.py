"""What an import refuses, and what it leaves as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transfer_stores import ENCODER, OTHER, Stumbling, all_in, points, unit_vectors

from daemon.transfer.exporting import export_points
from daemon.transfer.importing import import_points
from state.errors import EmbedsyncError, Inconsistent, Rejected
from state.model import Embedding, EncoderRecord
from state.stores.memory import MemoryStore

SMALL = 4 * ENCODER.dimension * 25


@pytest.fixture
async def export(source: Stumbling, directory: Path) -> Path:
    await export_points(source, directory, shard_bytes=SMALL)
    return directory


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def swapped(path: Path) -> None:
    other = max(path.parent.glob(f"*{path.suffix}"))
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


async def refusal(directory: Path, target: MemoryStore | None = None) -> EmbedsyncError:
    with pytest.raises(EmbedsyncError) as refused:
        await import_points(target or MemoryStore(), directory)
    return refused.value


@pytest.mark.parametrize("suffix", ["npy", "jsonl"])
@pytest.mark.parametrize("spoil", [cut_short, altered, swapped, Path.unlink])
async def test_a_file_that_is_not_as_it_was_written_keeps_all_of_it_out(
    export: Path, suffix: str, spoil: Callable[[Path], None]
) -> None:
    spoil(min(export.glob(f"points/test-*/1-*2.{suffix}")))
    target = MemoryStore()
    assert isinstance(await refusal(export, target), Rejected)
    assert await target.encoders() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"embedsync export"', '"another export"'),
        ('"version":1', '"version":2'),
        ('"points":157', '"points":"many"'),
        ("points/test-64-1/1-000000.npy", "../../etc/passwd"),
        ('"id":"test-64-1"', '"id":"test-64-2"'),
        ('"dimension":64', '"dimension":63'),
    ],
)
async def test_a_manifest_that_does_not_add_up_is_refused(export: Path, before: str, after: str) -> None:
    path = export / "manifest.json"
    text = path.read_text().replace('": ', '":')
    assert before in text
    path.write_text(text.replace(before, after))
    assert isinstance(await refusal(export), Rejected)


async def test_half_a_manifest_is_refused(export: Path) -> None:
    cut_short(export / "manifest.json")
    assert "is no manifest" in str(await refusal(export))


async def test_a_shard_taken_out_of_the_manifest_is_missed(export: Path) -> None:
    path = export / "manifest.json"
    head, _, _ = path.read_text().rpartition('{\n   "encoder"')
    path.write_text(head.rstrip().rstrip(",") + '], "format": "embedsync export", "version": 1}')
    assert "altered" in str(await refusal(export))


async def test_nothing_is_imported_among_the_vectors_of_another_model(export: Path) -> None:
    target = MemoryStore()
    canaries = ENCODER.canaries.copy()
    canaries[3] = unit_vectors(1, 1)[0]
    await target.add_encoder(replace(ENCODER, canaries=canaries))
    problem = await refusal(export, target)
    assert isinstance(problem, Inconsistent)
    assert "other canaries" in str(problem)
    assert [one.id for one in await target.encoders()] == [ENCODER.id]
    assert await target.projects(ENCODER.id) == {}


async def test_an_encoder_is_known_by_its_canaries_whatever_it_is_called(export: Path) -> None:
    target = MemoryStore()
    await target.add_encoder(EncoderRecord("test-64-7", "test", 64, ENCODER.canaries + np.float32(1e-5)))
    await import_points(target, export)
    assert {one.id for one in await target.encoders()} == {"test-64-7", OTHER}
    assert await target.projects("test-64-7") == {1: 120, 2: 30}
    assert await target.pointers() == {1: "test-64-7", 2: "test-64-7"}
    assert await target.pinned() == "test-64-7"


async def test_what_the_store_has_of_its_own_stays(export: Path) -> None:
    target = MemoryStore()
    await target.add_encoder(ENCODER)
    (own,) = points([5])
    own = Embedding(replace(own.image, content="newer bytes"), -own.vector)
    await target.upsert(ENCODER.id, [own])
    await target.add_encoder(EncoderRecord("mine", "mine", 8, unit_vectors(12, 1, 8)))
    await target.set_pointer(1, "mine")
    imported = await import_points(target, export)
    assert (imported.written, imported.kept) == (156, 1)
    assert (await target.embeddings(ENCODER.id, [5]))[0].image.content == "newer bytes"
    assert await target.pointers() == {1: "mine", 2: ENCODER.id}


class Forgetful(MemoryStore):
    """A store that does not keep what it was given."""

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        await super().upsert(collection, [replace(one, vector=np.roll(one.vector, 1)) for one in points])


async def test_a_store_that_does_not_hold_what_was_written_is_found_out(export: Path) -> None:
    target = Forgetful()
    assert isinstance(await refusal(export, target), Inconsistent)
    assert await target.pointers() == {}


class Losing(MemoryStore):
    """A store that loses some of what it was given."""

    async def upsert(self, collection: str, points: Sequence[Embedding]) -> None:
        await super().upsert(collection, points[:-1])


async def test_a_point_that_is_not_there_after_all_is_missed(export: Path) -> None:
    assert "6 of 7 points" in str(await refusal(export, Losing()))


async def test_there_is_nothing_to_export_from_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no vectors to export"):
        await export_points(MemoryStore(), tmp_path / "export")
    assert not (tmp_path / "export").exists()


async def test_a_project_that_the_export_lacks_is_said_so(export: Path) -> None:
    target = MemoryStore()
    with pytest.raises(Rejected, match="no vectors of project 77"):
        await import_points(target, export, project_id=77)
    assert await all_in(await _filled(export)) != []


async def _filled(export: Path) -> MemoryStore:
    target = MemoryStore()
    await import_points(target, export)
    return target
