"""What the diff concludes from two listings."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.changes import compare, diff, reuse, suspicious
from state.errors import Inconsistent, Unavailable
from state.journal import ForcedImages
from state.model import Action, Change, Embedding, ImageRef, Reason, StoredImage

NOTHING = ForcedImages()
Row = TypeVar("Row")


def image(image_id: int, content: str | None = "a", **fields: object) -> ImageRef:
    return replace(ImageRef(image_id, 1, 10, f"{image_id}.jpg", content, f"p/{image_id}.jpg"), **fields)


def proof(image_id: int, content: str = "a", **fields: object) -> StoredImage:
    return replace(StoredImage(image_id, 1, 10, f"{image_id}.jpg", content, f"p/{image_id}.jpg"), **fields)


async def pages(*parts: Sequence[Row], then: Exception | None = None) -> AsyncIterator[list[Row]]:
    for part in parts:
        yield list(part)
    if then:
        raise then


def cut(rows: Sequence[Row], cuts: Iterable[int]) -> list[Sequence[Row]]:
    """Cut a listing into pages at these places; equal places make empty pages."""
    places = [0, *sorted(place % (len(rows) + 1) for place in cuts), len(rows)]
    return [rows[start:end] for start, end in pairwise(places)]


async def changes_of(
    wanted: AsyncIterator[list[ImageRef]],
    stored: AsyncIterator[list[StoredImage]],
    forced: ForcedImages = NOTHING,
) -> tuple[int, list[Change]]:
    steps = [step async for step in diff(wanted, stored, forced)]
    return sum(step.fresh for step in steps), [change for step in steps for change in step.changes]


def expected(images: Mapping[int, ImageRef], proofs: Mapping[int, StoredImage]) -> dict[int, Action]:
    """The diff as one would write it with both listings in memory."""
    verdicts = {}
    for image_id in images.keys() | proofs.keys():
        wanted, stored = images.get(image_id), proofs.get(image_id)
        if wanted is None:
            verdicts[image_id] = Action.REMOVE
        elif stored is None or wanted.content != stored.content:
            verdicts[image_id] = Action.ENCODE
        elif (wanted.name, wanted.dataset_id) != (stored.name, stored.dataset_id):
            verdicts[image_id] = Action.RETAG
    return verdicts


IDS = st.integers(0, 30)
FIELDS = st.tuples(st.sampled_from("ab"), st.sampled_from("nm"), st.integers(1, 2))
LISTINGS = st.dictionaries(IDS, FIELDS)
CUTS = st.lists(st.integers(0, 31), max_size=8)


@given(LISTINGS, LISTINGS, CUTS, CUTS)
async def test_whatever_the_pages_the_diff_is_that_of_two_whole_listings(
    source: dict[int, tuple[str, str, int]],
    store: dict[int, tuple[str, str, int]],
    source_cuts: list[int],
    store_cuts: list[int],
) -> None:
    images = {key: image(key, c, name=n, dataset_id=d) for key, (c, n, d) in sorted(source.items())}
    proofs = {key: proof(key, c, name=n, dataset_id=d) for key, (c, n, d) in sorted(store.items())}
    fresh, changes = await changes_of(
        pages(*cut(list(images.values()), source_cuts)), pages(*cut(list(proofs.values()), store_cuts))
    )
    assert {change.image_id: change.action for change in changes} == expected(images, proofs)
    assert len(changes) == len({change.image_id for change in changes})
    assert fresh == len(images) - sum(change.action is not Action.REMOVE for change in changes)
    assert all(change.image == images.get(change.image_id) for change in changes)
    assert all(change.stored == proofs.get(change.image_id) for change in changes)


@pytest.mark.parametrize(
    "parts",
    [
        [[1, 1]],
        [[2, 1]],
        [[1, 2], [2]],
        [[5], [1]],
        [[1], [], [0]],
    ],
)
@pytest.mark.parametrize("side", ["source", "store"])
async def test_a_listing_that_does_not_ascend_proves_nothing(parts: list[list[int]], side: str) -> None:
    bad_images = pages(*[[image(one) for one in part] for part in parts])
    bad_proofs = pages(*[[proof(one) for one in part] for part in parts])
    with pytest.raises(Inconsistent):
        await changes_of(*((bad_images, pages()) if side == "source" else (pages(), bad_proofs)))


@pytest.mark.parametrize("problem", [Inconsistent("not whole"), Unavailable("source", "away")])
@pytest.mark.parametrize("side", ["source", "store"])
async def test_a_listing_that_breaks_off_is_not_taken_for_a_short_one(problem: Exception, side: str) -> None:
    if side == "source":
        listings = pages([image(1)], then=problem), pages([proof(1)], [proof(2), proof(3)])
    else:
        listings = pages([image(1)], [image(2)]), pages([proof(1)], then=problem)
    with pytest.raises(type(problem)):
        await changes_of(*listings)


async def test_a_page_of_the_source_is_compared_before_the_next_one_is_read() -> None:
    read = []

    async def source() -> AsyncIterator[list[ImageRef]]:
        for number in range(3):
            read.append(number)
            yield [image(number)]

    steps = diff(source(), pages(), NOTHING)
    await anext(steps)
    assert read == [0]
    await steps.aclose()


def only(wanted: ImageRef | None, stored: StoredImage | None, **asked: object) -> Change | None:
    step = compare([wanted] if wanted else [], [stored] if stored else [], **{"forced": NOTHING, **asked})
    assert step.fresh == (not step.changes)
    return step.changes[0] if step.changes else None


@pytest.mark.parametrize(
    ("wanted", "stored", "action", "reason"),
    [
        (image(1), None, Action.ENCODE, Reason.NEW),
        (image(1, "b"), proof(1), Action.ENCODE, Reason.CHANGED),
        (image(1, None, updated_at="tue"), proof(1, updated_at="mon"), Action.ENCODE, Reason.UNKNOWN),
        (image(1, name="new"), proof(1), Action.RETAG, Reason.RENAMED),
        (image(1, dataset_id=11), proof(1), Action.RETAG, Reason.RENAMED),
        (image(1, path="q/1.jpg"), proof(1), Action.RETAG, Reason.RENAMED),
        (image(1, project_id=2), proof(1), Action.RETAG, Reason.RENAMED),
        (None, proof(1), Action.REMOVE, Reason.GONE),
    ],
)
def test_each_difference_has_one_remedy(
    wanted: ImageRef | None, stored: StoredImage | None, action: Action, reason: Reason
) -> None:
    change = only(wanted, stored)
    assert change is not None
    assert (change.action, change.reason) == (action, reason)


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        (image(1), proof(1)),
        (image(1, updated_at="later"), proof(1, updated_at="earlier")),
        (image(1, None, updated_at="mon"), proof(1, "whatever", updated_at="mon")),
        (image(1), proof(1, route="cas", epoch=7)),
    ],
)
def test_the_same_bytes_are_fresh_whatever_the_clock_says(wanted: ImageRef, stored: StoredImage) -> None:
    assert only(wanted, stored) is None


def test_a_wish_to_encode_again_is_stronger_than_the_hash() -> None:
    change = only(image(1), proof(1, epoch=4), forced=ForcedImages(project=5))
    assert change is not None
    assert change.reason is Reason.FORCED
    assert only(image(1), proof(1, epoch=5), forced=ForcedImages(project=5)) is None
    assert only(image(1), proof(1, epoch=4), forced=ForcedImages(images={2: 5})) is None


def test_a_vector_from_a_fallback_route_is_stale() -> None:
    change = only(image(1), proof(1, route="preview"), fallback_routes=frozenset({"preview"}))
    assert change is not None
    assert change.reason is Reason.FALLBACK


def test_known_bytes_are_reused_under_whatever_image_they_are_stored() -> None:
    changes = compare([image(1, "x"), image(2, "y"), image(3, "z")], [proof(2)], NOTHING).changes
    elsewhere = Embedding(proof(99, "y", project_id=7), np.ones(1, np.float32))
    new, changed, unknown = reuse(changes, {"x": elsewhere, "y": elsewhere})
    assert (new.action, new.stored) == (Action.REUSE, elsewhere.image)
    assert (changed.action, changed.reason) == (Action.REUSE, Reason.SAME_BYTES)
    assert unknown.action is Action.ENCODE


def test_a_forced_encoding_is_never_turned_into_a_reuse() -> None:
    changes = compare([image(1)], [proof(1)], ForcedImages(project=1)).changes
    assert reuse(changes, {"a": Embedding(proof(1), np.ones(1, np.float32))}) == changes


def test_an_image_without_a_hash_is_not_confused_with_another_one() -> None:
    changes = compare([image(1, None)], [], NOTHING).changes
    assert reuse(changes, {"a": Embedding(proof(2), np.ones(1, np.float32))}) == changes


@pytest.mark.parametrize(
    ("removals", "stored", "held"),
    [
        (0, 0, False),
        (0, 1_000_000, False),
        (49, 100, False),
        (50, 100, True),
        (50, 250, False),
        (51, 250, True),
        (1_000, 1_000_000, False),
        (1_001, 1_000_000, True),
        (1, 1, True),
        (49, 49, True),
        (1, 2, False),
    ],
)
def test_many_images_gone_at_once_are_suspicious(removals: int, stored: int, held: bool) -> None:
    assert suspicious(removals, stored) is held
