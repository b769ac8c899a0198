"""What the callers may see, asked of the configured server with their own tokens."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from daemon.platform import listing
from daemon.platform.client import SERVICE, Client, fields_of, number_of
from state.errors import Denied, Invisible, NotInPlan, Rejected, Unavailable

ALLOWED_SECONDS, DENIED_SECONDS = 60.0, 5.0
"""How long an answer holds, from when it was asked for."""

MOST_VERDICTS = 10_000
"""Answers kept; those not needed for longest leave first."""

FREE = "free"
"""The plan without AI features."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    denied: Denied | None
    until: float


class Rights:
    """Asks what a token opens, and remembers the answer for a moment.

    :param clock: seconds
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Denied | None]] = {}

    async def authorise(self, token: str, project_id: int) -> None:
        """Return if the owner of `token` may read the project, and the team's plan allows AI features.

        A project that does not exist and one that is hidden cost the server and the caller the same.

        :raises UnknownCaller, Invisible, NotInPlan: when not
        """
        caller = self._client.on_behalf_of(token)
        await self._settle(_key(token, project_id), partial(_see_project, caller, project_id))

    async def recognise(self, token: str) -> None:
        """Return if the token is somebody's.

        :raises UnknownCaller: when not
        """
        caller = self._client.on_behalf_of(token)
        await self._settle(_key(token, None), partial(caller.post, "users.me", {}))

    async def projects_of(self, token: str, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        """Map each project to those of the images it holds, as far as the caller may see them.

        :raises UnknownCaller: when the token is nobody's
        """
        caller = self._client.on_behalf_of(token)
        found: dict[int, frozenset[int]] = {}
        left = set(image_ids)
        while left:
            image_id = left.pop()
            try:
                image = fields_of(await caller.post("images.info", {"id": image_id}), "projectId")
                project_id = number_of(image["projectId"])
            except (Invisible, Rejected):
                continue
            # Images asked for together mostly are of one project.
            held = {one.id async for page in listing.some_images(caller, project_id, left) for one in page}
            found[project_id] = frozenset(held | {image_id})
            left -= held
        return found

    async def close(self) -> None:
        """Give up what is being asked."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _settle(self, key: bytes, question: Callable[[], Awaitable[Any]]) -> None:
        verdict = self._verdicts.get(key)
        if verdict is not None and self._clock() < verdict.until:
            self._verdicts.move_to_end(key)
            denied = verdict.denied
        else:
            # Whoever gives up waiting leaves the question to the others who wait.
            denied = await asyncio.shield(self._asking.get(key) or self._ask(key, question))
        if denied is not None:
            raise type(denied)(*denied.args)

    def _ask(self, key: bytes, question: Callable[[], Awaitable[Any]]) -> asyncio.Task[Denied | None]:
        task = self._asking[key] = asyncio.create_task(self._answer(key, question))
        task.add_done_callback(partial(self._asked, key))
        return task

    def _asked(self, key: bytes, task: asyncio.Task[Denied | None]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # seen, even where everybody gave up waiting

    async def _answer(self, key: bytes, question: Callable[[], Awaitable[Any]]) -> Denied | None:
        asked = self._clock()
        denied: Denied | None = None
        try:
            await question()
        except Denied as error:
            denied = type(error)(*error.args)  # anew, without the request that it came of
        except Rejected:
            denied = Invisible("the server makes nothing of the number")
        self._verdicts[key] = _Verdict(denied, asked + (DENIED_SECONDS if denied else ALLOWED_SECONDS))
        self._verdicts.move_to_end(key)
        while len(self._verdicts) > MOST_VERDICTS:
            self._verdicts.popitem(last=False)
        return denied


async def _see_project(caller: Client, project_id: int) -> None:
    """Return if the caller sees the project, in a team that is not on the free plan.

    :raises NotInPlan: when it is
    """
    project = await caller.post("projects.info", {"id": project_id})
    if not isinstance(project, Mapping) or project.get("id") != project_id:
        raise Unavailable(SERVICE, "projects.info: another project than was asked for")
    team_id = project.get("teamId") or await _team_of(caller, project.get("workspaceId"))
    team = fields_of(await caller.post("teams.info", {"id": team_id}), "id")
    usage = team.get("usage")
    if isinstance(usage, Mapping) and usage.get("plan") == FREE:
        raise NotInPlan(f"Team {team_id} with '{FREE}' plan cannot use AI features.")


async def _team_of(caller: Client, workspace_id: Any) -> Any:
    return fields_of(await caller.post("workspaces.info", {"id": workspace_id}), "teamId")["teamId"]


def _key(token: str, project_id: int | None) -> bytes:
    return sha256(f"{project_id} {token}".encode()).digest()
