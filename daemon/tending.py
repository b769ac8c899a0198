"""Tending: an encoder that answers for a project while another is at work cannot make new vectors, but the
ones it made stay true.

Of an image that changed without a hash only fetching tells; its vector answers until the other encoder
takes over.
"""

from __future__ import annotations

from collections.abc import Collection

from daemon.epochs import Epochs
from state.changes import Step, reusable, reuse
from state.model import Action, Embedding, Reason, StoredImage
from state.ports import Store

AT_ONCE = 256
"""Changes looked up and written together."""


class Tending:
    """One look's care for the vectors of one project that another encoder made.

    :param began: the epoch in which the look began
    :ivar stored: how many vectors were compared
    :ivar gone: images to be removed, once that is proved
    """

    def __init__(self, store: Store, epochs: Epochs, began: int, project_id: int, collection: str) -> None:
        self._store, self._epochs = store, epochs
        self._began = began
        self._project_id = project_id
        self.collection = collection
        self.stored = 0
        self.gone: set[int] = set()

    async def take(self, step: Step) -> None:
        """Carry out what needs no encoder, and take away what was made of bytes that changed."""
        self.stored += step.fresh + sum(change.stored is not None for change in step.changes)
        self.gone.update(change.image_id for change in step.changes if change.action is Action.REMOVE)
        for start in range(0, len(step.changes), AT_ONCE):
            changes = step.changes[start : start + AT_ONCE]
            contents = {one.wanted.content or "" for one in changes if reusable(one)} - {""}
            found = await self._store.with_contents(self.collection, contents) if contents else {}
            changes = reuse(changes, found)
            copies = [
                Embedding(one.stored.tagged_as(one.wanted), found[one.stored.content].vector)
                for one in changes
                if one.action is Action.REUSE and one.stored
            ]
            retagged = [
                one.stored.tagged_as(one.wanted)
                for one in changes
                if one.action is Action.RETAG and one.stored
            ]
            outdated = [
                one.image_id
                for one in changes
                if one.action is Action.ENCODE and one.reason is Reason.CHANGED
            ]
            await self._write(copies, retagged, outdated)

    async def _write(
        self, copies: list[Embedding], retagged: list[StoredImage], outdated: Collection[int]
    ) -> None:
        async with self._epochs.writing(self._began):
            if copies:
                await self._store.upsert(self.collection, copies)
            if retagged:
                await self._store.retag(self.collection, retagged)
            if outdated:
                await self._store.remove(self.collection, self._project_id, outdated)
