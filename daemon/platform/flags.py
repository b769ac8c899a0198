"""What the platform shows of our work: flags and times on projects and images.

Written after the vectors are safe, in batches, apart from the sync and never in its way. What is not
written, because the platform was away or too much had gathered, the next whole look finds and writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

import structlog

from daemon.platform.client import Client, fields_of
from state.errors import Denied, Rejected, Unavailable

STARTED_KEY = "embeddings_update_started_at"
"""The key of a project's custom data that says since when its embeddings are being made."""

IMAGES_AT_ONCE = 1_000

MOST_IMAGES = 100_000
"""Images of a project whose flag waits to be written; further ones are left to the next whole look."""

GATHER_SECONDS = 1.0
"""How long flags gather before they are written together."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Wanted:
    """What a project should show.

    :param in_progress: ``None`` where that need not be said
    """

    in_progress: bool | None = None
    problem: str | None = None
    images: set[int] = field(default_factory=set)
    finished: bool = False


class Flags:
    """Writes what is to be shown, one project after the other.

    :param now: seconds since the epoch, for people only
    """

    def __init__(
        self,
        client: Client,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._now = now
        self._sleep = sleep
        self._wanted: dict[int, _Wanted] = {}
        self._shown_in_progress: set[int] = set()
        self._unfinished: set[int] = set()
        self._shown_problems: set[int] = set()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def surveyed(self, in_progress: Collection[int]) -> None:
        """Take note of the projects that are shown to be in progress, perhaps by a process that died."""
        self._unfinished |= set(in_progress) - self._shown_in_progress
        self._shown_in_progress |= set(in_progress)

    def began(self, project_id: int) -> None:
        """Show that embeddings of a project are being made."""
        if project_id not in self._shown_in_progress:
            self._want(project_id).in_progress = True

    def written(self, project_id: int, image_ids: Collection[int]) -> None:
        """Show that images have their embedding."""
        wanted = self._want(project_id)
        if not (wanted.in_progress or project_id in self._shown_in_progress):
            self._unfinished.add(project_id)  # made by a process that died before it could show them
        wanted.images.update(list(image_ids)[: MOST_IMAGES - len(wanted.images)])

    def ended(self, project_id: int, problem: str | None, worked: bool) -> None:
        """Show that a look at the project has ended, well or with a problem."""
        pending = self._wanted.get(project_id, _Wanted())
        finished = problem is None and (worked or project_id in self._unfinished)
        shown = project_id in self._shown_in_progress | self._shown_problems
        if finished or problem or pending.in_progress or shown:
            wanted = self._want(project_id)
            wanted.in_progress, wanted.problem = False, problem
            wanted.finished = wanted.finished or finished
        if finished:
            self._unfinished.discard(project_id)

    async def run(self) -> NoReturn:
        """Write what is wanted, for ever."""
        pause = FIRST_PAUSE
        while True:
            if not self._wanted:
                self._idle.set()
            await self._news.wait()
            await self._sleep(GATHER_SECONDS)
            self._news.clear()
            for project_id in list(self._wanted):
                wanted = self._wanted.pop(project_id)
                try:
                    await self._write(project_id, wanted)
                    pause = FIRST_PAUSE
                except Unavailable as problem:
                    log.warning("flags.put_off", project_id=project_id, problem=str(problem))
                    self._again(project_id, wanted)
                    await self._sleep(max(pause, problem.retry_after or 0.0))
                    pause = min(2 * pause, LONGEST_PAUSE)
                except (Denied, Rejected) as problem:
                    log.warning("flags.refused", project_id=project_id, problem=str(problem))

    async def settled(self) -> None:
        """Wait until everything wanted is shown."""
        await self._idle.wait()

    def _want(self, project_id: int) -> _Wanted:
        self._idle.clear()
        self._news.set()
        return self._wanted.setdefault(project_id, _Wanted())

    def _again(self, project_id: int, wanted: _Wanted) -> None:
        """Want again what could not be written, below what is wanted since."""
        newer = self._want(project_id)
        newer.images |= wanted.images
        newer.finished = newer.finished or wanted.finished
        if newer.in_progress is None:
            newer.in_progress, newer.problem = wanted.in_progress, wanted.problem

    async def _write(self, project_id: int, wanted: _Wanted) -> None:
        if wanted.in_progress:
            await self._show_progress(project_id, True, None)
            await self._note_start(project_id, self._time())
        if wanted.finished:
            # Before the images: whoever finds one of them not shown yet knows that this is to be done too.
            body = {"id": project_id, "embeddingsUpdatedAt": self._time(), "silent": True}
            await self._client.post("projects.editInfo", body)
        images = sorted(wanted.images)
        for start in range(0, len(images), IMAGES_AT_ONCE):
            part = images[start : start + IMAGES_AT_ONCE]
            times = [{"id": image_id, "embeddingsUpdatedAt": self._time()} for image_id in part]
            await self._client.post("images.embeddings-updated-at.update", {"images": times})
        if wanted.in_progress is False:
            await self._note_start(project_id, None)
            await self._show_progress(project_id, False, wanted.problem)

    async def _show_progress(self, project_id: int, in_progress: bool, problem: str | None) -> None:
        body: dict[str, Any] = {"id": project_id, "embeddingsInProgress": in_progress}
        if problem is not None:
            body["errorMessage"] = problem
        if in_progress:
            self._shown_in_progress.add(project_id)  # at once: a look may end while this is being written
        await self._client.post("projects.embeddings-in-progress.update", body)
        if not in_progress:
            self._shown_in_progress.discard(project_id)
        (self._shown_problems.discard if problem is None else self._shown_problems.add)(project_id)

    async def _note_start(self, project_id: int, time: str | None) -> None:
        """Write, or take away, since when; other keys are somebody else's, and read right before."""
        info = fields_of(await self._client.post("projects.info", {"id": project_id}), "id")
        data = dict(info.get("customData") or {})
        if data.get(STARTED_KEY) == time:
            return
        if time is None:
            del data[STARTED_KEY]
        else:
            data[STARTED_KEY] = time
        await self._client.post("projects.editInfo", {"id": project_id, "customData": data, "silent": True})

    def _time(self) -> str:
        return (
            datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
