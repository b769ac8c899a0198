"""A platform's images, the vectors an earlier service left of them, and what adopts those."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from qdrant_emulator import QdrantEmulator

from daemon.adoption import Adopted, Adoption
from daemon.adoption_sample import Sampling
from daemon.encoding import Encoding
from daemon.epochs import Epochs
from daemon.pictures import encode_jpeg
from state.errors import Inconsistent, Rejected, Unavailable
from state.model import EncoderRecord, ImageRef, Picture, Pixels, Project, Scope, TextEmbeddings, Vectors
from state.ports import Reserve
from state.stores.memory import MemoryStore
from state.stores.qdrant_incumbent import QdrantIncumbent

ENCODER_ID = "clip-1"
PROJECT = Project(7, "seven")
ROUTE = "preview"


def drawn(image_id: int) -> Pixels:
    """The picture of an image: two colours of its own."""
    colours = np.random.default_rng(image_id).integers(0, 256, (2, 1, 3), np.uint8)
    return colours.repeat(16, axis=0).repeat(32, axis=1)


def _colours(pixels: Pixels) -> Any:
    return pixels[[4, -5], 16].reshape(6)


class Model:
    """A model whose vectors depend on what is seen, and on its seed.

    :ivar encoded: how many pictures it encoded
    """

    kind, batch_size, picture_side = "clip", 8, 224
    id: str | None = ENCODER_ID

    def __init__(self, seed: int = 0, dimension: int = 32) -> None:
        self.dimension: int | None = dimension
        self._directions = np.random.default_rng(seed).standard_normal((6, dimension))
        self.encoded = 0

    async def encode_images(self, pictures: Sequence[Pixels]) -> Vectors:
        self.encoded += len(pictures)
        return self._vectors([_colours(one) for one in pictures])

    def of(self, ids: Iterable[int]) -> Vectors:
        """What it made of these images once, of pictures whose colours were a little off."""
        return self._vectors([_colours(drawn(image_id)) for image_id in ids])

    def _vectors(self, colours: Sequence[Any]) -> Vectors:
        rows = (np.array(colours, np.float64) - 127.5) @ self._directions
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    async def encode_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        raise Rejected("knows no words")

    async def close(self) -> None:
        pass


class Images:
    """The images of a platform, whose ids are numbers and whose hashes are theirs alone.

    :ivar gone: images whose picture the server has by no route
    :ivar away: images whose picture cannot be had now
    :ivar routes: of those that are fetched by another route than the usual one
    :ivar fetched: how often each picture was fetched
    """

    identity, proves_absence, delivers_whole = "platform", False, False
    fallback_routes = frozenset({"original"})
    page_size = 1000

    def __init__(self) -> None:
        self.refs: dict[int, ImageRef] = {}
        self.gone: set[int] = set()
        self.away: set[int] = set()
        self.routes: dict[int, str] = {}
        self.fetched: Counter[int] = Counter()

    def add(self, ids: Iterable[int]) -> None:
        for image_id in ids:
            name, time = f"{image_id}.jpg", f"2024-05-01T10:00:00.{image_id:06}Z"
            self.refs[image_id] = ImageRef(
                image_id, PROJECT.id, image_id % 3, name, f"hash {image_id}", f"/storage/{name}", time
            )

    def change(self, ids: Iterable[int], **what: Any) -> None:
        for image_id in ids:
            self.refs[image_id] = replace(self.refs[image_id], **what)

    async def survey(self) -> Mapping[Project, Scope]:
        return {PROJECT: Scope(full=True), Project(8, "quiet"): Scope()}

    async def project(self, ref: int | str) -> Project | None:
        return PROJECT if ref == PROJECT.id else None

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        return {PROJECT.id: frozenset(image_ids)}

    async def count(self, project_id: int) -> int:
        return len(self.refs)

    async def images(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        listed = [one for _, one in sorted(self.refs.items())]
        for start in range(0, len(listed), self.page_size):
            yield listed[start : start + self.page_size]

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        self.fetched[image.id] += 1
        if image.id in self.gone:
            raise Inconsistent("the picture is not there")
        if image.id in self.away:
            raise Unavailable("source", "a picture: status 503")
        route = self.routes.get(image.id, ROUTE)
        # By another route comes something that looks different to the model.
        data = encode_jpeg(drawn(image.id) if route == ROUTE else 255 - drawn(image.id))
        await reserve(len(data))
        return Picture(data, image.content or "", route)

    async def changes(self) -> AsyncIterator[Mapping[int, Scope]]:
        yield {}

    async def close(self) -> None:
        pass


class Stumbling(MemoryStore):
    """A store that is away after so many writes; ``None``: never."""

    most: int | None = None

    async def upsert(self, collection: str, points: Sequence[Any]) -> None:
        if self.most == 0:
            raise Unavailable("qdrant", "away")
        if self.most is not None:
            self.most -= 1
        await super().upsert(collection, points)


class World:
    """Everything an adoption is about.

    :ivar qdrant: the server that has the earlier service's collections
    """

    def __init__(
        self,
        qdrant: QdrantEmulator,
        incumbent: QdrantIncumbent,
        threads: ThreadPoolExecutor,
        dimension: int,
    ) -> None:
        self.qdrant, self.incumbent = qdrant, incumbent
        self.source, self.model, self.store = Images(), Model(dimension=dimension), Stumbling()
        self.epochs = Epochs(1)
        self._threads = threads

    async def open(self) -> None:
        dimension = self.model.dimension or 0
        canaries = np.eye(3, dimension, dtype=np.float32)
        await self.store.add_encoder(EncoderRecord(ENCODER_ID, "clip", dimension, canaries))
        await self.store.next_epoch()

    def leave(
        self, ids: Collection[int], vectors: Vectors | None = None, project_id: int = PROJECT.id
    ) -> None:
        """Leave vectors of these images, as the earlier service does: by default those of the very model."""
        vectors = self.model.of(ids) if vectors is None else vectors
        name, engine = str(PROJECT.id), self.qdrant.engine
        if name not in engine.collections:
            engine.create(name, {"vectors": {"size": vectors.shape[1], "distance": "Cosine"}})
            engine.create_index(name, {"field_name": "dataset_id", "field_schema": "keyword"})
        rows = zip(ids, vectors.tolist(), strict=True)
        points = [{"id": one, "vector": row, "payload": self._payload(one)} for one, row in rows]
        engine.upsert(name, {"points": points})

    def _payload(self, image_id: int) -> dict[str, object]:
        image = self.source.refs[image_id]
        url = f"https://platform{image.path}"
        return {
            "dataset_id": image.dataset_id,
            "full_url": url,
            "cas_url": f"{url}?cas",
            "updated_at": image.updated_at,
        }

    def adoption(self, dry_run: bool = False, seed: int = 0) -> Adoption:
        encoding = Encoding(self.model, time.monotonic, lambda outcome: None)
        return Adoption(
            self.incumbent,
            self.source,
            self.model,
            self.store,
            self.epochs,
            Sampling(self.source, self.model, encoding, self._threads, 10_000_000),
            Random(seed),
            dry_run,
        )

    async def adopt(self, dry_run: bool = False, seed: int = 0) -> Adopted:
        report = await self.adoption(dry_run, seed).adopt(PROJECT)
        assert report is not None
        return report

    async def stored(self) -> dict[int, Any]:
        """What our store has, by id."""
        ids = [image.id async for page in self.store.scroll(ENCODER_ID, PROJECT.id) for image in page]
        return {one.image.id: one for one in await self.store.embeddings(ENCODER_ID, ids)}
