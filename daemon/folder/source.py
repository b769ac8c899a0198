"""A folder of pictures as a source.

The root's direct sub-folders are projects, theirs are datasets (nested ones too); pictures directly
in the root form the project ``default``. A file that is missing under a readable root is gone; a root
that is missing or empty proves nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from daemon.folder import listing
from daemon.folder.listing import BEFORE_ALL, Entry, Row
from daemon.folder.scan import Folder
from daemon.folder.watch import watched
from daemon.pictures import content_hash
from state.errors import Inconsistent, Unavailable
from state.journal import SqliteJournal
from state.model import FULL, ImageRef, Picture, Project, Scope
from state.ports import Reserve

PAGE = 2_000
"""Images per page of a listing."""

STAMPS_AT_ONCE = 500
"""Files compared with the listing, or hashed, at a time."""

SETTLING_AT_ONCE = 10_000
"""New or changed files that wait together to be seen unchanged."""

WATCH_RETRY = 5.0
"""Seconds until watching is tried again where the system refused it; sweeps go on meanwhile."""

ROUTE = "file"

log = structlog.get_logger()
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Changed = defaultdict[int, set[int]]
"""The images of each project that came, went, or have other bytes."""

Listed = Callable[[sqlite3.Connection, Row, int], list[Row]]
"""Ids and paths listed in some part of the tree: (connection, last row before, limit) → page."""


class FolderSource:
    """The `Source` of a directory tree, with its listing in the journal.

    :param settle: seconds a new or changed file must stay the same before it is believed complete
    :param max_bytes: largest file that is read as a picture
    """

    proves_absence = True
    delivers_whole = True
    fallback_routes: frozenset[str] = frozenset()

    def __init__(
        self,
        root: Path,
        journal: SqliteJournal,
        max_bytes: int,
        settle: float = 0.25,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._folder = Folder(root)
        self.identity = listing.shown(self._folder.root)
        self._journal = journal
        self._max_bytes = max_bytes
        self._settle = settle
        self._sleep = sleep
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="folder")
        self._unsettled: set[bytes] = set()
        self._project_paths: dict[int, bytes] = {}
        self._closed = False

    async def open(self) -> None:
        """Make the listing's tables."""
        await self._journal.create(listing.create)

    async def survey(self) -> Mapping[Project, Scope]:
        """List the projects; each is to be looked at whole, since looking costs no request."""
        paths = await self._in_thread(self._folder.projects)
        default = listing.path_id(listing.DEFAULT_PROJECT)
        if listing.DEFAULT_PROJECT not in paths and await self.count(default):
            paths.append(listing.DEFAULT_PROJECT)
        await self._journal.run(listing.remember_projects, paths)
        return {listing.project(path): FULL for path in paths}

    async def project(self, ref: int | str) -> Project | None:
        """Find a project by number, or by its folder's name."""
        path = await (self._project_path(ref) if isinstance(ref, int) else self._project_named(ref))
        if path is None or not await self._in_thread(self._folder.has_project, path):
            return None
        return listing.project(path)

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        """Map each project to those of the images it holds."""
        return await self._journal.run(listing.projects_of, image_ids)

    async def count(self, project_id: int) -> int:
        """Return how many images of the project are listed so far."""
        return await self._journal.run(listing.count, project_id)

    async def images(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        """Look at the files, then list them from the table.

        :raises Inconsistent: when the project's folder is gone, or the root is empty
        """
        path = await self._project_path(project_id)
        await self._in_thread(self._folder.check_root)
        if path is None or not await self._in_thread(self._folder.has_project, path):
            raise Inconsistent("the project's folder is gone")
        if scope.full or scope.since is not None:
            await self._walk(project_id, path)
            last = -1
            while page := await self._page(project_id, last):
                yield page
                last = page[-1].id
        else:
            known = await self._journal.run(
                listing.paths_among, BEFORE_ALL, len(scope.ids), image_ids=scope.ids
            )
            if len(known) < len(scope.ids) and await self._journal.run(listing.walked, project_id) is None:
                await self._walk(project_id, path)
            else:
                await self.look([path for _, path in known])
            images = await self._journal.run(listing.some, scope.ids)
            mine = [image for image in images if image.project_id == project_id]
            for start in range(0, len(mine), PAGE):
                yield mine[start : start + PAGE]

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        """Read a picture's bytes.

        :raises Rejected: when the file is too large or may not be read
        :raises Inconsistent: when the bytes are not the ones that were listed
        """
        known = await self._journal.run(listing.paths_among, BEFORE_ALL, 1, image_ids=[image.id])
        if not known:
            raise Inconsistent("the file is gone since it was listed")
        path = known[0][1]
        if entry := await self._in_thread(self._folder.look, path):
            await reserve(min(entry.stamp.size, self._max_bytes + 1))  # no more is ever read
        data = await self._in_thread(self._folder.read, path, self._max_bytes)
        content = await self._in_thread(content_hash, data)
        if content != image.content:
            await self._journal.run(listing.doubt, image.id)
            raise Inconsistent("the file changed since it was listed")
        return Picture(data, content, ROUTE)

    async def changes(self) -> AsyncIterator[Mapping[int, Scope]]:
        """Watch the tree; files still being written come up again until they rest.

        After a time without watching, every project is news.
        """
        problem = ""
        while True:
            try:
                if problem:
                    await self._sleep(WATCH_RETRY)
                async for marks in self._watch():
                    yield marks
                    if problem:
                        yield {project.id: scope for project, scope in (await self.survey()).items()}
                        problem = ""
                problem = "another directory took the place of the root"
            except (OSError, Unavailable, Inconsistent) as error:
                if str(error) != problem:
                    log.warning("folder.not_watched", problem=str(error))
                problem = str(error)
                yield {}

    async def _watch(self) -> AsyncIterator[Mapping[int, Scope]]:
        """Yield what changes until the root is no longer the directory that is being watched."""
        identity = await self._in_thread(self._folder.identity)
        listening = False
        async with aclosing(watched(self._folder.root)) as batches:
            async for batch in batches:
                if await self._in_thread(self._folder.identity) != identity:
                    return
                paths = batch | self._unsettled
                marks = await self.look(paths) if paths else {}
                if marks or not listening:
                    yield marks
                listening = True

    async def look(self, paths: Collection[bytes]) -> Mapping[int, Scope]:
        """Bring the listing up to date at or below these paths; return what changed there.

        :raises Unavailable: when a part of the tree cannot be read
        :raises Inconsistent: when the root is empty
        """
        await self._in_thread(self._folder.check_root)
        tops = {path for path in paths if path and not (path.startswith(b".") or b"/." in path)}
        files = {path for path in tops if self._folder.is_candidate(path)}
        folders = listing.outermost(tops - files | await self._in_thread(self._folder.directories, files))
        self._unsettled.difference_update(paths)
        changed = await self._refresh(
            (entry for path in files if (entry := self._folder.look(path))),
            partial(listing.paths_among, image_ids=[listing.path_id(path) for path in files]),
        )
        below = await self._refresh(
            (entry for folder in folders for entry in self._folder.walk(folder)),
            partial(listing.paths_under, tops=folders),
        )
        for project_id, image_ids in below.items():
            changed[project_id] |= image_ids
        return {
            project_id: Scope().merge(Scope(ids=frozenset(image_ids)))
            for project_id, image_ids in changed.items()
        }

    async def close(self) -> None:
        """Let the threads go; files waiting to be hashed are left."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _walk(self, project_id: int, path: bytes) -> None:
        """Bring the listing of a project up to date."""
        listed = partial(listing.paths_of, project_id=project_id)
        await self._refresh(self._folder.walk_project(path), listed)
        device = await self._in_thread(self._folder.device, b"" if path == listing.DEFAULT_PROJECT else path)
        if not self._unsettled and device is not None:
            await self._journal.run(listing.remember_walk, project_id, device)

    async def _refresh(self, entries: Iterator[Entry], listed: Listed) -> Changed:
        """Bring a part of the listing up to date with what is found there."""
        seen = array("q")
        changed: list[Entry] = []
        changes: Changed = defaultdict(set)
        while found := await self._in_thread(list, islice(entries, STAMPS_AT_ONCE)):
            known = await self._journal.run(listing.stamps, found)
            taken = {listing.path_id(path) for path in known}
            seen.extend(entry.id for entry in found if entry.path in known or entry.id not in taken)
            changed += [entry for entry in found if known.get(entry.path) != entry.stamp]
            if len(changed) >= SETTLING_AT_ONCE:
                await self._record(changed, changes)
                changed.clear()
        await self._record(changed, changes)
        in_order = await self._in_thread(lambda: np.sort(np.frombuffer(seen, dtype=np.int64)))
        await self._forget(in_order, listed, changes)
        return changes

    async def _record(self, changed: list[Entry], changes: Changed) -> None:
        """Hash new and changed files, once they have rested."""
        if changed:
            await self._sleep(self._settle)
        for start in range(0, len(changed), STAMPS_AT_ONCE):
            rested = await self._in_thread(self._hash, changed[start : start + STAMPS_AT_ONCE])
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
            if self._folder.look(entry.path) == entry:
                content = self._folder.content(entry.path, entry.stamp)
                if self._folder.look(entry.path) == entry:
                    rested.append((entry, content))
                    continue
            self._unsettled.add(entry.path)
        return rested

    async def _forget(self, seen: NDArray[np.int64], listed: Listed, changes: Changed) -> None:
        """Take files out of the listing that were not found, once a second look finds nothing either."""
        last = BEFORE_ALL
        while page := await self._journal.run(listed, last, PAGE):
            last = page[-1]
            ids = np.array([image_id for image_id, _ in page], dtype=np.int64)
            absent = np.searchsorted(seen, ids) == np.searchsorted(seen, ids, side="right")
            unseen = [page[row] for row in np.flatnonzero(absent)]
            gone = await self._in_thread(self._really_gone, unseen)
            for path in {listing.project_of(path) for _, path in gone} - {listing.DEFAULT_PROJECT}:
                device = await self._journal.run(listing.walked, listing.path_id(path))
                await self._in_thread(self._folder.check_mounted, path, device)
            await self._journal.run(listing.forget, [image_id for image_id, _ in gone])
            for image_id, path in gone:
                changes[listing.path_id(listing.project_of(path))].add(image_id)

    def _really_gone(self, unseen: list[Row]) -> list[Row]:
        gone = [(image_id, path) for image_id, path in unseen if self._folder.look(path) is None]
        if gone:
            self._folder.check_root()
        return gone

    async def _project_named(self, name: str) -> bytes | None:
        path = await self._project_path(listing.path_id(name.encode(errors="backslashreplace")))
        return path or await self._journal.run(listing.project_named, name)

    async def _project_path(self, project_id: int) -> bytes | None:
        """Return the folder a project is; remembered, so that a search need not wait for the journal."""
        if project_id not in self._project_paths:
            path = await self._journal.run(listing.project_path, project_id)
            if path is None:
                return None
            self._project_paths[project_id] = path
        return self._project_paths[project_id]

    async def _page(self, project_id: int, after: int) -> list[ImageRef]:
        return await self._journal.run(listing.page, project_id, after, PAGE)

    async def _in_thread(
        self, work: Callable[Arguments, Result], *arguments: Arguments.args, **_: Arguments.kwargs
    ) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments))
