"""Looking at files and folders, and bringing the listing up to date with what is found.

What cannot be looked at is unknown: it stays listed as it was, and holds up nothing beside it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import ParamSpec, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from daemon.folder import listing
from daemon.folder.listing import BEFORE_ALL, DEFAULT_PROJECT, Entry, Row, inside
from daemon.folder.scan import Folder, Seen
from state.errors import Unavailable
from state.journal import SqliteJournal

PAGE = 2_000
"""Images per page of a listing."""

STAMPS_AT_ONCE = 500
"""Files compared with the listing, or hashed, at a time."""

SETTLING_AT_ONCE = 10_000
"""New or changed files that wait together to be seen unchanged."""

log = structlog.get_logger()
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Changed = defaultdict[int, set[int]]
"""The images of each project that came, went, or have other bytes."""

Listed = Callable[[sqlite3.Connection, Row, int], list[Row]]
"""Ids and paths listed in some part of the tree: (connection, last row before, limit) → page."""


class Looking:
    """Keeps the listing in step with the tree.

    :param settle: seconds a new or changed file must stay the same before it is believed complete
    :ivar unsettled: files that had not come to rest when they were looked at last
    :ivar unknown: folders that could not be looked at, and why
    """

    def __init__(
        self,
        folder: Folder,
        journal: SqliteJournal,
        settle: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._folder, self._journal = folder, journal
        self._settle = settle
        self._sleep = sleep
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="folder")
        self._closed = False
        self.unsettled: set[bytes] = set()
        self.unknown: dict[bytes, str] = {}

    async def at_project(self, project_id: int, path: bytes) -> None:
        """Look at all of a project.

        :raises Unavailable: when its own folder cannot be looked at
        """
        seen = Seen()
        own = b"" if path == DEFAULT_PROJECT else path
        self.unknown.pop(own, None)
        listed = partial(listing.paths_of, project_id=project_id)
        await self._refresh(self._folder.walk_project(path, seen), listed, seen, [path])
        if problem := seen.unknown.get(own):
            raise Unavailable("source", problem)
        if not self.unsettled and not seen.unknown:
            await self._journal.run(listing.remember_whole, project_id)

    async def at_paths(self, paths: Collection[bytes]) -> Changed:
        """Look at and below these paths; return what changed there."""
        tops = {path for path in paths if path and not (path.startswith(b".") or b"/." in path)}
        files = {path for path in tops if self._folder.is_candidate(path)}
        folders = listing.outermost(tops - files | await self.in_thread(self._folder.directories, files))
        self.unsettled.difference_update(paths)
        seen = Seen()
        changed = await self._refresh(
            self._folder.entries(files, seen),
            partial(listing.paths_among, image_ids=[listing.path_id(path) for path in files]),
            seen,
            [],
        )
        seen = Seen()
        below = await self._refresh(
            (entry for folder in folders for entry in self._folder.walk(folder, seen)),
            partial(listing.paths_under, tops=folders),
            seen,
            folders,
        )
        for project_id, image_ids in below.items():
            changed[project_id] |= image_ids
        return changed

    async def _refresh(
        self, entries: Iterator[Entry], listed: Listed, seen: Seen, tops: Sequence[bytes]
    ) -> Changed:
        """Bring a part of the listing, and what is known of the folders `tops`, in line with the tree."""
        ids = array("q")
        changed: list[Entry] = []
        changes: Changed = defaultdict(set)
        while found := await self.in_thread(list, islice(entries, STAMPS_AT_ONCE)):
            known = await self._journal.run(listing.stamps, found)
            taken = {listing.path_id(path) for path in known}
            ids.extend(entry.id for entry in found if entry.path in known or entry.id not in taken)
            changed += [entry for entry in found if known.get(entry.path) != entry.stamp]
            if len(changed) >= SETTLING_AT_ONCE:
                await self._record(changed, changes)
                changed.clear()
        await self._record(changed, changes)
        in_order = await self.in_thread(lambda: np.sort(np.frombuffer(ids, dtype=np.int64)))
        mounts = await self._journal.run(listing.mounts)
        await self._forget(in_order, listed, changes, seen, mounts)
        await self._remember_mounts(mounts, seen, tops)
        for path in seen.unknown.keys() - self.unknown.keys():
            log.warning("folder.unknown", path=listing.shown(path), problem=seen.unknown[path])
        others = {path: why for path, why in self.unknown.items() if not inside(path + b"/", tops)}
        self.unknown = others | seen.unknown
        return changes

    async def _record(self, changed: list[Entry], changes: Changed) -> None:
        """Hash new and changed files, once they have rested."""
        if changed:
            await self._sleep(self._settle)
        for start in range(0, len(changed), STAMPS_AT_ONCE):
            rested = await self.in_thread(self._hash, changed[start : start + STAMPS_AT_ONCE])
            collisions = await self._journal.run(listing.record, rested)
            for path, other in collisions:
                log.error("folder.id_collision", path=listing.shown(path), other=listing.shown(other))
            for entry, _ in rested:
                changes[listing.path_id(entry.project_path)].add(entry.id)

    def _hash(self, entries: list[Entry]) -> list[tuple[Entry, str]]:
        """Hash those files that have not moved since they were first seen; note the others."""
        rested = []
        for entry in entries:
            if self._closed:
                break
            if entry in self._folder.entries([entry.path], Seen()):
                content = self._folder.content(entry.path, entry.stamp)
                if entry in self._folder.entries([entry.path], Seen()):
                    rested.append((entry, content))
                    continue
            self.unsettled.add(entry.path)
        return rested

    async def _forget(
        self,
        seen_ids: NDArray[np.int64],
        listed: Listed,
        changes: Changed,
        seen: Seen,
        mounts: Collection[bytes],
    ) -> None:
        """Take files out of the listing that were not found, once a second look finds nothing either."""
        last = BEFORE_ALL
        while page := await self._journal.run(listed, last, PAGE):
            last = page[-1]
            ids = np.array([image_id for image_id, _ in page], dtype=np.int64)
            absent = np.searchsorted(seen_ids, ids) == np.searchsorted(seen_ids, ids, side="right")
            unseen = [page[row] for row in np.flatnonzero(absent)]
            gone = await self.in_thread(self._really_gone, unseen, seen, mounts)
            await self._journal.run(listing.forget, [image_id for image_id, _ in gone])
            for image_id, path in gone:
                changes[listing.path_id(listing.project_of(path))].add(image_id)

    def _really_gone(self, unseen: list[Row], seen: Seen, mounts: Collection[bytes]) -> list[Row]:
        missed = [row for row in unseen if not inside(row[1] + b"/", seen.unknown)]
        there = {entry.path for entry in self._folder.entries([path for _, path in missed], seen)}
        gone = [row for row in missed if row[1] not in there]
        if gone:
            self._folder.check_root()
        for mount in mounts:
            if any(inside(path, [mount]) for _, path in gone) and self._folder.is_emptied(mount):
                seen.unknown[mount] = f"{self._folder.shown(mount)}: empty, and not mounted any more"
        return [row for row in gone if not inside(row[1] + b"/", seen.unknown)]

    async def _remember_mounts(self, mounts: Collection[bytes], seen: Seen, tops: Sequence[bytes]) -> None:
        before = {mount for mount in mounts if inside(mount + b"/", tops)}
        now = seen.mounts | {mount for mount in before if inside(mount + b"/", seen.unknown)}
        if now != before:
            await self._journal.run(listing.remember_mounts, before - now, now - before)

    async def in_thread(
        self, work: Callable[Arguments, Result], *arguments: Arguments.args, **_: Arguments.kwargs
    ) -> Result:
        """Do what waits for the file system on one of the source's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments))

    async def close(self) -> None:
        """Let the threads go; files waiting to be hashed are left."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
