"""Choosing a few images that stand for many.

``representative`` is facility location: pick what raises the sum, over a sample of images, of each
one's cosine to its nearest pick (Nemhauser, Wolsey and Fisher 1978; evaluated lazily as in Minoux
1978). ``coverage`` is farthest-first traversal, within a factor of two of the best k-center (Gonzalez
1985). Both are greedy, so every prefix of an answer is itself a good selection. ``random`` and
``centroids`` draw from clusters in turn.

Pure and seeded: the same arguments give the same rows. BLAS already uses every core and clustering
changes its thread count for the whole process, so callers run one selection at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handlers.clustering import Clustering, Clusters, cluster
from handlers.distances import Frontier, largest_distance
from state.model import Vectors

Method = Literal["representative", "coverage", "random", "centroids", "kmeans", "dbscan"]
Rows = NDArray[np.int64]

BENEFIT_ROWS = 4096
CANDIDATE_ROWS = 4096
PICKS_PER_ROUND = 1024
NEAR_DUPLICATE = 0.98


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The rows picked, in order of choice.

    :param coverage: largest cosine distance of any image to its nearest pick, the already selected
        ones included: 0 when all are picked, 2 when none is
    """

    rows: Rows
    coverage: float


def select(
    vectors: Vectors,
    size: int,
    method: Method = "representative",
    *,
    seed: int,
    clustering: Clustering | None = None,
    num_clusters: int = 8,
    selected: Sequence[int] | Rows = (),
) -> Selection:
    """Pick ``min(size, available)`` distinct rows of `vectors`, none of them in `selected`.

    :param vectors: shape ``(n, dimension)``, unit length; may be memory-mapped
    :param method: ``kmeans`` and ``dbscan`` are short for ``centroids`` with that clustering
    :param clustering: what ``random`` (default: nothing) and ``centroids`` (``kmeans``) draw from
    :param selected: rows that count as picked already
    :raises Rejected: when there are more clusters than :data:`handlers.clustering.MAX_CLUSTERS`
    """
    if method == "kmeans" or method == "dbscan":
        clustering = method
    rng = np.random.default_rng(seed)
    given = np.unique(np.asarray(selected, np.int64))
    size = max(0, min(size, len(vectors) - len(given)))
    if size == 0:
        rows = np.empty(0, np.int64)
    elif method == "representative":
        rows = _representative(vectors, size, rng, given)
    elif method == "coverage":
        rows = _farthest_first(vectors, size, rng, given)
    elif method == "random" and clustering is None:
        rows = rng.permutation(_others(len(vectors), given))[:size]
    else:
        clusters = cluster(vectors, clustering or "kmeans", num_clusters, seed=seed)
        rows = _from_clusters(clusters, size, rng, given, nearest_first=method != "random")
    return Selection(rows, coverage(vectors, np.concatenate([given, rows])))


def coverage(vectors: Vectors, picks: Rows) -> float:
    """Return the largest cosine distance of any row to its nearest pick."""
    if len(picks) in (0, len(vectors)):
        return 0.0 if len(picks) == len(vectors) else 2.0
    return largest_distance(vectors, vectors[picks])


def _others(count: int, given: Rows) -> Rows:
    return np.delete(np.arange(count), given)


def _farthest_first(vectors: Vectors, size: int, rng: np.random.Generator, given: Rows) -> Rows:
    frontier = Frontier(vectors, size + len(given))
    frontier.add(given)
    rows = np.empty(size, np.int64)
    for turn in range(size):
        first = turn == 0 and len(given) == 0
        rows[turn] = rng.integers(len(vectors)) if first else frontier.farthest()
        frontier.add(rows[turn : turn + 1])
    return rows


