"""The platform's news: what its teams did, and whose ``updatedAt`` moved.

Only marks come of it. Watermarks are times the server itself gave, compared only with each other, and
live in the journal; losing them costs a sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

from daemon.platform.client import Client, fields_of, number_of, rows_of
from daemon.platform.watermark import Watermark, moved
from state.errors import Inconsistent, Invisible
from state.model import FULL, ImageRef, Scope
from state.ports import Journal

OVERLAP = timedelta(minutes=2)
"""How far behind its watermark the activity is read again: entries may be written late."""

ACTIONS = [
    "create_image",
    "update_image",
    "disable_image",
    "restore_image",
    "create_dataset",
    "disable_dataset",
    "restore_dataset",
]
"""What may change which images a project has, or their bytes."""

MOST_EVENTS = 20_000
"""More news of a team at once than so many: its projects are looked at whole instead."""

Event = tuple[str, str, int, int]
"""When, what, in which project, to which image; 0 for none."""


class News:
    """News of the followed teams and projects."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._teams: frozenset[int] = frozenset()
        self._projects: frozenset[int] = frozenset()
        self._told: dict[int, frozenset[Event]] = {}

    def follow(self, team_ids: Iterable[int], project_ids: Iterable[int]) -> None:
        """Say whose news is of interest."""
        self._teams, self._projects = frozenset(team_ids), frozenset(project_ids)

    async def latest(self) -> Mapping[int, Scope]:
        """Return what the teams did since the last time, as marks."""
        marks: dict[int, Scope] = {}
        for team_id in sorted(self._teams):
            try:
                events = await self._events(team_id)
            except Invisible:
                continue
            for project_id, scope in events.items():
                marks[project_id] = marks.get(project_id, Scope()).merge(scope)
        return {project_id: scope for project_id, scope in marks.items() if project_id in self._projects}

    async def since(self, project_id: int) -> Scope:
        """Return the scope of what moved in a project since it was last listed."""
        mark = await self._journal.watermark(_updated(project_id))
        return FULL if mark is None else Scope(since=mark)

    async def noting(
        self, project_id: int, pages: AsyncIterator[list[ImageRef]]
    ) -> AsyncIterator[list[ImageRef]]:
        """Pass a listing on, and once it has ended well keep what it came to as the watermark."""
        before = await self._journal.watermark(_updated(project_id)) or ""
        mark = Watermark.read(before)
        async for page in pages:
            mark = mark.past(page)
            yield page
        if str(mark) != before:
            await self._journal.set_watermark(_updated(project_id), str(mark))

    async def _events(self, team_id: int) -> Mapping[int, Scope]:
        name = f"activity of team {team_id}"
        mark = await self._journal.watermark(name)
        body: dict[str, Any] = {"teamId": team_id, "filter": [_one_of("type", ACTIONS)]}
        if mark is None:
            newest = await self._client.post("teams.activity", {**body, "page": 1, "per_page": 1})
            await self._journal.set_watermark(
                name, max((_event(one)[0] for one in rows_of(newest)), default="")
            )
            return dict.fromkeys(self._projects, FULL)
        if mark:
            body["filter"].append({"field": "date", "operator": ">=", "value": moved(mark, -OVERLAP)})
        events: set[Event] = set()
        whole = True
        try:
            async for page in self._client.pages("teams.activity", body):
                events.update(map(_event, page))
                if len(events) > MOST_EVENTS:
                    await self._journal.set_watermark(name, max(events)[0])
                    return dict.fromkeys(self._projects, FULL)
        except Inconsistent:
            whole = False  # Something happened while the pages were read: the next time has it.
        fresh = events - self._told.get(team_id, frozenset())
        if whole:
            self._told[team_id] = frozenset(events)
            await self._journal.set_watermark(name, max([mark, *(date for date, *_ in events)]))
        return _scopes(fresh)


def _event(row: Mapping[str, Any]) -> Event:
    project_id, image_id = (number_of(row.get(name) or 0) for name in ("projectId", "imageId"))
    event = fields_of(row, "date", "action")
    return str(event["date"]), str(event["action"]), project_id, image_id


def _scopes(events: Iterable[Event]) -> Mapping[int, Scope]:
    """Map each project to its images that something happened to; without an image, all of it."""
    found = defaultdict[int, set[int]](set)
    for _, _, project_id, image_id in events:
        found[project_id].add(image_id)
    return {
        project_id: FULL if 0 in ids else Scope().merge(Scope(ids=frozenset(ids)))
        for project_id, ids in found.items()
    }


def _one_of(field: str, values: Collection[str]) -> Mapping[str, Any]:
    return {"field": field, "operator": "in", "value": list(values)}


def _updated(project_id: int) -> str:
    return f"updatedAt of project {project_id}"
