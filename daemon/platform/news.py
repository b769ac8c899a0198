"""The platform's news: what its teams did, and whose ``updatedAt`` moved.

Only marks come of it. Watermarks are times the server itself gave, compared only with each other, and
live in the journal; losing them costs a sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from daemon.platform.client import Client
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


class News:
    """News of the followed teams and projects."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._teams: frozenset[int] = frozenset()
        self._projects: frozenset[int] = frozenset()

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
        """Pass a listing on, and once it has ended well keep its latest ``updatedAt`` as the watermark."""
        latest = await self._journal.watermark(_updated(project_id)) or ""
        before = latest
        async for page in pages:
            latest = max(latest, *(image.updated_at for image in page))
            yield page
        if latest != before:
            await self._journal.set_watermark(_updated(project_id), latest)

    async def _events(self, team_id: int) -> Mapping[int, Scope]:
        name = f"activity of team {team_id}"
        mark = await self._journal.watermark(name)
        body: dict[str, Any] = {"teamId": team_id, "filter": [_one_of("type", ACTIONS)]}
        if mark is None:
            newest = await self._client.post("teams.activity", {**body, "page": 1, "per_page": 1})
            await self._journal.set_watermark(name, _latest(newest["entities"], ""))
            return dict.fromkeys(self._projects, FULL)
        if mark:
            body["filter"].append({"field": "date", "operator": ">=", "value": _earlier(mark)})
        latest, found, count = mark, defaultdict[int, Scope](Scope), 0
        try:
            async for page in self._client.pages("teams.activity", body):
                latest = _latest(page, latest)
                count += len(page)
                if count > MOST_EVENTS:
                    return dict.fromkeys(self._projects, FULL)
                for event in page:
                    _add(found, event)
        except Inconsistent:
            # Something happened while the pages were read: the next time has it, thanks to the overlap.
            return found
        await self._journal.set_watermark(name, latest)
        return found


def _add(found: defaultdict[int, Scope], event: Mapping[str, Any]) -> None:
    project_id, image_id = event.get("projectId"), event.get("imageId")
    if project_id is None:
        return
    scope = FULL if image_id is None else Scope(ids=frozenset((int(image_id),)))
    found[int(project_id)] = found[int(project_id)].merge(scope)


def _latest(events: Collection[Mapping[str, Any]], mark: str) -> str:
    return max([mark, *(str(event["date"]) for event in events)])


def _earlier(mark: str) -> str:
    moment = datetime.fromisoformat(mark) - OVERLAP
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_of(field: str, values: Collection[str]) -> Mapping[str, Any]:
    return {"field": field, "operator": "in", "value": list(values)}


def _updated(project_id: int) -> str:
    return f"updatedAt of project {project_id}"
