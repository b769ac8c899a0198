"""Whole batches over the wire, into the store: what a bad picture costs, and what a sick service must not."""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from clip_emulator import ClipEmulator, Fault
from clip_emulator.faults import Kind
from PIL import Image
from recognising import recognise

from daemon.breaker import Breaker
from daemon.encoders.clip_http import HttpClip
from daemon.encoders.member import Member
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.outcome import Outcome
from daemon.pictures import content_hash
from daemon.pipeline import Limits, Pipeline
from state.errors import Unavailable
from state.journal import SqliteJournal
from state.model import Action, Change, ImageRef, Picture, Reason
from state.ports import Reserve
from state.stores.memory import MemoryStore

PICTURES, CORRUPT = 64, 41
MAGENTA = (255, 0, 255)


def drawn(number: int) -> bytes:
    colour = MAGENTA if number == CORRUPT else (3 * number, 255 - 3 * number, 40)
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def is_magenta(pixels: np.ndarray) -> bool:
    return bool(np.abs(pixels.mean(axis=(0, 1)) - MAGENTA).max() < 5)


class Drawings:
    """A source of pictures by number."""

    delivers_whole = True

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        data = drawn(image.id)
        await reserve(len(data))
        return Picture(data, content_hash(data), "drawn")


class Run:
    """A pipeline between the drawings and a store in memory, over the real wire.

    :ivar batches: what became of each
    """

    def __init__(self, encoder: HttpClip, directory: Path) -> None:
        self.store = MemoryStore()
        self.journal = SqliteJournal(directory / "journal.sqlite")
        self.batches: Counter[str] = Counter()
        self._encoder = encoder
        breaker = Breaker("clip", time.monotonic, lambda longest: longest)
        self._member = Member(encoder.name, encoder, breaker)
        # Nobody looks at the canaries of a member in doubt here, so there is nothing to wait for.
        self._pool = Pool("clip", PICTURES, 224, [self._member], patience=0.05)

    async def recognise(self) -> None:
        self.collection = await recognise(self._encoder, self.store)
        assert self._encoder.dimension
        self._member.recognised_as(self.collection)
        self._pool.work_as(self.collection, self._encoder.dimension)

    async def outcome(self) -> Outcome:
        async def changes() -> AsyncIterator[Change]:
            for number in range(PICTURES):
                yield Change(Action.ENCODE, Reason.NEW, ImageRef(number, 1, 1, f"{number}.png", None), None)

        with ThreadPoolExecutor(2) as threads:
            pipeline = Pipeline(
                *(Drawings(), self._pool, self.store, self.journal, Epochs(1), threads),
                *(Limits(batches=1, batch=PICTURES), time.monotonic, time.time, Failpoints()),
                lambda outcome: self.batches.update([outcome]),
            )
            return await pipeline.run(self.collection, changes(), lambda written: None)

    async def quarantined(self) -> set[int]:
        return {one.image_id for one in await self.journal.quarantined(self.collection)}

    async def stored(self) -> set[int]:
        return {image.id for image in await self.store.images(self.collection, range(PICTURES))}


@pytest.fixture
async def run(encoder: HttpClip, tmp_path: Path) -> AsyncIterator[Run]:
    run = Run(encoder, tmp_path)
    await run.recognise()
    yield run
    await run.journal.close()


@pytest.mark.parametrize("refusal", ["error", "nan", "null"])
async def test_one_bad_picture_in_a_batch_of_64_is_set_aside_alone_and_cheaply(
    clip: ClipEmulator, run: Run, refusal: Literal["error", "nan", "null"]
) -> None:
    clip.refuses, clip.refusal = is_magenta, refusal
    before = clip.requests
    assert (await run.outcome()).quarantined == await run.quarantined() == {CORRUPT}
    assert await run.stored() == set(range(PICTURES)) - {CORRUPT}
    wasted = clip.requests - before - run.batches["encoded"]
    assert run.batches["rejected"] < wasted <= 2 * math.log2(PICTURES)


@pytest.mark.parametrize("kind", ["error", "nan", "zero", "null", "dimension", "doubled"])
async def test_a_sick_service_condemns_no_picture(clip: ClipEmulator, run: Run, kind: Kind) -> None:
    clip.faults.add(Fault(kind))
    with pytest.raises(Unavailable):
        await run.outcome()
    assert await run.quarantined() == set()
    assert await run.stored() == set()


async def test_a_service_that_was_away_encodes_the_same_pictures_when_it_is_back(
    clip: ClipEmulator, run: Run
) -> None:
    await clip.stop()
    with pytest.raises(Unavailable):
        await run.outcome()
    await clip.start()
    await run.recognise()
    await run.outcome()
    assert await run.stored() == set(range(PICTURES))
    assert await run.quarantined() == set()