def _from_clusters(
    clusters: Clusters, size: int, rng: np.random.Generator, given: Rows, *, nearest_first: bool
) -> Rows:
    """Let the clusters take turns; noise comes last. What is `given` has had its cluster's turns."""
    rows = rng.permutation(_others(len(clusters.labels), given))
    if nearest_first:
        rows = rows[np.argsort(-clusters.affinity[rows], kind="stable")]
    labels, taken = clusters.labels[rows], clusters.labels[given]
    turns = np.full(len(rows), len(clusters.labels))
    for label in range(len(clusters.sizes)):
        members = labels == label
        turns[members] = np.arange(members.sum()) + (taken == label).sum()
    return rows[np.lexsort((labels, turns))[:size]]


def _representative(vectors: Vectors, size: int, rng: np.random.Generator, given: Rows) -> Rows:
    """Run facility location in rounds: a fresh sample of candidates each, one sample of benefit.

    Above a few thousand rows the two samples are disjoint, so that no outlier is picked for its
    likeness to itself. A near-duplicate of a pick is set aside until nothing else is left.
    """
    order = rng.permutation(len(vectors))
    everything = len(order) <= BENEFIT_ROWS
    judges = order if everything else order[-min(BENEFIT_ROWS, len(order) // 2) :]
    chunk = len(order) if everything else min(CANDIDATE_ROWS, len(order) - len(judges))
    benefit = vectors[judges]
    picks, pool = given, order[~np.isin(order, given)]
    spare = np.empty(0, np.int64)
    while pool.size and len(picks) < len(given) + size:
        need = len(given) + size - len(picks)
        candidates, pool = pool[:chunk], pool[chunk:]
        share = -(-need * len(candidates) // (len(candidates) + len(pool)))
        quota = min(need, max(share, PICKS_PER_ROUND))
        new, duplicates = _round(vectors[candidates], benefit, vectors[picks], quota)
        left = np.ones(len(candidates), np.bool_)
        left[new] = left[duplicates] = False
        picks = np.concatenate([picks, candidates[new]])
        pool = np.concatenate([pool, candidates[left]])
        spare = np.concatenate([spare, candidates[duplicates]])
    return np.concatenate([picks[len(given) :], spare])[:size]


def _round(candidates: Vectors, benefit: Vectors, picked: Vectors, quota: int) -> tuple[list[int], list[int]]:
    """Pick up to `quota` candidates greedily; return them, and the near-duplicates met on the way."""
    best = _largest_cosine(benefit, picked)
    duplicate = _largest_cosine(candidates, picked) >= NEAR_DUPLICATE
    likeness = candidates @ benefit.T
    queue = [(-_gain(row, best), index) for index, row in enumerate(likeness) if not duplicate[index]]
    heapq.heapify(queue)
    chosen = np.empty((quota, candidates.shape[1]), np.float32)
    new: list[int] = []
    duplicates = np.flatnonzero(duplicate).tolist()
    while queue and len(new) < quota:
        index = queue[0][1]
        heapq.heapreplace(queue, (-_gain(likeness[index], best), index))
        if queue[0][1] != index:
            continue  # gains only shrink: whoever stays on top with a fresh one is the best
        heapq.heappop(queue)
        if new and (chosen[: len(new)] @ candidates[index]).max() >= NEAR_DUPLICATE:
            duplicates.append(index)
            continue
        chosen[len(new)] = candidates[index]
        new.append(index)
        np.maximum(best, likeness[index], out=best)
    return new, duplicates


def _gain(likeness: NDArray[np.float32], best: NDArray[np.float32]) -> float:
    return float(np.maximum(likeness - best, 0.0).sum())


def _largest_cosine(vectors: Vectors, picked: Vectors, block: int = 2048) -> NDArray[np.float32]:
    """Return each row's cosine to its nearest of `picked`, and 0 where all are on the far side."""
    largest = np.zeros(len(vectors), np.float32)
    for start in range(0, len(picked), block):
        np.maximum(largest, (vectors @ picked[start : start + block].T).max(axis=1), out=largest)
    return largest
