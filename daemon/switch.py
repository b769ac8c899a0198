"""Switching encoders without darkness: which encoder answers for a project, and until when.

A project is answered for by the encoder that its pointer names, whoever is at work. The pointer moves
when all of the project has a vector of the encoder at work, and nothing speaks against these. What no
pointer names any more is kept for a while, so that a person may go back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import structlog

from daemon.agreement import compare
from state.errors import Inconsistent, Rejected
from state.model import EncoderStatus, Within
from state.ports import Encoder, Journal, Matrices, Store

LATE_SECONDS = 3600.0
"""How long pictures that cannot be had keep their project with the encoder that has vectors of them."""

FEW = 10
"""So many of them, or one in a hundred, are gone without after that."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Late:
    """A project that would be complete but for pictures that cannot be had.

    :param encoder_id: which is to take it over
    :param since: when it was first so, as `now` tells
    :param images: that the encoder at work has made vectors of
    """

    encoder_id: str
    since: float
    images: int


class Switch:
    """Moves pointers.

    :param threads: where vectors are compared
    :param keep_seconds: how long an encoder's vectors are kept after the last project left it
    :param now: seconds since the epoch, compared only with what this machine wrote down itself
    """

    def __init__(
        self,
        encoder: Encoder,
        store: Store,
        matrices: Matrices,
        journal: Journal,
        threads: Executor,
        keep_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._encoder, self._store, self._matrices, self._journal = encoder, store, matrices, journal
        self._threads = threads
        self._keep_seconds = keep_seconds
        self._now = now
        self._moving = asyncio.Lock()
        self._late: dict[int, _Late] = {}

    async def answering(self, project_id: int, at_work: str | None) -> str | None:
        """Return the encoder that answers for a project; for a new one that is the one at work."""
        answering = (await self._store.pointers()).get(project_id)
        if answering is None and at_work is not None:
            await self._store.set_pointer(project_id, at_work)
            return at_work
        return answering

    async def complete(self, project_id: int, encoder_id: str, images: int, late: int) -> None:
        """Let the encoder answer for the project: it has made vectors of all its `images`, some `late` ones
        aside that could not be had: a few of these hold a project up for a while, and not for ever.

        :raises Inconsistent: when its vectors are too few, or not fit to answer
        """
        answering = await self._to_leave(project_id, encoder_id)
        if answering == encoder_id:
            self._late.pop(project_id, None)
            return
        if late and not self._goes_without(project_id, encoder_id, images, late):
            return
        within = Within(project_id)
        count = await self._store.count(encoder_id, within)
        if count < images:
            raise Inconsistent(f"{encoder_id} has {count} vectors of {images} images")
        if answering is not None and answering in await self._known():
            old = await self._matrices.matrix(answering, within)
            new = await self._matrices.matrix(encoder_id, within)
            random = np.random.default_rng(project_id)
            loop = asyncio.get_running_loop()
            agreement = await loop.run_in_executor(self._threads, compare, old, new, random)
            if agreement.problem:
                raise Inconsistent(f"{encoder_id} does not take over from {answering}: {agreement.problem}")
            log.info(
                "project.switched",
                project_id=project_id,
                before=answering,
                encoder=encoder_id,
                images=count,
                images_before=len(old.ids),
                neighbours_shared=agreement.neighbours,
            )
        async with self._moving:  # a person may have decided otherwise meanwhile
            if await self._to_leave(project_id, encoder_id) != encoder_id:
                await self._store.set_pointer(project_id, encoder_id)
        self._late.pop(project_id, None)

    def _goes_without(self, project_id: int, encoder_id: str, images: int, late: int) -> bool:
        before = self._late.get(project_id)
        since = before.since if before and before.encoder_id == encoder_id else self._now()
        self._late[project_id] = _Late(encoder_id, since, images)
        return self._late_enough(project_id, late)

    def _late_enough(self, project_id: int, late: int) -> bool:
        known = self._late.get(project_id)
        return (
            known is not None
            and late <= max(FEW, known.images // 100)
            and self._now() - known.since >= LATE_SECONDS
        )

    async def due(self, project_id: int, late: int = 0) -> bool:
        """Whether a whole look would let the encoder at work take the project over, as far as can be told.

        :param late: images that the look just made could not have
        """
        at_work = self._encoder.id
        if at_work is None or (late and not self._late_enough(project_id, late)):
            return False
        return await self._to_leave(project_id, at_work) != at_work

    async def _to_leave(self, project_id: int, encoder_id: str) -> str | None:
        """Return the encoder that another takes over from; that one itself where nothing is to move."""
        if await self._store.pinned() not in (None, encoder_id):
            return encoder_id
        return (await self._store.pointers()).get(project_id)

    async def use(self, encoder_id: str | None) -> int:
        """Have an encoder answer for every project it has vectors of, whoever is at work; return how many.

        ``None``: whoever is at work takes over again, project by project.

        :raises Rejected: when there is no such encoder
        """
        if encoder_id is not None and encoder_id not in await self._known():
            raise Rejected(f"there is no encoder {encoder_id}: `embedsync encoder list` names them")
        moved = 0
        async with self._moving:
            await self._store.pin(encoder_id)
            pointers = await self._store.pointers()
            for project_id in await self._store.projects(encoder_id) if encoder_id else ():
                if pointers.get(project_id) not in (None, encoder_id):
                    await self._store.set_pointer(project_id, encoder_id)
                    moved += 1
        log.info("encoder.pinned", encoder=encoder_id, projects=moved)
        return moved

    async def retire(self) -> None:
        """Forget the encoders that have not answered, nor been at work, for long enough."""
        if self._encoder.id is None:
            return
        async with self._moving:
            await self._retire()

    async def _retire(self) -> None:
        used = {self._encoder.id, await self._store.pinned(), *(await self._store.pointers()).values()}
        for encoder_id in await self._known():
            name = f"{encoder_id} unused since"
            since = float(await self._journal.watermark(name) or 0)
            if encoder_id in used or encoder_id == self._encoder.id:
                if since:
                    await self._journal.set_watermark(name, "")
            elif not since:
                await self._journal.set_watermark(name, str(self._now()))
            elif self._now() - since >= self._keep_seconds:
                await self._store.forget_encoder(encoder_id)
                await self._journal.set_watermark(name, "")
                log.info("encoder.forgotten", encoder=encoder_id)

    async def status(self) -> list[EncoderStatus]:
        """Return every encoder of the catalogue, the one at work first."""
        pinned = await self._store.pinned()
        answering = Counter((await self._store.pointers()).values())
        found = [
            EncoderStatus(
                id=record.id,
                kind=record.kind,
                dimension=record.dimension,
                at_work=record.id == self._encoder.id,
                pinned=record.id == pinned,
                projects=answering[record.id],
                images=sum((await self._store.projects(record.id)).values()),
            )
            for record in await self._store.encoders()
        ]
        return sorted(found, key=lambda one: not one.at_work)

    async def _known(self) -> set[str]:
        return {record.id for record in await self._store.encoders()}
