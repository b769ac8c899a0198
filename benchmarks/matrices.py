"""A project's matrix, cold, after a small change, and warm, against moving the same vectors as text.

``python -m benchmarks.matrices --n 100000``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson

from benchmarks.vectors import DIMENSION, synthetic
from state.matrices import MatrixCache
from state.model import Embedding, EncoderRecord, StoredImage, Within
from state.stores.memory import MemoryStore

JSON_ROWS = 5000
CHANGED = 100


async def store_of(vectors):
    store = MemoryStore()
    await store.add_encoder(EncoderRecord("e", "test", DIMENSION, vectors[:1]))
    for start in range(0, len(vectors), 1000):
        await store.upsert("e", points(vectors[start : start + 1000], start))
    return store


def points(vectors, first_id):
    return [
        Embedding(StoredImage(first_id + i, 1, (first_id + i) % 10, f"{i}.jpg", "hash"), vector)
        for i, vector in enumerate(vectors)
    ]


async def timed(work):
    start = time.perf_counter()
    result = await work
    return time.perf_counter() - start, result


def seconds(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


async def measure(count, folder):
    vectors, _ = synthetic(count)
    with ThreadPoolExecutor(1) as executor:
        cache = MatrixCache(await store_of(vectors), folder, executor)
        whole, part = Within(1), Within(1, dataset_id=3)
        figures = {"cold, from a store in memory": (await timed(cache.matrix("e", whole)))[0]}
        warm, matrix = await timed(cache.matrix("e", whole))
        figures["warm"] = warm
        figures["warm, and every vector read once"] = warm + seconds(lambda: float(matrix.vectors.sum()))[0]
        figures["warm, one dataset of ten"] = (await timed(cache.matrix("e", part)))[0]
        await cache.upsert("e", points(vectors[:CHANGED], count // 2))
        figures[f"after {CHANGED} writes"] = (await timed(cache.matrix("e", whole)))[0]
        await cache.close()
    scale = count / min(count, JSON_ROWS)
    for name, write, read in (
        ("json", lambda rows: json.dumps(rows.tolist()), lambda text: np.array(json.loads(text), np.float32)),
        (
            "orjson",
            lambda rows: orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY),
            lambda text: np.array(orjson.loads(text), np.float32),
        ),
    ):
        writing, text = seconds(write, vectors[:JSON_ROWS])
        figures[f"{name}, written and read back"] = (writing + seconds(read, text)[0]) * scale
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000)
    count = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(count, Path(folder)))
    print(f"n = {count}, {DIMENSION} dimensions; json and orjson measured on {JSON_ROWS} rows and scaled\n")
    print("| way | seconds | times warm |")
    print("|---|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:.4f} | {value / figures['warm']:.0f} |")


if __name__ == "__main__":
    main()
