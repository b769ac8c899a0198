"""fetch → decode → batch → encode → one upsert of vector and proof, bounded at every stage.

Fetches run ahead of the encoder, so that it never waits for a picture while there are any. The slots
are shared by all projects and taken in turn, so that a small project overtakes a large one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from daemon.encoders.soundness import SERVICE
from daemon.encoding import Busy, Encoding
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.outcome import Outcome, Written
from daemon.pace import Pace
from daemon.preparing import Preparing, Ready
from daemon.turns import Lane, Turns
from state.changes import reusable
from state.errors import Rejected, Unavailable
from state.model import Change, Embedding, Pixels, Quarantined, Reason, StoredImage, Vectors
from state.ports import Encoder, Journal, Source, Store


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the pipeline.

    :param fetches: pictures being fetched or decoded at once, over all projects
    :param batches: batches being encoded at once, at most
    :param max_pixels: largest picture that is decoded, by its header
    :param fetch_bytes: volume of the pictures being fetched or decoded at once
    :param batch: pictures in a batch, at most
    """

    fetches: int = 16
    batches: int = 2
    max_pixels: int = 100_000_000
    fetch_bytes: int = 256 * 2**20
    batch: int = 32


class Pipeline:
    """Makes vectors of changed images and writes them, for any number of projects at once.

    :param threads: where pictures are decoded
    :param clock: monotonic seconds
    :param now: seconds since the epoch, for people only
    :param lane: what batches give way to
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        store: Store,
        journal: Journal,
        epochs: Epochs,
        threads: Executor,
        limits: Limits,
        clock: Callable[[], float],
        now: Callable[[], float],
        failpoints: Failpoints,
        on_batch: Callable[[str], None] = lambda outcome: None,
        lane: Lane | None = None,
    ) -> None:
        self._encoder, self._store, self._journal, self._epochs = encoder, store, journal, epochs
        self._limits = limits
        self._preparing = Preparing(
            *(source, encoder, journal, threads, now),
            *(limits.fetches, limits.fetch_bytes, limits.max_pixels),
        )
        self._encoding = Encoding(encoder, clock, on_batch)
        self._clock, self._now = clock, now
        self._failpoints = failpoints
        self._lane = lane or Lane()
        self._pace = Pace(encoder.batch_size, limits.batches, limits.batch)
        self._slots = Turns(self._pace.load.in_flight)
        self._in_flight: dict[str, asyncio.Future[None]] = {}

    @property
    def busy(self) -> Busy:
        """How much of the time the encoder had work."""
        return self._encoding.busy

    async def run(
        self,
        collection: str,
        changes: AsyncIterator[Change],
        on_written: Callable[[Written], None],
    ) -> Outcome:
        """Encode what comes out of `changes` and write it, each vector under the epoch of its answer.

        :param on_written: told of each batch

        :raises Inconsistent: what the listing behind `changes` raises
        :raises Unavailable: when a service is away, or the encoder is not `collection` any more
        """
        outcome = Outcome()
        prepared: asyncio.Queue[Ready | None] = asyncio.Queue(2 * self._limits.batch)
        ahead = asyncio.Semaphore(self._limits.fetches)

        async def prepare_all() -> None:
            async with asyncio.TaskGroup() as preparing:
                async for change in changes:
                    await ahead.acquire()
                    task = preparing.create_task(self._prepare(change, prepared, outcome))
                    task.add_done_callback(lambda _: ahead.release())
            await prepared.put(None)

        async def batches() -> None:
            async with asyncio.TaskGroup() as encoding:
                async for batch in self._batches(prepared):
                    await self._slots.acquire(outcome)
                    task = encoding.create_task(self._batch(collection, batch, outcome, on_written))
                    task.add_done_callback(lambda _: self._slots.release(outcome))

        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(prepare_all())
                stages.create_task(batches())
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        return outcome

    async def _prepare(self, change: Change, prepared: asyncio.Queue[Ready | None], outcome: Outcome) -> None:
        if ready := await self._preparing.prepare(change, outcome):
            await prepared.put(ready)

    async def _batches(self, prepared: asyncio.Queue[Ready | None]) -> AsyncIterator[list[Ready]]:
        batch: list[Ready] = []
        while one := await prepared.get():
            batch.append(one)
            if len(batch) >= self._pace.load.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _batch(
        self, collection: str, batch: list[Ready], outcome: Outcome, on_written: Callable[[Written], None]
    ) -> None:
        await self._lane.give_way()
        contents = {one.content for one in batch}
        while twins := [self._in_flight[content] for content in contents if content in self._in_flight]:
            await asyncio.wait(twins)
        started = self._clock()
        written = asyncio.get_running_loop().create_future()
        self._in_flight.update(dict.fromkeys(contents, written))
        try:
            done = await self._encode_and_write(collection, batch, outcome)
        finally:
            for content in contents:
                del self._in_flight[content]
            written.set_result(None)
        now = self._clock()
        self._pace.note(done.encoded, now - started, now)
        self._slots.resize(self._pace.load.in_flight)
        outcome.encoded += done.encoded
        outcome.reused += done.reused
        on_written(done)

    async def _encode_and_write(self, collection: str, batch: list[Ready], outcome: Outcome) -> Written:
        began = self._epochs.current
        wanted = {one.content for one in batch if _may_reuse(one.change)}
        found = await self._store.with_contents(collection, wanted) if wanted else {}
        fresh = {
            one.content: one.pixels for one in batch if not (one.content in found and _may_reuse(one.change))
        }
        vectors = await self._encode(fresh)
        epoch = self._epochs.current  # before anything else is waited for: it is the answer's
        points, rejected = [], []
        for one in batch:
            known = found.get(one.content) if _may_reuse(one.change) else None
            result = known.vector if known else vectors[one.content]
            if isinstance(result, Rejected):
                rejected.append((one, str(result)))
            elif known:
                points.append(Embedding(known.image.tagged_as(one.change.wanted), result))
            else:
                proof = StoredImage.of(one.change.wanted, one.content, one.route, epoch)
                points.append(Embedding(proof, result))
        self._failpoints.reach("pipeline.before_upsert")
        async with self._epochs.writing(began):
            if self._encoder.id != collection:
                raise Unavailable(SERVICE, "the encoder changed meanwhile")
            if points:
                await self._store.upsert(collection, points)
        self._failpoints.reach("pipeline.after_upsert")
        await self._set_aside(collection, rejected)
        outcome.quarantined.update(one.change.wanted.id for one, _ in rejected)
        encoded = sum(not isinstance(one, Rejected) for one in vectors.values())
        return Written(
            changes=[one.change for one in batch],
            image_ids=[point.image.id for point in points],
            encoded=encoded,
            reused=len(points) - encoded,
        )

    async def _encode(self, pixels: dict[str, Pixels | Rejected]) -> dict[str, Vectors | Rejected]:
        results: dict[str, Vectors | Rejected] = {
            content: one for content, one in pixels.items() if isinstance(one, Rejected)
        }
        pictures = {content: one for content, one in pixels.items() if not isinstance(one, Rejected)}
        self._failpoints.reach("pipeline.before_encode")
        try:
            encoded = await self._encoding.encode(list(pictures.values())) if pictures else []
        except Unavailable:
            self._pace.failed(self._clock())
            self._slots.resize(self._pace.load.in_flight)
            raise
        results.update(zip(pictures, encoded, strict=True))
        return results

    async def _set_aside(self, collection: str, rejected: list[tuple[Ready, str]]) -> None:
        """Quarantine pictures, and take away what was made of the bytes they had before."""
        if not rejected:
            return
        now = self._now()
        await self._journal.quarantine(
            collection,
            [
                Quarantined(image.id, image.project_id, image.name, image.path, one.content, why, now)
                for one, why in rejected
                if (image := one.change.wanted)
            ],
        )
        for one, _ in rejected:
            stored = one.change.stored
            if stored and stored.content != one.content:
                await self._store.remove(collection, stored.project_id, [stored.id])


def _may_reuse(change: Change) -> bool:
    return reusable(change) or change.reason is Reason.UNKNOWN


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that stopped the run; the others only follow from it."""
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
