"""Exports and imports that are interrupted, again and again, end as if they had not been."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from transfer_stores import ENCODER, Stumbling, all_in, points

from daemon.transfer import files
from daemon.transfer.exporting import export_points
from daemon.transfer.importing import import_points
from daemon.transfer.manifest import load
from state.errors import Rejected, Unavailable

SMALL = 4 * ENCODER.dimension * 25
SHARDS = 8
"""Of 25 points: five of project 1, two of project 2, and one of the other encoder's."""


def inodes(directory: Path) -> dict[str, int]:
    """Which file is which: one that is written anew is another."""
    return {str(path): path.stat().st_ino for path in directory.glob("points/*/*")}


async def test_an_export_that_is_interrupted_writes_no_shard_twice(
    source: Stumbling, directory: Path
) -> None:
    written: dict[str, int] = {}
    for _ in range(SHARDS):
        source.calls, source.most = 0, 1
        with pytest.raises(Unavailable):
            await export_points(source, directory, shard_bytes=SMALL)
        now = inodes(directory)
        assert len(now) == len(written) + 2
        assert written.items() <= now.items()
        written = now
        if len(written) == 2 * (SHARDS - 1):
            break
    source.most = None
    manifest = await export_points(source, directory, shard_bytes=SMALL)
    assert written.items() <= inodes(directory).items()
    assert len(manifest.shards) == SHARDS
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "points"]


async def test_without_its_manifest_an_export_is_none(source: Stumbling, directory: Path) -> None:
    source.calls, source.most = 0, 3
    with pytest.raises(Unavailable):
        await export_points(source, directory, shard_bytes=SMALL)
    with pytest.raises(Rejected, match="no finished export"):
        await import_points(Stumbling(), directory)


async def test_what_changed_since_an_export_was_interrupted_is_written_anew(
    source: Stumbling, directory: Path
) -> None:
    source.calls, source.most = 0, 7
    with pytest.raises(Unavailable):
        await export_points(source, directory, shard_bytes=SMALL)
    source.most = None
    await source.remove(ENCODER.id, 1, range(40, 121))
    await source.upsert(ENCODER.id, points(range(3, 4), 1, epoch=5))
    await export_points(source, directory, shard_bytes=SMALL)
    target = Stumbling()
    await import_points(target, directory)
    after = {one.image.id: one for one in await all_in(target)}
    assert after.keys() == {one.image.id for one in await all_in(source)}
    assert (after[3].vector == (await source.embeddings(ENCODER.id, [3]))[0].vector).all()
    assert {path.relative_to(directory).as_posix() for path in directory.glob("points/*/*")} == {
        file.file for shard in load(directory).shards for file in (shard.vectors, shard.payloads)
    }


async def test_it_goes_on_although_a_canary_vouched_for_more_meanwhile(
    source: Stumbling, directory: Path
) -> None:
    source.calls, source.most = 0, 7
    with pytest.raises(Unavailable):
        await export_points(source, directory, shard_bytes=SMALL)
    before = inodes(directory)
    source.most = None
    await source.confirm(ENCODER.id, 2)
    await export_points(source, directory, shard_bytes=SMALL)
    assert before.items() <= inodes(directory).items()
    target = Stumbling()
    await import_points(target, directory)
    assert await target.withdraw(ENCODER.id) == 0


async def test_a_shard_that_was_damaged_meanwhile_is_written_anew(source: Stumbling, directory: Path) -> None:
    source.calls, source.most = 0, 7
    with pytest.raises(Unavailable):
        await export_points(source, directory, shard_bytes=SMALL)
    source.most = None
    first = min(directory.glob("points/test-*/1-*.npy"))
    first.write_bytes(first.read_bytes()[:-4] + b"\0\0\0\0")
    await export_points(source, directory, shard_bytes=SMALL)
    assert (await import_points(Stumbling(), directory)).exact


async def test_a_line_of_the_progress_that_is_not_whole_costs_one_shard(
    source: Stumbling, directory: Path
) -> None:
    source.calls, source.most = 0, 5
    with pytest.raises(Unavailable):
        await export_points(source, directory, shard_bytes=SMALL)
    before = inodes(directory)
    progress = directory / "unfinished.jsonl"
    progress.write_bytes(progress.read_bytes()[:-20])
    source.most = None
    await export_points(source, directory, shard_bytes=SMALL)
    after = inodes(directory)
    assert len([name for name in before if before[name] != after[name]]) == 2


async def test_an_import_that_is_interrupted_writes_no_point_twice(
    source: Stumbling, directory: Path
) -> None:
    await export_points(source, directory, shard_bytes=SMALL)
    target, failures = Stumbling(), 0
    for most in range(4 * SHARDS):
        target.calls, target.most = 0, most
        try:
            imported = await import_points(target, directory)
            break
        except Unavailable:
            failures += 1
    assert failures > SHARDS
    assert target.written == 157
    assert (imported.points, imported.exact) == (157, True)
    target.most = None
    assert (await import_points(target, directory)).written == 0


async def test_a_full_disk_is_said_so_and_leaves_no_half_file(
    source: Stumbling, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 6

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(Unavailable, match="No space left on device"):
        await export_points(source, directory, shard_bytes=SMALL)
    monkeypatch.undo()
    await export_points(source, directory, shard_bytes=SMALL)
    assert list(directory.rglob("*.part")) == []
    assert (await import_points(Stumbling(), directory)).points == 157


async def test_a_finished_export_is_never_written_over(source: Stumbling, directory: Path) -> None:
    await export_points(source, directory)
    with pytest.raises(Rejected, match="finished export already"):
        await export_points(source, directory)


async def test_a_directory_with_other_things_is_left_alone(source: Stumbling, directory: Path) -> None:
    (directory / "points" / "mine").mkdir(parents=True)
    (directory / "points" / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(Rejected, match="holds other things"):
        await export_points(source, directory)
    assert (directory / "points" / "mine" / "thesis.txt").exists()


async def test_an_export_of_another_model_that_was_interrupted_is_not_gone_on_with(
    source: Stumbling, directory: Path
) -> None:
    source.calls, source.most = 0, 7
    with pytest.raises(Unavailable):
        await export_points(source, directory, shard_bytes=SMALL)
    other = Stumbling()
    await other.add_encoder(type(ENCODER)(ENCODER.id, "test", 64, -ENCODER.canaries))
    await other.upsert(ENCODER.id, points(range(1, 121), 1))
    before = inodes(directory)
    await export_points(other, directory, shard_bytes=SMALL)
    assert not before.items() & inodes(directory).items()
