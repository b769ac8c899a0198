"""A Supervisely instance as a source: its projects with AI Search enabled.

Of an image missing from one listing nothing is concluded; only a second look, seconds later, at exactly
that image is proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import structlog

from daemon.platform import listing
from daemon.platform.client import SERVICE, Client, fields_of, number_of
from daemon.platform.news import News
from daemon.platform.pictures import Pictures
from daemon.platform.watermark import Watermark
from state.errors import Inconsistent, Invisible, Rejected, Unavailable, UnknownCaller
from state.model import FULL, NOTHING, ImageRef, Picture, Project, Scope
from state.ports import Journal, Reserve

log = structlog.get_logger()

FLAGS = ["embeddingsEnabled", "embeddingsInProgress", "embeddingsUpdatedAt"]

LIST_ALL = {"skipExported": True, "extraFields": FLAGS, "sort": "id", "sort_order": "asc"}

KNOWN_SECONDS = 60.0
"""How long what is known of a project holds."""

LOOK_UP_SECONDS = 1.0
"""How long the platform may take to say what is known already, before that is believed once more."""


class PlatformSource:
    """The `Source` of one instance.

    :param shown_in_progress: told which projects the platform shows to be in progress
    :param interval: seconds between two looks at the platform's news
    :param clock: monotonic seconds
    """

    proves_absence = False
    delivers_whole = False

    def __init__(
        self,
        client: Client,
        pictures: Pictures,
        journal: Journal,
        shown_in_progress: Callable[[Collection[int]], None],
        interval: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.identity = client.server
        self.fallback_routes = pictures.fallback_routes
        self._client = client
        self._pictures = pictures
        self._news = News(client, journal)
        self._shown_in_progress = shown_in_progress
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._known: dict[int, tuple[Project, float]] = {}

    async def survey(self) -> Mapping[Project, Scope]:
        """List all projects; those with AI Search are to be looked at, a new one whole."""
        projects: dict[int, Project] = {}
        followed: list[Mapping[str, Any]] = []
        async for page in self._client.pages("projects.list.all", LIST_ALL):  # a page is a moment's work
            projects.update((project.id, project) for project in map(_project, page))
            followed += [row for row in page if row.get("embeddingsEnabled")]
        self._shown_in_progress([number_of(row["id"]) for row in followed if row.get("embeddingsInProgress")])
        self._news.follow(
            {number_of(row["teamId"]) for row in followed if row.get("teamId")},
            {number_of(row["id"]) for row in followed},
        )
        known, now = self._known, self._clock()
        self._known = {number: (project, now) for number, project in projects.items()}
        scopes = dict.fromkeys(projects.values(), NOTHING)
        for row in followed:
            number = number_of(row["id"])
            scopes[projects[number]] = await self._news.since(number) if number in known else FULL
        return scopes

    async def project(self, ref: int | str) -> Project | None:
        """Find a project by number; while the platform is away, as it was last known."""
        if not isinstance(ref, int):
            return None
        known, asked = self._known.get(ref, (None, 0.0))
        if known and self._clock() - asked < KNOWN_SECONDS:
            return known
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS if known else None):
                answer = await self._client.post("projects.info", {"id": ref, "extraFields": FLAGS})
            row = fields_of(answer, "id")
        except Invisible:
            self._known.pop(ref, None)
            return None
        except (Unavailable, UnknownCaller, TimeoutError) as problem:
            if known is None:
                retry_after = getattr(problem, "retry_after", None)
                raise Unavailable(SERVICE, str(problem), retry_after) from problem
            if ref in self._known:
                self._known[ref] = (known, self._clock())  # whoever asks next need not wait for it again
            return known
        project = _project(row)
        if ref in self._known:
            self._known[ref] = (project, self._clock())
        return project

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        """Map each project to those of the images it holds, asking for each image."""
        found: dict[int, frozenset[int]] = {}
        for image_id in image_ids:
            try:
                row = fields_of(await self._client.post("images.info", {"id": image_id}), "projectId")
            except Invisible:
                continue
            number = number_of(row["projectId"])
            found[number] = found.get(number, frozenset()) | {image_id}
        return found

    async def count(self, project_id: int) -> int:
        """Return how many images the server counts in the project."""
        return await listing.count(self._client, project_id)

    async def images(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        """List images by what the scope names.

        :raises Inconsistent: when the project is gone, or the listing does not add up
        """
        try:
            async for page in self._listing(project_id, scope):
                yield page
        except Invisible as error:
            raise Inconsistent("the project is gone, or not to be seen") from error

    def _listing(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        if scope.full:
            return self._news.noting(project_id, listing.whole_project(self._client, project_id))
        if scope.since is not None:
            mark = Watermark.read(scope.since)
            return self._news.noting(project_id, listing.changed_since(self._client, project_id, mark))
        return listing.some_images(self._client, project_id, scope.ids)

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        """Fetch a picture by the best route that works.

        :raises Rejected, Inconsistent: as `Pictures.fetch`
        """
        return await self._pictures.fetch(image, reserve)

    async def changes(self) -> AsyncIterator[Mapping[int, Scope]]:
        """Ask the platform for news, again and again."""
        problem = ""
        while True:
            try:
                marks = await self._news.latest()
                problem = ""
            except (Unavailable, Rejected, UnknownCaller) as error:
                marks = {}
                if str(error) != problem:
                    log.warning("platform.no_news", problem=str(error))
                problem = str(error)
            yield marks
            await self._sleep(self._interval)

    async def close(self) -> None:
        """Close the connections."""
        await self._pictures.close()
        await self._client.close()


def _project(row: Mapping[str, Any]) -> Project:
    name = str(row.get("name") or row.get("title") or "")
    return Project(number_of(row.get("id")), name, row.get("embeddingsEnabled") is not False)
