"""Choosing a few images that stand for many."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.clustering import MAX_CLUSTERS, NOISE, cluster
from handlers.selection import CANDIDATE_ROWS, NEAR_DUPLICATE, coverage, select
from state.errors import Rejected

WAYS = [
    {"method": "representative"},
    {"method": "coverage"},
    {"method": "random"},
    {"method": "random", "clustering": "kmeans"},
    {"method": "random", "clustering": "dbscan"},
    {"method": "centroids", "clustering": "dbscan"},
    {"method": "centroids"},
    {"method": "kmeans"},
    {"method": "dbscan"},
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def modes(sizes, dimension=32, spread=0.3, seed=0):
    """One bundle of directions for each of `sizes`; return vectors and which bundle each is of."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = unit(rng.standard_normal((len(sizes), dimension)))
    noise = rng.standard_normal((len(labels), dimension)) * spread / dimension**0.5
    return unit(centres[labels] + noise), labels


def largest_gap(vectors, picks):
    return float((1.0 - (vectors @ vectors[picks].T).max(axis=1)).max())


@every_way
@pytest.mark.parametrize(("count", "size"), [(0, 5), (1, 1), (1, 5), (7, 3), (40, 40), (40, 90), (40, 0)])
def test_a_selection_has_as_many_distinct_rows_as_there_are_and_were_asked_for(way, count, size):
    vectors, _ = modes([count])
    rows = select(vectors, size, **way, seed=1).rows
    assert len(rows) == min(count, size)
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows.tolist()) <= set(range(count))


@every_way
def test_what_is_selected_already_is_not_picked_again(way):
    vectors, _ = modes([20, 20])
    rows = select(vectors, 100, **way, seed=1, selected=[3, 3, 39]).rows
    assert sorted(rows.tolist()) == [row for row in range(40) if row not in (3, 39)]


@every_way
def test_nothing_is_picked_when_everything_is_selected_already(way):
    vectors, _ = modes([9])
    selection = select(vectors, 4, **way, seed=1, selected=range(9))
    assert len(selection.rows) == 0
    assert selection.coverage == 0.0


@every_way
def test_the_same_seed_picks_the_same_rows(way):
    vectors, _ = modes([300, 100, 50])
    first, second = (select(vectors, 30, **way, seed=7).rows for _ in range(2))
    assert first.tolist() == second.tolist()


@every_way
def test_a_hundred_copies_of_one_image_can_be_selected_from(way):
    vectors = np.repeat(unit([[1.0, 2.0, 3.0]]), 100, axis=0)
    selection = select(vectors, 10, **way, seed=1)
    assert len(set(selection.rows.tolist())) == 10
    assert selection.coverage == pytest.approx(0.0, abs=1e-6)


@every_way
def test_vectors_mapped_read_only_can_be_selected_from(way, tmp_path):
    vectors, _ = modes([30, 30])
    vectors.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=vectors.shape)
    assert select(mapped, 8, **way, seed=3).rows.tolist() == select(vectors, 8, **way, seed=3).rows.tolist()


