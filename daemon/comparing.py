"""What is to be compared for a look: the source's listing with what the store has, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from itertools import islice

from daemon.tending import Tending
from state.changes import Step, compare, diff
from state.journal import ForcedImages
from state.model import FULL, Scope, StoredImage
from state.ports import Forced, Source, Store

IDS_AT_ONCE = 2_048
"""Images asked for by id together."""


class Comparing:
    """Reads both sides of a look."""

    def __init__(self, source: Source, store: Store) -> None:
        self._source, self._store = source, store

    async def tend_all(self, tending: Tending, project_id: int) -> None:
        """Compare a whole project with the collection that is tended.

        :raises Inconsistent: when a listing was not whole
        """
        wanted = self._source.images(project_id, FULL)
        stored = self._store.scroll(tending.collection, project_id)
        async for step in diff(wanted, stored, ForcedImages()):
            await tending.take(step)

    async def steps(
        self,
        project_id: int,
        scope: Scope,
        collection: str,
        forced: Forced,
        tending: Tending | None = None,
    ) -> AsyncIterator[Step]:
        """Compare what `scope` covers with a collection, and with the one that is tended.

        Of a listing since a watermark the source tells only once, so `tending` gets the same pages.

        :raises Inconsistent: when a listing was not whole
        """
        routes = self._source.fallback_routes
        if scope.full:
            wanted, stored = self._source.images(project_id, FULL), self._store.scroll(collection, project_id)
            async for step in diff(wanted, stored, forced, routes):
                yield step
            return
        if scope.since is not None:
            async for page in self._source.images(project_id, Scope(since=scope.since)):
                ids = [image.id for image in page]
                yield compare(page, await self._stored(collection, project_id, ids), forced, routes)
                if tending:
                    other = await self._stored(tending.collection, project_id, ids)
                    await tending.take(compare(page, other, ForcedImages()))
        asked = iter(sorted(scope.ids))
        while chunk := frozenset(islice(asked, IDS_AT_ONCE)):
            listing = self._source.images(project_id, Scope(ids=chunk))
            images = [image async for page in listing for image in page]
            yield compare(images, await self._stored(collection, project_id, chunk), forced, routes)
            if tending:
                other = await self._stored(tending.collection, project_id, chunk)
                await tending.take(compare(images, other, ForcedImages()))

    async def _stored(self, collection: str, project_id: int, ids: Collection[int]) -> list[StoredImage]:
        proofs = await self._store.images(collection, ids)
        return [proof for proof in proofs if proof.project_id == project_id]
