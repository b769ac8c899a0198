"""Clusters of images: fitted on a seeded sample, then every image is given its cluster.

Fitting on a sample keeps memory and time from growing with the project: DBSCAN keeps a list of
neighbours for each row, which at 100,000 rows of a dense project is tens of gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from state.errors import Rejected
from state.model import Vectors

Clustering = Literal["kmeans", "dbscan"]

MAX_CLUSTERS = 1000
KMEANS_ROWS = 20_000
KMEANS_ROUNDS = 50
DBSCAN_ROWS = 4000
CORE_NEIGHBOURS = 5
BLOCK_ROWS = 4096
NOISE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """A partition of ``n`` rows, the largest cluster first.

    :param labels: shape ``(n,)``: each row's cluster; -1 for noise and for clusters too many
    :param affinity: shape ``(n,)``: each row's cosine with its cluster's centroid; -1 for noise
    :param sizes: shape ``(clusters,)``: rows in each
    :param representatives: shape ``(clusters,)``: the row nearest to each centroid
    """

    labels: NDArray[np.int64]
    affinity: NDArray[np.float32]
    sizes: NDArray[np.int64]
    representatives: NDArray[np.int64]


def cluster(vectors: Vectors, method: Clustering, num_clusters: int, *, seed: int) -> Clusters:
    """Cluster the rows of `vectors` into at most `num_clusters`.

    k-means makes that many, or as many as there are distinct rows. DBSCAN finds its own number, of
    which the largest `num_clusters` count and the others are noise.

    :param vectors: shape ``(n, dimension)``, unit length; may be memory-mapped
    :raises Rejected: when `num_clusters` is not in 1..:data:`MAX_CLUSTERS`
    """
    if not 1 <= num_clusters <= MAX_CLUSTERS:
        raise Rejected(f"num_clusters: between 1 and {MAX_CLUSTERS}, not {num_clusters}")
    if len(vectors) == 0:
        labels, centroids = np.empty(0, np.int64), vectors
    elif method == "kmeans":
        labels, centroids = _kmeans(vectors, num_clusters, seed)
    else:
        labels, centroids = _dbscan(vectors, seed)
    return _arrange(vectors, labels, centroids, num_clusters)


def _sample(vectors: Vectors, size: int, seed: int) -> Vectors:
    if len(vectors) <= size:
        return np.asarray(vectors)
    rows = np.random.default_rng(seed).choice(len(vectors), size, replace=False)
    return vectors[np.sort(rows)]


def _blocks(vectors: Vectors) -> Iterator[tuple[slice, Vectors]]:
    for start in range(0, len(vectors), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        yield rows, vectors[rows]


def _kmeans(vectors: Vectors, num_clusters: int, seed: int) -> tuple[NDArray[np.int64], Vectors]:
    from sklearn.cluster import KMeans  # here, because importing it costs seconds

    sample = _sample(vectors, KMEANS_ROWS, seed)
    distinct = len({row.tobytes() for row in sample})
    model = KMeans(min(num_clusters, distinct), n_init=1, max_iter=KMEANS_ROUNDS, random_state=seed)
    with threadpool_limits(1):  # several threads add up in any order, and the last digits decide
        model.fit(sample)
    centroids = np.asarray(model.cluster_centers_, np.float32)
    squares = np.square(centroids).sum(axis=1)
    labels = np.empty(len(vectors), np.int64)
    for rows, block in _blocks(vectors):
        labels[rows] = (squares - 2.0 * (block @ centroids.T)).argmin(axis=1)
    return labels, centroids


def _dbscan(vectors: Vectors, seed: int) -> tuple[NDArray[np.int64], Vectors]:
    """Run DBSCAN on a sample; every row then belongs to its nearest core point's cluster, if near."""
    from sklearn.cluster import DBSCAN  # here, because importing it costs seconds

    sample = _sample(vectors, DBSCAN_ROWS, seed)
    radius = _radius(sample)
    model = DBSCAN(radius, min_samples=CORE_NEIGHBOURS, algorithm="brute").fit(sample)
    found = np.asarray(model.labels_, np.int64)
    cores, of_core = sample[model.core_sample_indices_], found[model.core_sample_indices_]
    labels = np.full(len(vectors), NOISE, np.int64)
    if len(cores):
        for rows, block in _blocks(vectors):
            cosines = block @ cores.T
            near = cosines.max(axis=1) >= 1.0 - radius**2 / 2.0
            labels[rows] = np.where(near, of_core[cosines.argmax(axis=1)], NOISE)
    centroids = [sample[found == label].mean(axis=0) for label in range(found.max() + 1)]
    return labels, np.array(centroids, np.float32).reshape(-1, vectors.shape[1])


def _radius(sample: Vectors) -> float:
    """Return where the sorted distances to the k-th neighbour bend most (Ester et al. 1996)."""
    rank = max(len(sample) - CORE_NEIGHBOURS, 0)  # a row is its own first neighbour
    cosines = np.concatenate(
        [np.partition(block @ sample.T, rank, axis=1)[:, rank] for _, block in _blocks(sample)]
    )
    distances = np.sort(np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0)))
    chord = np.linspace(distances[0], distances[-1], len(distances))
    return max(float(distances[(chord - distances).argmax()]), 1e-3)


def _arrange(vectors: Vectors, labels: NDArray[np.int64], centroids: Vectors, num_clusters: int) -> Clusters:
    """Number the clusters by size, drop empty ones and those too many, measure the rest."""
    counts = np.bincount(labels[labels >= 0], minlength=len(centroids))
    order = np.argsort(-counts, kind="stable")[:num_clusters]
    order = order[counts[order] > 0]
    renumbered = np.full(len(centroids) + 1, NOISE)  # the last place is where noise, -1, looks
    renumbered[order] = np.arange(len(order))
    labels = renumbered[labels]
    lengths = np.linalg.norm(centroids[order], axis=1, keepdims=True)
    units = centroids[order] / np.maximum(lengths, np.finfo(np.float32).tiny)
    affinity = np.full(len(vectors), -1.0, np.float32)
    for rows, block in _blocks(vectors):
        members = labels[rows] >= 0
        affinity[rows][members] = np.einsum("ij,ij->i", block[members], units[labels[rows][members]])
    nearest = [np.flatnonzero(labels == label) for label in range(len(order))]
    representatives = [rows[affinity[rows].argmax()] for rows in nearest]
    return Clusters(labels, affinity, counts[order], np.array(representatives, np.int64))
