"""Scopes that merge, and plans that count."""

from hypothesis import given
from hypothesis import strategies as st

from state.model import (
    FULL,
    MAX_SCOPE_IDS,
    SAMPLES_PER_ACTION,
    Action,
    Change,
    ImageRef,
    Plan,
    Reason,
    Scope,
    StoredImage,
)

SCOPES = st.builds(
    Scope,
    full=st.booleans(),
    ids=st.frozensets(st.integers(0, 20)),
    since=st.none() | st.sampled_from(["2024-01-01", "2024-02-01"]),
)


def covers(scope: Scope, other: Scope) -> bool:
    late_enough = other.since is None or (scope.since is not None and scope.since <= other.since)
    return scope.full or (not other.full and scope.ids >= other.ids and late_enough)


@given(SCOPES, SCOPES)
def test_a_merged_scope_covers_both(one: Scope, other: Scope) -> None:
    merged = one.merge(other)
    assert covers(merged, one)
    assert covers(merged, other)


@given(SCOPES, SCOPES, SCOPES)
def test_the_order_of_merging_does_not_matter(one: Scope, two: Scope, three: Scope) -> None:
    assert one.merge(two) == two.merge(one)
    assert one.merge(two).merge(three) == one.merge(two.merge(three))


def test_a_full_scope_keeps_no_ids() -> None:
    assert Scope(ids=frozenset({1}), since="monday").merge(FULL) == FULL


def test_too_many_ids_become_a_look_at_everything() -> None:
    most = Scope(ids=frozenset(range(MAX_SCOPE_IDS)))
    assert Scope().merge(most) == most
    assert most.merge(Scope(ids=frozenset({MAX_SCOPE_IDS}))) == FULL


def test_a_plan_counts_everything_and_names_the_first_of_each_action() -> None:
    plan = Plan(1)
    images = [ImageRef(number, 1, 1, "", "a") for number in range(SAMPLES_PER_ACTION + 1)]
    plan.add(Change(Action.ENCODE, Reason.NEW, image, None) for image in images)
    plan.add([Change(Action.REMOVE, Reason.GONE, None, StoredImage(999, 1, 1, "", "a"))])
    assert plan.counts == {Action.ENCODE: SAMPLES_PER_ACTION + 1, Action.REMOVE: 1}
    assert plan.samples[Action.ENCODE] == [(number, Reason.NEW) for number in range(SAMPLES_PER_ACTION)]
    assert plan.samples[Action.REMOVE] == [(999, Reason.GONE)]


def test_a_plan_that_only_keeps_has_nothing_to_do() -> None:
    plan = Plan(1)
    plan.keep(5)
    assert plan.nothing_to_do
    plan.add([Change(Action.RETAG, Reason.RENAMED, ImageRef(1, 1, 1, "", "a"), None)])
    assert not plan.nothing_to_do


def test_a_proof_moves_to_another_image_with_what_it_was_made_from() -> None:
    stored = StoredImage(1, 1, 10, "a.jpg", "hash", "p/a.jpg", "monday", "cas", 7)
    image = ImageRef(2, 3, 30, "b.jpg", "ignored", "q/b.jpg", "tuesday")
    assert stored.tagged_as(image) == StoredImage(2, 3, 30, "b.jpg", "hash", "q/b.jpg", "tuesday", "cas", 7)
