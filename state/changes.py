"""What has to change so that the store is the cache the source asks for. Pure, streaming.

Two listings, both in ascending order of id, are merged page by page; memory does not grow with the
project. Freshness is decided by the content hash alone (and the encoder's id, which is the
collection the stored side comes from), never by a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from state.errors import Inconsistent
from state.model import Action, Change, Embedding, ImageRef, Reason, StoredImage
from state.ports import Forced

HELD_FRACTION = 0.2
HELD_AT_LEAST = 50
HELD_ABOVE = 1_000
"""Removals are suspicious above 20 % of a project and at least 50 images, or above 1,000 images."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one stretch of ids needs: how many images are fresh, and a change for each other one.

    :param unshown: fresh images whose embedding the source's users do not see
    """

    fresh: int
    changes: list[Change]
    unshown: list[int] = field(default_factory=list)


async def diff(
    wanted: AsyncIterator[list[ImageRef]],
    stored: AsyncIterator[list[StoredImage]],
    forced: Forced,
    fallback_routes: frozenset[str] = frozenset(),
) -> AsyncIterator[Step]:
    """Merge what the source lists with what the store has.

    Removals are proposals: the caller carries them out last, and only after both listings ended well.

    :raises Inconsistent: when a listing is not strictly ascending, or says so itself
    """
    images, proofs = _Pages(wanted), _Pages(stored)
    while True:
        await images.fill()
        await proofs.fill()
        ends = [side.rows[-1].id for side in (images, proofs) if side.rows]
        if not ends:
            return
        yield compare(images.take(min(ends)), proofs.take(min(ends)), forced, fallback_routes)


def compare(
    wanted: Sequence[ImageRef],
    stored: Sequence[StoredImage],
    forced: Forced,
    fallback_routes: frozenset[str] = frozenset(),
) -> Step:
    """Compare two whole answers about the same images."""
    proofs = {proof.id: proof for proof in stored}
    changes = [
        change
        for image in wanted
        if (change := _change(image, proofs.pop(image.id, None), forced, fallback_routes))
    ]
    fresh = len(wanted) - len(changes)
    unshown = {image.id for image in wanted if not image.shown}.difference(
        change.image_id for change in changes
    )
    changes += [Change(Action.REMOVE, Reason.GONE, None, proof) for proof in proofs.values()]
    return Step(fresh, changes, sorted(unshown))


def _change(
    image: ImageRef, proof: StoredImage | None, forced: Forced, fallback_routes: frozenset[str]
) -> Change | None:
    if proof is None:
        return Change(Action.ENCODE, Reason.NEW, image, None)
    if image.content is None:
        if image.updated_at != proof.updated_at:
            return Change(Action.ENCODE, Reason.UNKNOWN, image, proof)
    elif image.content != proof.content:
        return Change(Action.ENCODE, Reason.CHANGED, image, proof)
    if forced.stale(proof):
        return Change(Action.ENCODE, Reason.FORCED, image, proof)
    if proof.route in fallback_routes:
        return Change(Action.ENCODE, Reason.FALLBACK, image, proof)
    if (
        image.name != proof.name
        or image.dataset_id != proof.dataset_id
        or image.path != proof.path
        or image.project_id != proof.project_id
    ):
        return Change(Action.RETAG, Reason.RENAMED, image, proof)
    return None


def reusable(change: Change) -> bool:
    """Whether the same bytes, embedded elsewhere, would do."""
    return change.action is Action.ENCODE and change.reason in (Reason.NEW, Reason.CHANGED)


def reuse(changes: Sequence[Change], found: Mapping[str, Embedding]) -> list[Change]:
    """Turn encodings into reuses where the store has the same bytes, under whatever image."""

    def cheaper(change: Change) -> Change:
        same = found.get(change.image.content or "") if change.image and reusable(change) else None
        return Change(Action.REUSE, Reason.SAME_BYTES, change.image, same.image) if same else change

    return [cheaper(change) for change in changes]


def suspicious(removals: int, stored: int) -> bool:
    """Whether so many images vanishing at once from a project of `stored` must be confirmed first.

    An answer that leaves nothing of a project is suspicious, however small the project.
    """
    many = removals > HELD_ABOVE or (removals >= HELD_AT_LEAST and removals > HELD_FRACTION * stored)
    return many or 0 < removals == stored


class _Row(Protocol):
    @property
    def id(self) -> int: ...


_AnyRow = TypeVar("_AnyRow", bound=_Row)


class _Pages(Generic[_AnyRow]):
    """A listing being read: the part of its latest page that is not merged yet."""

    def __init__(self, pages: AsyncIterator[list[_AnyRow]]) -> None:
        self.rows: list[_AnyRow] = []
        self._pages = pages
        self._last = -1

    async def fill(self) -> None:
        """Read on until there are rows, or the listing has ended."""
        while not self.rows:
            page = await anext(self._pages, None)
            if page is None:
                return
            ids = [self._last, *(row.id for row in page)]
            if any(one >= next_one for one, next_one in pairwise(ids)):
                raise Inconsistent("a listing is not in ascending order of id")
            self._last = ids[-1]
            self.rows = page

    def take(self, bound: int) -> list[_AnyRow]:
        """Take the rows with ids up to `bound`."""
        end = bisect_right(self.rows, bound, key=lambda row: row.id)
        taken, self.rows = self.rows[:end], self.rows[end:]
        return taken
