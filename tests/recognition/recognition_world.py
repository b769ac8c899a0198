"""Models that can be swapped behind an address, and everything that recognises them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from daemon.breaker import Breaker
from daemon.encoders.member import Member
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.recognition import Recognition
from state.errors import Rejected, Unavailable
from state.model import Embedding, Pixels, StoredImage, TextEmbeddings, Vectors
from state.stores.memory import MemoryStore

DIMENSION = 24
AWAY = Unavailable("clip", "refused")


class Server:
    """A model behind an address: a random projection of a picture's mean colours.

    :ivar seed: which model it runs
    :ivar problem: raised instead of every answer
    :ivar gate: answers wait for it
    :ivar refuses: whether every picture is rejected
    :ivar fails_at_pictures: whether it does not answer when it is given any
    :ivar fails_at_one: whether it does not answer when it is given a single one
    """

    kind = "clip"
    id = None
    batch_size = 8
    picture_side = 224

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.dimension = DIMENSION
        self.problem: Unavailable | None = None
        self.failures_left = 0
        self.refuses = False
        self.fails_at_pictures = self.fails_at_one = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.batches = 0
        self.closed = False

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        self.batches += 1
        await self._answers()
        if self.refuses:
            raise Rejected("no picture is good enough")
        if self.fails_at_pictures or (self.fails_at_one and len(pictures) == 1):
            raise Unavailable("clip", "no memory left")
        return project([picture[::28, ::28].ravel() / 255 for picture in pictures], self.seed)

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        await self._answers()
        return TextEmbeddings(project([[ord(letter) / 100 for letter in text] for text in texts], self.seed))

    async def close(self) -> None:
        self.closed = True

    async def _answers(self) -> None:
        self.asked += 1
        await self.gate.wait()
        if self.failures_left:
            self.failures_left -= 1
            raise Unavailable("clip", "stumbles")
        if self.problem:
            raise self.problem


def project(features: Sequence[Sequence[float]], seed: int) -> Vectors:
    rows = np.stack([np.resize(row, 192) for row in features])
    vectors = rows @ np.random.default_rng(seed).normal(size=(192, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def picture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (224, 224, 3), np.uint8)


class World:
    """Servers, the pool over them, and its recognition; time stands still until it is moved.

    :param patience: seconds that a call waits for a member in doubt
    """

    def __init__(self, *servers: Server, store: MemoryStore | None = None, patience: float = 0.0) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.servers = servers
        self.store = store or MemoryStore()
        self.epochs = Epochs(0)
        self.members = [self.member(f"clip-{i}", server) for i, server in enumerate(servers)]
        self.pool = Pool("clip", 8, 224, patience=patience)
        self.found: Sequence[Member] = self.members
        self.events: list[str] = []
        self.recognition = Recognition(
            self.pool,
            self.store,
            self.epochs,
            self._find,
            lambda: self.events.append("changed"),
            lambda: self.events.append("returned"),
            lambda: self.now,
        )
        self.recognition.on_mistaken = lambda: self.events.append("doubted")

    def member(self, name: str, server: Server, for_texts_only: bool = False) -> Member:
        breaker = Breaker("clip", lambda: self.now, lambda longest: longest)
        return Member(name, server, breaker, self._sleep, for_texts_only)

    async def round(self, after: float = 0.0) -> None:
        self.now += after
        await self.recognition.round()

    async def write(self, image_id: int) -> None:
        """Encode and write one image as the pipeline does."""
        began = self.epochs.current
        collection = self.pool.id
        assert collection is not None
        [vector] = await self.pool.encode_images([picture(image_id)])
        image = StoredImage(image_id, 1, 1, "", f"hash {image_id}", epoch=self.epochs.current)
        async with self.epochs.writing(began):
            await self.store.upsert(collection, [Embedding(image, vector)])

    async def stored(self, collection: str = "clip-24-1") -> list[int]:
        return [image.id async for page in self.store.scroll(collection, 1) for image in page]

    async def confirmed(self, encoder_id: str = "clip-24-1") -> int:
        return next(one.confirmed for one in await self.store.encoders() if one.id == encoder_id)

    async def _find(self, members: Sequence[Member]) -> Sequence[Member]:
        return self.found

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
