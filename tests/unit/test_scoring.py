"""How well an image answers a search."""

from __future__ import annotations

import math

import numpy as np
import pytest

from handlers.scoring import Fusion, best_hits, fuse, fused_hits, sample_rows, scoring_for
from state.errors import Rejected
from state.model import Hit, StoredImage

NOTHING = np.empty((0, 16), np.float32)


def unit(rows):
    rows = np.atleast_2d(np.asarray(rows, np.float32))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def vectors(count, seed=0, dimension=16):
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


def standardised(query, images, sample):
    cosines = sample.astype(np.float64) @ query
    return (images.astype(np.float64) @ query - cosines.mean()) / cosines.std()


def z_by_definition(positives, negatives, images, sample):
    z = np.zeros(len(images))
    for sign, queries in ((1, positives), (-1, negatives)):
        for query in queries:
            z += sign * standardised(query, images, sample) / len(queries)
    return z


def hit(image_id, score):
    return Hit(StoredImage(image_id, 1, 1, f"{image_id}.jpg", "hash"), score)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 0), (2, 0), (3, 2), (1, 1)])
def test_ranking_by_the_one_vector_is_ranking_by_z(positives, negatives):
    wanted, unwanted, images, sample = (
        vectors(positives, 1),
        vectors(negatives, 2),
        vectors(500),
        vectors(200, 3),
    )
    fusion = fuse(wanted, unwanted.reshape(-1, 16), sample)
    expected = np.argsort(-z_by_definition(wanted, unwanted, images, sample))
    assert np.argsort(-(images @ fusion.vector))[:50].tolist() == expected[:50].tolist()


@pytest.mark.parametrize(("positives", "negatives"), [(1, 0), (2, 0), (3, 2), (0, 2)])
def test_the_score_is_the_normal_distribution_of_z(positives, negatives):
    wanted, unwanted = vectors(positives, 1).reshape(-1, 16), vectors(negatives, 2).reshape(-1, 16)
    images, sample = vectors(300), vectors(100, 3)
    fusion = fuse(wanted, unwanted, sample)
    z = z_by_definition(wanted, unwanted, images, sample)
    expected = [0.5 * (1.0 + math.erf(value / math.sqrt(2.0))) for value in z]
    assert [fusion.score(float(cosine)) for cosine in images @ fusion.vector] == pytest.approx(
        expected, abs=1e-5
    )
    assert fusion.scoring == "calibrated"
    assert np.linalg.norm(fusion.vector) == pytest.approx(1.0, abs=1e-6)


def test_neither_the_text_alone_nor_the_image_alone_determines_the_answer():
    text, picture, other = np.eye(16, dtype=np.float32)[:3]
    rng = np.random.default_rng(0)
    # As CLIP has it: cosines with a text spread over 0.2 to 0.35, with a picture over 0.4 to 0.9.
    near_text, near_picture = rng.uniform(0.2, 0.27, 200), rng.uniform(0.4, 0.75, 200)
    near_text[:3], near_picture[:3] = (0.34, 0.31, 0.21), (0.42, 0.79, 0.9)
    rest = np.sqrt(1.0 - near_text**2 - near_picture**2)
    images = (np.outer(near_text, text) + np.outer(near_picture, picture) + np.outer(rest, other)).astype(
        np.float32
    )
    fusion = fuse(np.stack([text, picture]), NOTHING, images)
    assert (images @ text).argmax() == 0
    assert (images @ picture).argmax() == 2
    assert np.maximum(images @ text, images @ picture).argmax() == 2
    assert (images @ fusion.vector).argmax() == 1


def test_what_is_not_wanted_scores_below_what_is_like_neither():
    wanted, unwanted, sample = vectors(1, 1), vectors(1, 2), vectors(100)
    fusion = fuse(wanted, unwanted, sample)
    scores = [
        fusion.score(float(fusion.vector @ image)) for image in (wanted[0], vectors(1, 5)[0], unwanted[0])
    ]
    assert scores == sorted(scores, reverse=True)


def test_with_fewer_than_ten_vectors_the_score_is_the_mean_of_cosines_and_says_so():
    wanted, images = vectors(2, 1), vectors(9)
    fusion = fuse(wanted, NOTHING, images)
    scores = [fusion.score(float(cosine)) for cosine in images @ fusion.vector]
    assert scores == pytest.approx((images @ wanted.T).mean(axis=1), abs=1e-6)
    assert fusion.scoring == "mean_cosine"


