"""Adoption: vectors of an earlier service become ours, at no encoding, where the evidence holds.

It kept, with each vector, the image's `updated_at` and no hash of what it encoded. An image that still has
that very `updated_at` has the bytes it had then; which bytes, its source says. That the vectors are of the
encoder at work, and whole, a random sample of each collection shows. What it shows nothing of is left to
the sync, which encodes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import numpy as np

from daemon.adoption_sample import DRAWN, Sampling
from daemon.encoders.soundness import SERVICE
from daemon.epochs import Epochs
from state.errors import Inconsistent, Rejected, Unavailable
from state.model import FULL, Embedding, ImageRef, Project, StoredImage, Vectors
from state.ports import Encoder, Source, Store

AT_ONCE = 256
"""Vectors read and written together."""

LENGTH_TOLERANCE = 1e-3

CHANGED, UNHASHED, ABSENT, DAMAGED = "changed since", "without a hash", "not in it", "damaged"
"""Why an image is left to be encoded. One without a hash would have to be fetched, and even then nobody knew
whether its link led to the same picture before."""


class Incumbent(Protocol):
    """The collections of the earlier service, one for each project; they are only read."""

    async def holds(self, project_id: int) -> tuple[int, int] | None:
        """Return how many vectors a project has, and their dimension; ``None`` where it has no collection.

        :raises Rejected: when its collection is of another kind
        """

    async def marks(self, project_id: int, ids: Sequence[int]) -> Mapping[int, str]:
        """Map those of these images that have a vector to the `updated_at` they had when it was made."""

    async def points(
        self, project_id: int, ids: Sequence[int], dimension: int
    ) -> Mapping[int, tuple[str, Vectors]]:
        """Map those of these images that have a vector to that `updated_at` and the vector."""

    async def close(self) -> None:
        """Let go."""


@dataclass(slots=True)
class Adopted:
    """What became of one project's collection.

    :param points: vectors in it
    :param adopted: of them, now; in a dry run those that would be
    :param present: images that have a vector here already
    :param left: how many images are left to be encoded, and why
    :param compared: pictures encoded again for the sample
    :param lowest: cosine in it
    :param refused: why nothing of it is adopted; ``None`` when it is
    """

    project_id: int
    name: str
    points: int = 0
    adopted: int = 0
    present: int = 0
    left: dict[str, int] = field(default_factory=dict)
    compared: int = 0
    lowest: float | None = None
    refused: str | None = None

    def leave(self, why: str, images: int = 1) -> None:
        """Count images that are left to be encoded."""
        if images:
            self.left[why] = self.left.get(why, 0) + images


class Adoption:
    """Adopts the collections of projects, one after the other; again, it goes on where it was.

    :param sampling: compares old vectors with those of the encoder at work
    :param random: draws the samples
    :param dry_run: whether all is looked at and nothing written
    """

    def __init__(
        self,
        incumbent: Incumbent,
        source: Source,
        encoder: Encoder,
        store: Store,
        epochs: Epochs,
        sampling: Sampling,
        random: Random,
        dry_run: bool = False,
    ) -> None:
        self._incumbent, self._source, self._encoder = incumbent, source, encoder
        self._store, self._epochs, self._sampling = store, epochs, sampling
        self._random = random
        self._dry_run = dry_run

    async def adopt(
        self, project: Project, on_points: Callable[[int, int], None] = lambda done, total: None
    ) -> Adopted | None:
        """Adopt what can be of a project's collection; ``None`` where it has none.

        :param on_points: told how many vectors of how many are adopted
        :raises Unavailable: when a service is away; what was adopted by then stays so
        """
        report = Adopted(project.id, project.name)
        try:
            held = await self._incumbent.holds(project.id)
            if held is None:
                return None
            report.points, dimension = held
            await self._adopt(report, dimension, on_points)
        except (Inconsistent, Rejected) as problem:
            report.refused = str(problem)
        return report

    async def _adopt(self, report: Adopted, dimension: int, on_points: Callable[[int, int], None]) -> None:
        collection = self._encoder.id
        if collection is None:
            raise Unavailable(SERVICE, "the encoder has not been recognised yet")
        if dimension != self._encoder.dimension:
            raise Rejected(
                f"its vectors have {dimension} dimensions, those of {collection} {self._encoder.dimension}"
            )
        drawn, count = await self._draw(report, collection)
        if not count:
            return
        began = self._epochs.current
        old = await self._incumbent.points(report.project_id, [one.id for one in drawn], dimension)
        drawn = [one for one in drawn if _still(old, one)]
        compared = await self._sampling.compare(drawn, {one.id: old[one.id][1] for one in drawn})
        report.compared, report.lowest = compared.pictures, compared.lowest
        if compared.problem:
            raise Rejected(compared.problem)
        if self._dry_run:
            report.adopted = count
            return
        candidates = self._candidates(report.project_id, collection, Adopted(report.project_id, report.name))
        async with aclosing(candidates) as pages:
            async for page in pages:
                for start in range(0, len(page), AT_ONCE):
                    some = page[start : start + AT_ONCE]
                    points = await self._vectors(report, some, dimension, compared.route)
                    await self._write(collection, began, points)
                    report.adopted += len(points)
                    on_points(report.adopted, count)
        if report.project_id not in await self._store.pointers():
            await self._store.set_pointer(report.project_id, collection)

    async def _draw(self, report: Adopted, collection: str) -> tuple[list[ImageRef], int]:
        """Return a random sample of the candidates in random order, and how many there are.

        By reservoir sampling: the n-th candidate takes a place with a chance of ``DRAWN / n`` (Vitter 1985,
        algorithm R).
        """
        drawn: list[ImageRef] = []
        count = 0
        async with aclosing(self._candidates(report.project_id, collection, report)) as pages:
            async for page in pages:
                for image in page:
                    count += 1
                    if len(drawn) < DRAWN:
                        drawn.append(image)
                    elif (place := self._random.randrange(count)) < DRAWN:
                        drawn[place] = image
        self._random.shuffle(drawn)
        return drawn, count

    async def _candidates(
        self, project_id: int, collection: str, report: Adopted
    ) -> AsyncGenerator[list[ImageRef], None]:
        """List the images that have no vector here, and an old one made when they were as they are now."""
        async for page in self._source.images(project_id, FULL):
            present = {one.id for one in await self._store.images(collection, [one.id for one in page])}
            report.present += len(present)
            missing = [one for one in page if one.id not in present]
            marks = await self._incumbent.marks(project_id, [one.id for one in missing])
            candidates = []
            for image in missing:
                if why := _why_not(image, marks):
                    report.leave(why)
                else:
                    candidates.append(image)
            yield candidates

    async def _vectors(
        self, report: Adopted, images: Sequence[ImageRef], dimension: int, route: str
    ) -> list[Embedding]:
        """Read old vectors, and give each its proof."""
        old = await self._incumbent.points(report.project_id, [one.id for one in images], dimension)
        still = [image for image in images if _still(old, image)]
        sound = [
            (image, content) for image in still if (content := image.content) and _is_sound(old[image.id][1])
        ]
        report.leave(CHANGED, len(images) - len(still))
        report.leave(DAMAGED, len(still) - len(sound))
        epoch = self._epochs.current
        return [
            Embedding(StoredImage.of(image, content, route, epoch), old[image.id][1])
            for image, content in sound
        ]

    async def _write(self, collection: str, began: int, points: Sequence[Embedding]) -> None:
        """Write, unless the sample turns out to have been compared with another model.

        :raises Unavailable: then
        """
        async with self._epochs.writing(began):
            if self._encoder.id != collection:
                raise Unavailable(SERVICE, "the encoder changed meanwhile")
            await self._store.upsert(collection, points)


def _why_not(image: ImageRef, marks: Mapping[int, str]) -> str | None:
    """Return why an image's old vector proves nothing; ``None`` where it does."""
    if image.id not in marks:
        return ABSENT
    if not image.updated_at or marks[image.id] != image.updated_at:
        return CHANGED
    return None if image.content else UNHASHED


def _still(old: Mapping[int, tuple[str, Vectors]], image: ImageRef) -> bool:
    return image.id in old and old[image.id][0] == image.updated_at


def _is_sound(vector: Vectors) -> bool:
    with np.errstate(all="ignore"):
        return bool(abs(np.linalg.norm(vector) - 1) <= LENGTH_TOLERANCE)
