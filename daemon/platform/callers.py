"""Rights and answers on the platform: the port that the handlers see."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from daemon.platform.client import Client
from daemon.platform.publishing import Collections
from daemon.platform.rights import Rights
from state.model import Hit


class Callers:
    """The `Platform` of one server: whatever it asks for a caller, it asks with the caller's token."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._rights = Rights(client, clock)
        self._collections = Collections(client)

    async def recognise(self, token: str) -> None:
        """Return if the token is somebody's."""
        await self._rights.recognise(token)

    async def authorise(self, token: str, project_id: int) -> None:
        """Return if the owner of `token` may read the project."""
        await self._rights.authorise(token, project_id)

    async def projects_of(self, token: str, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        """Map each project to those of the images it holds, as far as the caller may see them."""
        return await self._rights.projects_of(token, image_ids)

    async def publish(self, kind: str, project_id: int, token: str, items: Sequence[Hit]) -> int | None:
        """Leave the answer as a collection of the platform."""
        return await self._collections.publish(kind, project_id, token, items)

    async def close(self) -> None:
        """Give up what is being asked; the client stays open."""
        await self._rights.close()
