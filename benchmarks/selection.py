"""Every way of choosing, side by side with mini-batch k-means and the image nearest to each centroid.

``python -m benchmarks.selection --n 100000 --k 100 1000``

Each run has a process of its own. Memory is what its peak rose by while it chose (``VmHWM``, reset
before), so that the vectors themselves, which every side is given as floats, do not count. The baseline
works on doubles: that is what comes out of the JSON such services send each other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.vectors import OUTLIER, synthetic
from handlers.selection import NEAR_DUPLICATE, select

BASELINE = "mini-batch k-means"
COLUMNS = "k | method | seconds | MB | picks | modes | mean distance | coverage | near-duplicates | outliers"
WARM_UP_ROWS = 2000


def minibatch_kmeans(vectors, size, seed):
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(size, n_init=3, random_state=seed).fit(vectors)
    rows = []
    for label, centre in enumerate(model.cluster_centers_):
        members = np.flatnonzero(model.labels_ == label)
        if len(members):
            rows.append(members[np.linalg.norm(vectors[members] - centre, axis=1).argmin()])
    return np.array(rows)


def ours(method, **options):
    return lambda vectors, size, seed: select(vectors, size, method, seed=seed, **options).rows


WAYS: dict[str, Callable] = {
    BASELINE: lambda vectors, size, seed: minibatch_kmeans(vectors.astype(np.float64), size, seed),
    "mini-batch k-means on floats": minibatch_kmeans,
    "representative": ours("representative"),
    "coverage": ours("coverage"),
    "random": ours("random"),
    "centroids of k-means (8)": ours("centroids", clustering="kmeans"),
    "random of k-means (8)": ours("random", clustering="kmeans"),
    "centroids of DBSCAN (8)": ours("centroids", clustering="dbscan"),
    "random of DBSCAN (8)": ours("random", clustering="dbscan"),
}


@dataclass(frozen=True)
class Figures:
    seconds: float
    megabytes: float
    picks: int
    modes: int
    mean_distance: float
    coverage: float
    near_duplicates: int
    outliers: int


def peak_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def run(folder, shape, way, size, seed, results):
    vectors = np.fromfile(Path(folder) / "vectors", np.float32).reshape(shape)
    labels = np.load(Path(folder) / "labels.npy")
    WAYS[way](vectors[:WARM_UP_ROWS].copy(), 10, seed)  # imports and thread pools cost once
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_megabytes()
    start = time.perf_counter()
    rows = WAYS[way](vectors, size, seed)
    seconds = time.perf_counter() - start
    megabytes = peak_megabytes() - before
    results.put(Figures(seconds, megabytes, *quality(vectors, labels, rows)))


def quality(vectors, labels, rows):
    picks = vectors[rows]
    blocks = np.array_split(vectors, -(-len(vectors) // 8192))
    cosines = np.concatenate([(block @ picks.T).max(axis=1) for block in blocks])
    euclidean = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0)).mean()
    alike = picks @ picks.T >= NEAR_DUPLICATE
    doubled = int(np.tril(alike, -1).any(axis=1).sum())
    of_mode = labels[rows]
    modes = len(set(of_mode.tolist()) - {OUTLIER})
    return (
        len(rows),
        modes,
        float(euclidean),
        float(1.0 - cosines.min()),
        doubled,
        int((of_mode == OUTLIER).sum()),
    )


def measure(folder, shape, way, size, seeds):
    """Return the medians over `seeds`, each measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    figures = []
    for seed in seeds:
        results = context.Queue()
        process = context.Process(target=run, args=(folder, shape, way, size, seed, results))
        process.start()
        figures.append(results.get(timeout=900))
        process.join()
    return Figures(*np.median([list(vars(each).values()) for each in figures], axis=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--k", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    wanted = parser.parse_args()
    print(f"n = {wanted.n}, 512 dimensions, 200 modes; in brackets: times the baseline's\n")
    print(f"| {COLUMNS} |\n{'|---' * (COLUMNS.count('|') + 1)}|")
    with tempfile.TemporaryDirectory() as folder:
        vectors, labels = synthetic(wanted.n)
        vectors.tofile(Path(folder) / "vectors")
        np.save(Path(folder) / "labels.npy", labels)
        shape = vectors.shape
        del vectors
        for size in wanted.k:
            base = None
            for way in wanted.ways:
                figures = measure(folder, shape, way, size, range(wanted.seeds))
                base = figures if way == BASELINE else base
                print(f"| {size} | {way} | {' | '.join(cells(figures, base))} |", flush=True)


def cells(figures, base):
    """Write the figures: time, memory and modes with their ratio to the baseline."""
    for name, value in vars(figures).items():
        digits = 3 if name in ("mean_distance", "coverage") else 2 if name == "seconds" else 0
        compared = base is not None and base is not figures and name in ("seconds", "megabytes", "modes")
        ratio = f" ({value / getattr(base, name):.2f})" if compared else ""
        yield f"{value:.{digits}f}{ratio}"


if __name__ == "__main__":
    main()