@pytest.mark.parametrize("method", ["representative", "coverage", "random"])
def test_another_seed_picks_other_rows(method):
    vectors, _ = modes([6000, 3000], dimension=8)
    first, second = (select(vectors, 20, method, seed=seed).rows.tolist() for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize("method", ["representative", "coverage"])
def test_every_prefix_is_the_selection_of_that_size(method):
    vectors, _ = modes([3000, 2000, 1000, 500], dimension=16)
    longest = select(vectors, 50, method, seed=5).rows.tolist()
    for size in (1, 2, 13):
        assert select(vectors, size, method, seed=5).rows.tolist() == longest[:size]


def test_a_representative_selection_visits_the_largest_modes_first():
    vectors, labels = modes([400, 200, 100, 50, 25, 12])
    rows = select(vectors, 6, seed=0).rows
    assert labels[rows].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_representative_selection_goes_where_the_selected_are_not():
    vectors, labels = modes([400, 200, 100])
    selected = np.flatnonzero(labels == 0)[:5]
    rows = select(vectors, 2, seed=0, selected=selected).rows
    assert labels[rows].tolist() == [1, 2]


def test_a_representative_selection_is_the_plain_greedy_one():
    vectors, _ = modes([60, 30, 10], spread=1.0)
    cosines, best, expected = np.maximum(vectors @ vectors.T, 0.0), np.zeros(100, np.float32), []
    for _ in range(12):
        gains = np.maximum(cosines - best, 0.0).sum(axis=1)
        expected.append(int(gains.argmax()))
        best = np.maximum(best, cosines[expected[-1]])
    assert select(vectors, 12, seed=0).rows.tolist() == expected


def test_near_duplicates_are_not_picked_while_there_is_anything_else():
    vectors, _ = modes([40], spread=2.0)
    doubled = np.concatenate([vectors, vectors, vectors])
    rows = select(doubled, 40, seed=0).rows
    cosines = doubled[rows] @ doubled[rows].T - np.eye(40)
    assert cosines.max() < NEAR_DUPLICATE
    assert len(select(doubled, 100, seed=0).rows) == 100


def test_a_near_duplicate_of_what_is_selected_already_is_picked_last():
    vectors, _ = modes([10], spread=3.0)
    doubled = np.concatenate([vectors, vectors])
    rows = select(doubled, 10, seed=0, selected=range(5)).rows
    assert set((rows[:5] % 10).tolist()) == {5, 6, 7, 8, 9}


def test_outliers_are_not_representative():
    vectors, labels = modes([3000, 3000, 3000, *[1] * 100], dimension=128, spread=0.5)
    rows = select(vectors, 12, seed=0).rows
    assert (labels[rows] < 3).all()


def test_more_rows_than_one_round_has_candidates_are_picked_without_repeats():
    vectors, _ = modes([9000], dimension=8, spread=5.0)
    rows = select(vectors, 8000, seed=0).rows
    assert len(np.unique(rows)) == 8000 > CANDIDATE_ROWS


@pytest.mark.parametrize("selected", [[], [4, 17]])
def test_farthest_first_is_the_plain_one(selected):
    vectors, _ = modes([500, 300, 100], dimension=24, spread=1.0)
    rows = select(vectors, 40, "coverage", seed=2, selected=selected).rows.tolist()
    picks = selected or rows[:1]
    distances = 1.0 - (vectors @ vectors[picks].T).max(axis=1)
    for row in rows if selected else rows[1:]:
        assert distances[row] == pytest.approx(distances.max(), abs=1e-5)
        distances = np.minimum(distances, 1.0 - vectors @ vectors[row])


def test_coverage_reaches_the_edges_that_a_representative_selection_leaves():
    vectors, _ = modes([1000, 1000, *[1] * 20])
    edges, middles = (select(vectors, 22, method, seed=0) for method in ("coverage", "representative"))
    assert edges.coverage < middles.coverage


@every_way
def test_the_coverage_told_is_the_largest_distance_of_any_image_to_its_nearest_pick(way):
    vectors, _ = modes([500, 300, 100, 1, 1], spread=0.8)
    selection = select(vectors, 50, **way, seed=4, selected=[7])
    assert selection.coverage == pytest.approx(largest_gap(vectors, [7, *selection.rows]), abs=1e-5)


def test_coverage_is_exact_over_more_rows_than_are_looked_at_together():
    vectors, _ = modes([20_000, 10_000, 30], dimension=8, spread=1.5)
    picks = np.arange(0, 20_000, 97)
    assert coverage(vectors, picks) == pytest.approx(largest_gap(vectors, picks), abs=1e-5)


def test_coverage_is_the_largest_there_is_when_nothing_is_picked():
    vectors, _ = modes([5])
    assert select(vectors, 0, seed=0).coverage == 2.0


@pytest.mark.parametrize("way", WAYS[3:], ids=lambda way: "-".join(way.values()))
def test_clusters_take_turns(way):
    vectors, labels = modes([300, 60, 30], dimension=64)
    rows = select(vectors, 12, **way, num_clusters=3, seed=0).rows
    assert np.bincount(labels[rows]).tolist() == [4, 4, 4]


def test_a_cluster_that_has_selected_images_already_waits_for_the_others():
    vectors, labels = modes([300, 60, 30], dimension=64)
    selected = np.flatnonzero(labels == 1)[:2]
    rows = select(vectors, 4, "kmeans", num_clusters=3, seed=0, selected=selected).rows
    assert np.bincount(labels[rows], minlength=3).tolist() == [2, 0, 2]


def test_centroids_prefers_the_middle_of_a_cluster():
    vectors, _ = modes([500], spread=1.0)
    middle = unit(vectors.mean(axis=0, keepdims=True))[0]
    picked, drawn = (select(vectors, 20, method, seed=0).rows for method in ("centroids", "random"))
    assert (vectors[picked] @ middle).mean() > (vectors[drawn] @ middle).mean() + 0.1


@pytest.mark.parametrize("num_clusters", [1, 2, 5])
def test_kmeans_makes_as_many_clusters_as_it_was_asked_for(num_clusters):
    vectors, _ = modes([100, 50])
    assert len(cluster(vectors, "kmeans", num_clusters, seed=0).sizes) == num_clusters


def test_kmeans_makes_no_more_clusters_than_there_are_distinct_images():
    vectors = np.repeat(unit(np.eye(3)), 10, axis=0)
    assert cluster(vectors, "kmeans", 8, seed=0).sizes.tolist() == [10, 10, 10]


@pytest.mark.parametrize("method", ["kmeans", "dbscan"])
def test_clusters_are_numbered_by_size_and_represented_by_a_member(method):
    vectors, labels = modes([30, 300, 90], dimension=64)
    clusters = cluster(vectors, method, 3, seed=0)
    assert clusters.sizes == pytest.approx([300, 90, 30], rel=0.3)
    assert labels[clusters.representatives].tolist() == [1, 2, 0]
    assert clusters.labels[clusters.representatives].tolist() == [0, 1, 2]


def test_dbscan_calls_noise_what_is_near_to_nothing():
    vectors, labels = modes([200, 200, 1, 1, 1], dimension=64)
    clusters = cluster(vectors, "dbscan", 8, seed=0)
    assert (clusters.labels[labels >= 2] == NOISE).all()
    assert (clusters.labels[labels < 2] != NOISE).mean() > 0.9


def test_dbscan_keeps_the_largest_clusters_when_it_finds_too_many():
    vectors, labels = modes([200, 100, 50], dimension=64)
    clusters = cluster(vectors, "dbscan", 2, seed=0)
    assert len(clusters.sizes) == 2
    assert (clusters.labels[labels == 2] == NOISE).all()


def test_noise_is_picked_when_the_clusters_are_used_up():
    vectors, labels = modes([40, 40, 1, 1, 1], dimension=64)
    rows = select(vectors, 83, "dbscan", seed=0).rows
    assert set(labels[rows[-3:]]) <= {0, 1, 2, 3, 4}
    assert set(labels[rows[:60]]) == {0, 1}


@pytest.mark.parametrize("method", ["kmeans", "dbscan"])
def test_rows_outside_the_fitted_sample_get_their_cluster_too(method):
    vectors, labels = modes([15_000, 9_000], dimension=8, spread=0.2)
    clusters = cluster(vectors, method, 2, seed=0)
    assert (clusters.labels == labels).mean() > 0.95


@pytest.mark.parametrize("num_clusters", [0, MAX_CLUSTERS + 1])
def test_a_number_of_clusters_out_of_range_is_rejected_by_name(num_clusters):
    with pytest.raises(Rejected, match="num_clusters"):
        cluster(unit(np.eye(4)), "kmeans", num_clusters, seed=0)
