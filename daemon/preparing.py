"""Fetching and decoding: from a change to a picture that is ready for the encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from daemon.outcome import Outcome
from daemon.pictures import content_hash, decode
from daemon.room import Room
from state.errors import Inconsistent, Rejected, Unavailable
from state.model import Change, Pixels
from state.ports import Encoder, Journal, Reserve, Source

DAMAGED_TRIES, DAMAGED_SECONDS = 3, 600.0
"""How often, and over how long, a download must come with the same damage to condemn the picture."""

MOST_LEFT = 1_000
"""So many pictures that cannot be had mean that the source is away."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A picture decoded for the encoder, or why it cannot be."""

    change: Change
    content: str
    route: str
    pixels: Pixels | Rejected


class Preparing:
    """Fetches and decodes pictures, a bounded number and a bounded volume of them at once.

    The volume is that of the files. What they are decoded to is small, 150 KB at 224 pixels, and bounded
    by number: a batch waits for its last picture, which must not wait for room that its first ones take.

    :param threads: where pictures are decoded
    :param now: seconds since the epoch, for people only
    :param at_once: pictures being fetched or decoded at once
    :param bytes_at_once: volume of their files
    :param max_pixels: largest picture that is decoded, by its header
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        journal: Journal,
        threads: Executor,
        now: Callable[[], float],
        at_once: int,
        bytes_at_once: int,
        max_pixels: int,
    ) -> None:
        self._source, self._encoder, self._journal = source, encoder, journal
        self._threads = threads
        self._now = now
        self._places = asyncio.Semaphore(at_once)
        self._room = Room(bytes_at_once)
        self._max_pixels = max_pixels

    async def prepare(self, change: Change, outcome: Outcome) -> Ready | None:
        """Return the picture ready for the encoder; ``None`` when it is to be looked at another time.

        :raises Unavailable: when too many pictures cannot be had
        """
        async with self._places:
            with self._room.claim() as reserve:
                return await self._fetch(change, outcome, reserve)

    async def _fetch(self, change: Change, outcome: Outcome, reserve: Reserve) -> Ready | None:
        image = change.wanted
        try:
            picture = await self._source.fetch(image, reserve)
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
            return Ready(change, image.content or "", "", problem)
        pixels: Pixels | Rejected
        try:
            pixels = await asyncio.get_running_loop().run_in_executor(
                self._threads, decode, picture.data, self._encoder.picture_side, self._max_pixels
            )
        except Rejected as problem:
            if not self._source.delivers_whole and not await self._really_damaged(image.id, picture.data):
                outcome.doubtful.add(image.id)
                return None
            pixels = problem
        return Ready(change, picture.content, picture.route, pixels)

    async def _really_damaged(self, image_id: int, data: bytes) -> bool:
        """Whether a picture came with the same damage often enough, over long enough, to be its own."""
        now = self._now()
        since, tries = await self._journal.suspect(image_id, content_hash(data), now)
        return tries >= DAMAGED_TRIES and now - since >= DAMAGED_SECONDS
