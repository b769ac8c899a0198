"""How well an image answers a search, as one number that may be compared across images.

Queries of one kind are compared by cosine, and the best of them counts. Cosines with texts and with
images live on different scales (a text scores 0.3 where an image scores 0.8), so where kinds meet,
or where something is not wanted, each query's cosine is standardised over a fixed sample of the
project, ``z_i(x) = (q_i·x - μ_i) / σ_i``, and ``Z`` is the mean over what is wanted less the mean over
what is not. ``Z`` is linear in ``x``, so ranking by it is ranking by the cosine with one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from state.errors import Rejected
from state.model import Hit, Vectors

Scoring = Literal["cosine", "calibrated", "mean_cosine"]

SAMPLE_SIZE = 2000
MIN_SAMPLE = 10
MIN_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """Several queries as one: ask for the nearest to `vector`, then map the cosines to scores.

    :param vector: unit length, shape ``(dimension,)``
    :param scale: length of the sum that `vector` is the direction of
    :param offset: what ``Z`` lacks when it is computed from that sum alone
    """

    vector: Vectors
    scale: float
    offset: float
    scoring: Scoring

    def score(self, cosine: float) -> float:
        """Map the cosine with `vector` to ``Φ(Z)``, or to the mean of cosines."""
        value = self.scale * cosine - self.offset
        return math.erfc(-value / math.sqrt(2.0)) / 2.0 if self.scoring == "calibrated" else value


def scoring_for(
    wanted: Literal["auto", "cosine", "calibrated"], *, texts: bool, images: bool, negatives: bool
) -> Scoring:
    """Choose how to score a search that has texts, images, and negatives of either kind."""
    if wanted == "calibrated" or (wanted == "auto" and (negatives or (texts and images))):
        return "calibrated"
    return "mean_cosine" if negatives else "cosine"


def fuse(positives: Vectors, negatives: Vectors, sample: Vectors, scoring: Scoring = "calibrated") -> Fusion:
    """Make one query of many: ``w = Σ ±q_i / (n σ_i)``, ``n`` counted within each sign.

    With fewer than ten vectors in `sample`, or a query that scores the same with all of them, nothing
    can be standardised: the answer is the mean of cosines, and its ``scoring`` says so.

    :param positives: shape ``(p, dimension)``, unit length
    :param negatives: shape ``(q, dimension)``, unit length, either may have no rows but not both
    :param sample: shape ``(s, dimension)``: the project's, see :func:`sample_rows`
    :raises Rejected: when the queries cancel each other out
    """
    queries = np.concatenate([positives, negatives]).astype(np.float64)
    shares = np.repeat([1.0, -1.0], [len(positives), len(negatives)])
    shares /= np.where(shares > 0, max(len(positives), 1), max(len(negatives), 1))
    means, deviations = np.zeros(len(queries)), np.ones(len(queries))
    calibrated = scoring == "calibrated" and len(sample) >= MIN_SAMPLE
    if calibrated:
        cosines = queries @ sample.T
        calibrated = bool((cosines.std(axis=1) > MIN_DEVIATION).all())
        if calibrated:
            means, deviations = cosines.mean(axis=1), cosines.std(axis=1)
    weights = shares / deviations
    direction = weights @ queries
    scale = float(np.linalg.norm(direction))
    if scale <= MIN_DEVIATION * np.abs(weights).sum():
        raise Rejected("the queries cancel each other out: what is wanted is also what is not wanted")
    vector = (direction / scale).astype(np.float32)
    return Fusion(vector, scale, float(weights @ means), "calibrated" if calibrated else "mean_cosine")


def best_hits(hits: Iterable[Hit], limit: int, threshold: float | None = None) -> list[Hit]:
    """Merge the answers of several queries: each image once, with its best score, the best first."""
    best: dict[int, Hit] = {}
    for hit in hits:
        if (threshold is None or hit.score >= threshold) and (
            hit.image.id not in best or hit.score > best[hit.image.id].score
        ):
            best[hit.image.id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.image.id))[:limit]


def fused_hits(fusion: Fusion, hits: Iterable[Hit], limit: int, threshold: float | None = None) -> list[Hit]:
    """Replace the cosines of the fused query's answer by scores."""
    return best_hits((replace(hit, score=fusion.score(hit.score)) for hit in hits), limit, threshold)


def sample_rows(ids: NDArray[np.int64], size: int = SAMPLE_SIZE) -> NDArray[np.int64]:
    """Return the rows of the same `size` ids whatever their order: those whose hashes are smallest.

    An image that is added or removed changes at most one member, so scores hold still while a project
    grows. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014), which maps no two ids
    to one number.
    """
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    rows = np.argpartition(mixed, size)[:size] if len(ids) > size else np.arange(len(ids))
    return rows[np.argsort(mixed[rows])]