def test_a_query_equally_far_from_all_images_is_not_divided_by_zero():
    images = np.repeat(vectors(1), 50, axis=0)
    assert fuse(vectors(2, 1), NOTHING, images).scoring == "mean_cosine"


def test_the_mean_of_cosines_can_be_asked_for():
    wanted, unwanted, images = vectors(1, 1), vectors(1, 2), vectors(50)
    fusion = fuse(wanted, unwanted, images, "mean_cosine")
    expected = images @ wanted[0] - images @ unwanted[0]
    assert [fusion.score(float(c)) for c in images @ fusion.vector] == pytest.approx(expected, abs=1e-6)
    assert fusion.scoring == "mean_cosine"


@pytest.mark.parametrize("count", [5, 50])
def test_queries_that_cancel_each_other_out_are_rejected(count):
    query = vectors(1, 1)
    with pytest.raises(Rejected, match="cancel"):
        fuse(query, query, vectors(count))


def test_an_image_appears_once_with_its_best_score():
    hits = [hit(1, 0.3), hit(2, 0.5), hit(1, 0.9), hit(2, 0.4)]
    assert [(each.image.id, each.score) for each in best_hits(hits, 10)] == [(1, 0.9), (2, 0.5)]


def test_hits_are_sorted_cut_at_the_limit_and_at_the_threshold():
    hits = [hit(number, number / 10) for number in (3, 9, 1, 5, 7)]
    assert [each.image.id for each in best_hits(hits, 3)] == [9, 7, 5]
    assert [each.image.id for each in best_hits(hits, 10, threshold=0.5)] == [9, 7, 5]
    assert best_hits(hits, 0) == []


def test_images_of_one_score_are_listed_by_id():
    assert [each.image.id for each in best_hits([hit(5, 0.5), hit(2, 0.5), hit(9, 0.5)], 2)] == [2, 5]


def test_the_threshold_is_compared_with_the_returned_score():
    fusion = Fusion(np.ones(1, np.float32), scale=10.0, offset=5.0, scoring="calibrated")
    hits = fused_hits(fusion, [hit(1, 0.5), hit(2, 0.49)], 10, threshold=0.5)
    assert [(each.image.id, each.score) for each in hits] == [(1, 0.5)]


@pytest.mark.parametrize(
    ("wanted", "texts", "images", "negatives", "chosen"),
    [
        ("auto", True, False, False, "cosine"),
        ("auto", False, True, False, "cosine"),
        ("auto", True, True, False, "calibrated"),
        ("auto", True, False, True, "calibrated"),
        ("calibrated", True, False, False, "calibrated"),
        ("cosine", True, True, False, "cosine"),
        ("cosine", True, False, True, "mean_cosine"),
    ],
)
def test_scoring_follows_from_what_is_asked(wanted, texts, images, negatives, chosen):
    assert scoring_for(wanted, texts=texts, images=images, negatives=negatives) == chosen


def test_the_sample_is_the_same_in_any_order():
    ids = np.arange(1, 10_001)
    shuffled = np.random.default_rng(0).permutation(ids)
    assert ids[sample_rows(ids, 100)].tolist() == shuffled[sample_rows(shuffled, 100)].tolist()


def test_adding_and_removing_images_changes_at_most_as_many_members_of_the_sample():
    ids = np.arange(1, 5001)
    before = set(ids[sample_rows(ids, 500)].tolist())
    changed = np.concatenate([ids[10:], np.arange(10_000, 10_020)])
    after = set(changed[sample_rows(changed, 500)].tolist())
    assert len(before - after) <= 30
    assert {number for number in after if number <= 5000} - before <= set(ids.tolist())
    assert len(after) == 500


def test_the_sample_is_spread_over_all_ids():
    rows = sample_rows(np.arange(100_000), 2000)
    assert np.histogram(rows, bins=10, range=(0, 100_000))[0] == pytest.approx([200] * 10, abs=60)


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_a_small_project_is_its_own_sample(count):
    assert sorted(sample_rows(np.arange(count) - 5).tolist()) == list(range(count))
