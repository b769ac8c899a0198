"""A folder of pictures as a source.

The root's direct sub-folders are projects, theirs are datasets (nested ones too); pictures directly
in the root form the project ``default``. A file that is missing in a readable folder is gone; a root that is
missing or empty proves nothing, nor does a folder that cannot be read or was unmounted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from pathlib import Path

import structlog

from daemon.folder import listing
from daemon.folder.listing import BEFORE_ALL
from daemon.folder.looking import PAGE, Looking
from daemon.folder.scan import Folder
from daemon.folder.watch import watched
from daemon.pictures import content_hash
from state.errors import Inconsistent, Unavailable
from state.journal import SqliteJournal
from state.model import FULL, ImageRef, Picture, Project, Scope
from state.ports import Reserve

WATCH_RETRY = 5.0
"""Seconds until watching is tried again where the system refused it; sweeps go on meanwhile."""

ROUTE = "file"

log = structlog.get_logger()


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
        self._sleep = sleep
        self._looking = Looking(self._folder, journal, settle, sleep)
        self._in_thread = self._looking.in_thread
        self._project_paths: dict[int, bytes] = {}

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
        :raises Unavailable: when it cannot be looked at, or whether an image is there cannot be told
        """
        path = await self._project_path(project_id)
        await self._in_thread(self._folder.check_root)
        if path is None or not await self._in_thread(self._folder.has_project, path):
            raise Inconsistent("the project's folder is gone")
        if scope.full or scope.since is not None:
            await self._looking.at_project(project_id, path)
            last = -1
            while page := await self._page(project_id, last):
                yield page
                last = page[-1].id
        else:
            if await self._journal.run(listing.tells_of, project_id, scope.ids):
                await self._look_at(scope.ids)
            else:
                await self._looking.at_project(project_id, path)
                if not await self._journal.run(listing.tells_of, project_id, scope.ids):
                    raise Unavailable("source", self.problem(project_id) or "files are still being written")
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
                paths = batch | self._looking.unsettled
                marks = await self.look(paths) if paths else {}
                if marks or not listening:
                    yield marks
                listening = True

    async def look(self, paths: Collection[bytes]) -> Mapping[int, Scope]:
        """Bring the listing up to date at or below these paths; return what changed there.

        :raises Unavailable: when the root cannot be read
        :raises Inconsistent: when it is empty
        """
        await self._in_thread(self._folder.check_root)
        return {
            project_id: Scope().merge(Scope(ids=frozenset(image_ids)))
            for project_id, image_ids in (await self._looking.at_paths(paths)).items()
        }

    def problem(self, project_id: int) -> str | None:
        """Return why a part of a project cannot be looked at; what is listed there stays as it is."""
        whys = [
            why
            for path, why in self._looking.unknown.items()
            if listing.path_id(listing.project_of(path + b"/") or listing.DEFAULT_PROJECT) == project_id
        ]
        return f"{whys[0]} (and {len(whys) - 1} more)" if len(whys) > 1 else next(iter(whys), None)

    async def close(self) -> None:
        """Let the threads go; files waiting to be hashed are left."""
        await self._looking.close()

    async def _look_at(self, image_ids: Collection[int]) -> None:
        known = await self._journal.run(listing.paths_among, BEFORE_ALL, len(image_ids), image_ids=image_ids)
        await self.look([path for _, path in known])

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
