"""fetch → decode → batch → encode → one upsert of vector and proof, bounded at every stage.

Fetches run ahead of the encoder, so that it never waits for a picture while there are any. The slots
are shared by all projects and taken in turn, so that a small project overtakes a large one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from daemon.encoding import Busy, Encoding
from daemon.failpoints import Failpoints
from daemon.pictures import content_hash, decode
from daemon.turns import Turns
from state.changes import reusable
from state.errors import Inconsistent, Rejected, Unavailable
from state.model import Change, Embedding, Pixels, Quarantined, Reason, StoredImage, Vectors
from state.ports import Encoder, Journal, Source, Store

DAMAGED_TRIES, DAMAGED_SECONDS = 3, 600.0
"""How often, and over how long, a download must come with the same damage to condemn the picture."""

MOST_LEFT = 1_000
"""So many pictures that cannot be had mean that the source is away."""


@dataclass(slots=True)
class Outcome:
    """What a look did; `left` are images to look at again: they changed meanwhile, or could not be had.

    :param problem: why some could not be had
    :param doubtful: images whose download came damaged, and may come whole another time
    """

    encoded: int = 0
    reused: int = 0
    retagged: int = 0
    quarantined: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    problem: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    :param changes: all it was about
    :param image_ids: those of its images that have their vector now
    """

    changes: Sequence[Change]
    image_ids: Sequence[int]
    encoded: int
    reused: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the pipeline.

    :param fetches: pictures being fetched or decoded at once, over all projects
    :param batches: batches being encoded at once
    :param max_pixels: largest picture that is decoded, by its header
    """

    fetches: int = 16
    batches: int = 2
    max_pixels: int = 100_000_000


@dataclass(frozen=True, slots=True)
class _Ready:
    """A picture decoded for the encoder, or why it cannot be."""

    change: Change
    content: str
    route: str
    pixels: Pixels | Rejected


class Pipeline:
    """Makes vectors of changed images and writes them, for any number of projects at once.

    :param threads: where pictures are decoded
    :param clock: monotonic seconds
    :param now: seconds since the epoch, for people only
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        store: Store,
        journal: Journal,
        threads: Executor,
        limits: Limits,
        clock: Callable[[], float],
        now: Callable[[], float],
        failpoints: Failpoints,
        on_batch: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._source, self._encoder, self._store, self._journal = source, encoder, store, journal
        self._threads = threads
        self._limits = limits
        self._encoding = Encoding(encoder, clock, on_batch)
        self._now = now
        self._failpoints = failpoints
        self._fetching = asyncio.Semaphore(limits.fetches)
        self._slots = Turns(limits.batches)
        self._in_flight: dict[str, asyncio.Future[None]] = {}

    @property
    def busy(self) -> Busy:
        """How much of the time the encoder had work."""
        return self._encoding.busy

    async def run(
        self,
        collection: str,
        epoch: int,
        changes: AsyncIterator[Change],
        on_written: Callable[[Written], None],
    ) -> Outcome:
        """Encode what comes out of `changes` and write it under `epoch`.

        :param on_written: told of each batch

        :raises Inconsistent: what the listing behind `changes` raises
        """
        outcome = Outcome()
        prepared: asyncio.Queue[_Ready | None] = asyncio.Queue(2 * self._encoder.batch_size)
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
                    task = encoding.create_task(self._batch(collection, epoch, batch, outcome, on_written))
                    task.add_done_callback(lambda _: self._slots.release(outcome))

        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(prepare_all())
                stages.create_task(batches())
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        return outcome

    async def _prepare(
        self, change: Change, prepared: asyncio.Queue[_Ready | None], outcome: Outcome
    ) -> None:
        async with self._fetching:
            ready = await self._fetch(change, outcome)
        if ready:
            await prepared.put(ready)

    async def _fetch(self, change: Change, outcome: Outcome) -> _Ready | None:
        image = change.wanted
        try:
            picture = await self._source.fetch(image)
        except Inconsistent:
            outcome.left.add(image.id)
            return None
        except Unavailable as problem:
            outcome.left.add(image.id)
            if len(outcome.left) > MOST_LEFT:
                raise
            outcome.problem = problem
            return None
        except Rejected as problem:
            return _Ready(change, image.content or "", "", problem)
        pixels: Pixels | Rejected
        try:
            pixels = await asyncio.get_running_loop().run_in_executor(
                self._threads, decode, picture.data, self._encoder.picture_side, self._limits.max_pixels
            )
        except Rejected as problem:
            if not self._source.delivers_whole and not await self._really_damaged(image.id, picture.data):
                outcome.doubtful.add(image.id)
                return None
            pixels = problem
        return _Ready(change, picture.content, picture.route, pixels)

    async def _really_damaged(self, image_id: int, data: bytes) -> bool:
        """Whether a picture came with the same damage often enough, over long enough, to be its own."""
        now = self._now()
        since, tries = await self._journal.suspect(image_id, content_hash(data), now)
        return tries >= DAMAGED_TRIES and now - since >= DAMAGED_SECONDS

    async def _batches(self, prepared: asyncio.Queue[_Ready | None]) -> AsyncIterator[list[_Ready]]:
        batch: list[_Ready] = []
        while one := await prepared.get():
            batch.append(one)
            if len(batch) == self._encoder.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _batch(
        self,
        collection: str,
        epoch: int,
        batch: list[_Ready],
        outcome: Outcome,
        on_written: Callable[[Written], None],
    ) -> None:
        contents = {one.content for one in batch}
        while twins := [self._in_flight[content] for content in contents if content in self._in_flight]:
            await asyncio.wait(twins)
        written = asyncio.get_running_loop().create_future()
        self._in_flight.update(dict.fromkeys(contents, written))
        try:
            done = await self._encode_and_write(collection, epoch, batch, outcome)
        finally:
            for content in contents:
                del self._in_flight[content]
            written.set_result(None)
        outcome.encoded += done.encoded
        outcome.reused += done.reused
        on_written(done)

    async def _encode_and_write(
        self, collection: str, epoch: int, batch: list[_Ready], outcome: Outcome
    ) -> Written:
        wanted = {one.content for one in batch if _may_reuse(one.change)}
        found = await self._store.with_contents(collection, wanted) if wanted else {}
        fresh = {
            one.content: one.pixels for one in batch if not (one.content in found and _may_reuse(one.change))
        }
        vectors = await self._encode(fresh)
        points, rejected = [], []
        for one in batch:
            known = found.get(one.content) if _may_reuse(one.change) else None
            result = known.vector if known else vectors[one.content]
            if isinstance(result, Rejected):
                rejected.append((one, str(result)))
            elif known:
                points.append(Embedding(known.image.tagged_as(one.change.wanted), result))
            else:
                points.append(Embedding(_proof(one, epoch), result))
        self._failpoints.reach("pipeline.before_upsert")
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
        encoded = await self._encoding.encode(list(pictures.values())) if pictures else []
        results.update(zip(pictures, encoded, strict=True))
        return results

    async def _set_aside(self, collection: str, rejected: list[tuple[_Ready, str]]) -> None:
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


def _proof(one: _Ready, epoch: int) -> StoredImage:
    image = one.change.wanted
    return StoredImage(
        id=image.id,
        project_id=image.project_id,
        dataset_id=image.dataset_id,
        name=image.name,
        content=one.content,
        path=image.path,
        updated_at=image.updated_at,
        route=one.route,
        epoch=epoch,
    )


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that stopped the run; the others only follow from it."""
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
