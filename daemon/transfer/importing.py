"""Importing: the points of an export into a store, each looked at again once it is there.

What is there already is left alone, so an import that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from daemon.encoders import canary
from daemon.transfer.files import off_loop
from daemon.transfer.manifest import Encoder, Manifest, Shard, load
from daemon.transfer.shards import check, digest_of, read, same_but_for_rounding
from state.errors import Inconsistent, Rejected
from state.model import Embedding, EncoderRecord
from state.ports import Store

POINTS_PER_WRITE = 512
"""So many are checked by the store in one step of the event loop, some milliseconds."""


@dataclass(slots=True)
class Imported:
    """What an import came to.

    :param points: looked at
    :param written: of them, now
    :param kept: of them, where the store has another vector of its own, which stays
    :param exact: whether all others are in the store to the last bit, and not only up to its rounding
    """

    points: int = 0
    written: int = 0
    kept: int = 0
    exact: bool = True


async def import_points(
    store: Store,
    directory: Path,
    project_id: int | None = None,
    on_points: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Write the points of an export, those of a project or all, and then let them answer.

    Nothing is written before every file has been found whole.

    :param on_points: told how many points of how many are dealt with
    :raises Rejected: when there is no finished export, it was cut short or altered, or lacks the project
    :raises Inconsistent: when the store knows an encoder of that name by other canaries, or does not hold
        what was written
    :raises Unavailable: when the store is away, or its disk full
    """
    manifest = await off_loop(load, directory)
    shards = manifest.of(project_id)
    if not shards:
        raise Rejected(f"the export has no vectors of project {project_id}")
    for shard in shards:
        await off_loop(check, directory, shard)
    known = await store.encoders()
    targets = _targets(known, manifest.encoders)
    for record in targets.values():
        if record.id not in {one.id for one in known}:
            await store.add_encoder(record)
    encoders = {one.id: one for one in manifest.encoders}
    epoch = await store.next_epoch()
    total = sum(shard.points for shard in shards)
    imported = Imported()
    for shard in shards:
        points = await off_loop(_read, directory, shard, encoders[shard.encoder], epoch)
        await _bring_in(store, targets[shard.encoder].id, shard, points, imported)
        on_points(imported.points, total)
    await _point(store, manifest, targets, project_id)
    return imported


def _targets(known: Sequence[EncoderRecord], encoders: Sequence[Encoder]) -> dict[str, EncoderRecord]:
    """Map each encoder of the export to the one of the catalogue that it is, or will be.

    :raises Inconsistent: when its name is taken by an encoder with other canaries
    """
    targets = {}
    for one in encoders:
        record = one.record
        namesake = [other for other in known if other.id == record.id]
        same = canary.match(record.canaries, [*namesake, *known])
        if same is None and namesake:
            raise Inconsistent(
                f"the store knows an encoder {record.id} by other canaries: its vectors are of another model,"
                " and nothing is imported among them"
            )
        targets[one.id] = same or record
    return targets


def _read(directory: Path, shard: Shard, encoder: Encoder, epoch: int) -> list[Embedding]:
    """Return the points of a shard under epochs that mean here what their own meant there.

    What a good canary vouched for is vouched for here from the start; the rest waits for one.
    """

    def here(there: int) -> int:
        return 0 if there <= encoder.confirmed else epoch

    return [
        replace(point, image=replace(point.image, epoch=here(point.image.epoch)))
        for point in read(directory, shard, encoder.dimension)
    ]


async def _bring_in(
    store: Store, collection: str, shard: Shard, points: Sequence[Embedding], imported: Imported
) -> None:
    """Write those points of a shard that are not there, and make sure that they are."""
    ids = [point.image.id for point in points]
    there = {image.id for image in await store.images(collection, ids)}
    missing = [point for point in points if point.image.id not in there]
    for start in range(0, len(missing), POINTS_PER_WRITE):
        await store.upsert(collection, missing[start : start + POINTS_PER_WRITE])
    found = await store.embeddings(collection, ids)
    if len(found) != len(points):
        raise Inconsistent(f"{len(found)} of {len(points)} points of {shard.vectors.file} are in the store")
    if await off_loop(digest_of, found) != shard.digest:
        different = await off_loop(_different, found, points)
        if wrong := different - there:
            raise Inconsistent(f"image {min(wrong)} was written, and is not what the store holds")
        imported.kept += len(different)
        imported.exact = False
    imported.points += len(points)
    imported.written += len(missing)


def _different(found: Sequence[Embedding], points: Sequence[Embedding]) -> set[int]:
    """Return the images whose content or vector is another than that of the export."""
    stored, given = (np.array([point.vector for point in side], np.float32) for side in (found, points))
    close = same_but_for_rounding(stored, given)
    return {
        there.image.id
        for there, here, same in zip(found, points, close, strict=True)
        if not same or (there.image.id, there.image.content) != (here.image.id, here.image.content)
    }


async def _point(
    store: Store, manifest: Manifest, targets: Mapping[str, EncoderRecord], project_id: int | None
) -> None:
    """Let the encoders answer for what is answered for by none yet."""
    answering = await store.pointers()
    for number, encoder_id in manifest.pointers.items():
        if number not in answering and project_id in (None, number):
            await store.set_pointer(number, targets[encoder_id].id)
    if project_id is None and manifest.pinned and await store.pinned() is None:
        await store.pin(targets[manifest.pinned].id)
