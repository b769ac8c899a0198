"""Exporting: every point of a store into a directory, some thousands at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from daemon.transfer.files import off_loop
from daemon.transfer.manifest import Header, Manifest, Shard, digest_of_shards, encoder_of
from daemon.transfer.progress import Progress
from daemon.transfer.shards import SHARD_BYTES, lines_of, points_per_shard, write
from state.errors import Rejected
from state.model import StoredImage
from state.ports import Store


async def export_points(
    store: Store,
    directory: Path,
    project_id: int | None = None,
    on_points: Callable[[int, int], None] = lambda done, total: None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write the points of a project, or of all; one that was interrupted goes on where it was.

    The catalogue is read first: what is written after it is not vouched for by it.

    :param on_points: told how many points of how many are dealt with
    :raises Rejected: when there is nothing to export, or the directory holds something else
    :raises Unavailable: when the disk is full, or the store away
    """
    records = {record.id: record for record in await store.encoders()}
    pointers = {
        number: encoder_id
        for number, encoder_id in (await store.pointers()).items()
        if project_id in (None, number) and encoder_id in records
    }
    pinned = await store.pinned() if project_id is None else None
    counts = {one: _wanted(await store.projects(one), project_id) for one in sorted(records)}
    total = sum(sum(projects.values()) for projects in counts.values())
    if not total:
        raise Rejected("there are no vectors to export")
    used = {one for one, projects in counts.items() if projects} | {*pointers.values()}
    encoders = [encoder_of(records[one]) for one in sorted(used)]
    header = Header([replace(one, confirmed=0) for one in encoders], project_id)
    progress = await off_loop(Progress.open, directory, header)
    shards: list[Shard] = []
    done = 0
    for encoder in encoders:
        size = points_per_shard(encoder.dimension, shard_bytes)
        for number in sorted(counts[encoder.id]):
            async with aclosing(_shards(store, directory, progress, encoder.id, number, size)) as written:
                async for shard in written:
                    shards.append(shard)
                    done += shard.points
                    on_points(done, total)
    manifest = Manifest(
        encoders=encoders,
        pointers=pointers,
        pinned=pinned if pinned in used else None,
        points=done,
        digest=digest_of_shards(shards),
        shards=shards,
    )
    await off_loop(progress.finish, manifest)
    return manifest


async def _shards(
    store: Store, directory: Path, progress: Progress, collection: str, project_id: int, size: int
) -> AsyncGenerator[Shard, None]:
    """Write the points of one project, and yield each shard as it is there."""
    number = 0
    async with aclosing(_in_parts(store.scroll(collection, project_id), size)) as parts:
        async for images in parts:
            name = f"{collection}/{project_id}-{number:06}"
            shard = await off_loop(progress.finished, name, await off_loop(lines_of, images))
            if shard is None:
                found = await store.embeddings(collection, [image.id for image in images])
                points = [point for point in found if point.image.project_id == project_id]
                if not points:
                    continue
                shard = await off_loop(write, directory, name, points)
                await off_loop(progress.add, shard)
            number += 1
            yield shard


async def _in_parts(
    pages: AsyncIterator[list[StoredImage]], size: int
) -> AsyncGenerator[list[StoredImage], None]:
    waiting: list[StoredImage] = []
    async for page in pages:
        waiting += page
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def _wanted(counts: Mapping[int, int], project_id: int | None) -> dict[int, int]:
    return {number: count for number, count in counts.items() if project_id in (None, number)}
