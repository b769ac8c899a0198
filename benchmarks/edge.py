"""The embedded store against the bare engine: ``python -m benchmarks.edge``.

Both sides hold the same points and take turns, so that a noisy machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from qdrant_edge import (
    EdgeShard,
    FieldCondition,
    Filter,
    MatchValue,
    Query,
    QueryBatchRequest,
    QueryRequest,
    ScrollRequest,
    VectorStorageDatatype,
)

from benchmarks.vectors import synthetic
from state.model import Embedding, EncoderRecord, StoredImage, Vectors, Within
from state.stores import edge_child, edge_shard
from state.stores.edge import POINTS_PER_WRITE, ROWS_PER_READ, EdgeStore
from state.stores.edge_wire import FIELDS, parts

ENCODER_ID = "benchmark-1"
PROJECT = Filter(must=[FieldCondition("project_id", match=MatchValue(1))])
QUERIES_PER_TURN = 50


def images(number: int) -> list[StoredImage]:
    ids = np.sort(np.random.default_rng(1).choice(2**48, number, replace=False)).tolist()
    return [
        StoredImage(image_id, 1, i % 100, f"image_{i}.jpg", f"{i:064x}", f"holiday/beach/image_{i}.jpg")
        for i, image_id in enumerate(ids)
    ]


def fill(shard: EdgeShard, points: list[StoredImage], vectors: Vectors) -> float:
    rows = [[image.id, *(getattr(image, field) for field in FIELDS)] for image in points]
    started = time.perf_counter()
    for part in parts(len(rows), POINTS_PER_WRITE):
        edge_shard.upsert(shard, memoryview(vectors[part].tobytes()), rows[part])
    return time.perf_counter() - started


def search(shard: EdgeShard, vector: Vectors) -> list[tuple[int, object, float]]:
    """Ask the bare engine; what it found is read, for an answer nobody can read is no answer."""
    request = QueryRequest(10, query=Query.Nearest(vector.tolist()), filter=PROJECT, with_payload=True)
    found = shard.query_batch(QueryBatchRequest([request]))[0]
    return [(point.id, point.payload, point.score) for point in found]


def datatype_row(name: str, number: int, dimension: int) -> str:
    """Fill a shard of one datatype in a process of its own; tell recall, disk and memory."""
    vectors, _ = synthetic(number, dimension=dimension)
    points = images(number)
    ids = np.array([image.id for image in points])
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as directory:
        datatype = getattr(VectorStorageDatatype, name)
        shard = edge_shard.open_shard(Path(directory) / "shard", dimension, datatype)
        rate = number / fill(shard, points, vectors)
        shard.flush()
        shard.close()
        shard = EdgeShard.load(f"{directory}/shard")
        hits = 0
        times = []
        for query in vectors[:: max(1, number // 200)][:200]:
            nearest = set(ids[np.argpartition(-vectors @ query, 10)[:10]].tolist())
            started = time.perf_counter()
            found = search(shard, query)
            times.append(time.perf_counter() - started)
            hits += len(nearest.intersection(image_id for image_id, _, _ in found))
        disk = sum(file.stat().st_blocks * 512 for file in Path(directory, "shard/segments").rglob("*"))
        memory = psutil.Process().memory_info().rss - before
        shard.close()
    return (
        f"{name:<10} recall@10 {hits / (10 * len(times)):.4f}   disk {disk >> 20} MiB"
        f"   memory +{memory >> 20} MiB   search p50 {np.median(times) * 1e3:.2f} ms"
        f"   {rate:,.0f} upserts/s"
    )


async def watched(work: Awaitable[None]) -> tuple[float, float]:
    """Return the 99th percentile and the maximum, in ms, of how late the loop was during `work`."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - due)

    watching = asyncio.create_task(watch())
    await work
    watching.cancel()
    return float(np.percentile(late, 99) * 1e3), max(late) * 1e3


async def write(store: EdgeStore, points: list[Embedding]) -> float:
    started = time.perf_counter()
    for part in parts(len(points), 2 * POINTS_PER_WRITE):
        await store.upsert(ENCODER_ID, points[part])
    return time.perf_counter() - started


async def search_in_turns(shard: EdgeShard, store: EdgeStore, vectors: Vectors, turns: int) -> None:
    """Print how long a search takes on either side, one at a time, and how many a second by eight callers."""
    times: dict[str, list[float]] = {"bare": [], "store": []}
    seconds = {"bare": 0.0, "one": 0.0, "eight": 0.0}
    queries = vectors[np.random.default_rng(2).choice(len(vectors), QUERIES_PER_TURN)]

    async def ask(some: Vectors) -> None:
        for query in some:
            started = time.perf_counter()
            await store.query(ENCODER_ID, query[None], Within(1), 10)
            times["store"].append(time.perf_counter() - started)

    for _ in range(turns):
        started = time.perf_counter()
        for query in queries:
            before = time.perf_counter()
            search(shard, query)
            times["bare"].append(time.perf_counter() - before)
        bare = time.perf_counter()
        await ask(queries)
        one = time.perf_counter()
        await asyncio.gather(*(ask(some) for some in np.array_split(queries, 8)))
        seconds["bare"] += bare - started
        seconds["one"] += one - bare
        seconds["eight"] += time.perf_counter() - one
        del times["store"][-len(queries) :]
    for side, taken in times.items():
        p50, p99 = np.percentile(taken, [50, 99]) * 1e3
        print(f"search, {side:<5}  p50 {p50:.2f} ms   p99 {p99:.2f} ms")
    print(f"search, throughput of bare: {seconds['bare'] / seconds['one']:.2f} by one caller, ", end="")
    print(f"{seconds['bare'] / seconds['eight']:.2f} by eight")


async def scroll_in_turns(shard: EdgeShard, store: EdgeStore, number: int, turns: int) -> None:
    """Print how many rows a second either side lists; the store's become objects, the bare ones do not."""
    bare = ours = 0.0
    for _ in range(turns):
        started = time.perf_counter()
        start = 0
        while True:
            request = ScrollRequest(offset=start, limit=ROWS_PER_READ, filter=PROJECT, with_payload=True)
            found = shard.scroll(request)[0]
            rows = [(record.id, record.payload) for record in found]
            if not rows:
                break
            start = rows[-1][0] + 1
        between = time.perf_counter()
        async for _page in store.scroll(ENCODER_ID, 1):
            pass
        bare += between - started
        ours += time.perf_counter() - between
    rows = turns * number
    print(
        f"scroll         bare {rows / bare:,.0f} rows/s   store {rows / ours:,.0f} rows/s   {bare / ours:.2f}"
    )


async def compare(number: int, dimension: int, turns: int) -> None:
    """Fill both sides with the same points and print what each can do."""
    vectors, _ = synthetic(number, dimension=dimension)
    points = images(number)
    embeddings = [Embedding(*pair) for pair in zip(points, vectors, strict=True)]
    record = EncoderRecord(ENCODER_ID, "benchmark", dimension, vectors[:1])
    with tempfile.TemporaryDirectory() as directory:
        shard = edge_shard.open_shard(Path(directory) / "bare", dimension)
        store = await EdgeStore.open(Path(directory), "store")
        await store.add_encoder(record)
        bare = number / fill(shard, points, vectors)
        taken: list[float] = []

        async def write_all() -> None:
            taken.append(await write(store, embeddings))

        p99, longest = await watched(write_all())
        print(f"upsert         bare {bare:,.0f} points/s   store {number / taken[0]:,.0f} points/s")
        print(f"loop stall     p99 {p99:.1f} ms   longest {longest:.1f} ms, while writing")
        await asyncio.sleep(2 * edge_child.QUIET_SECONDS)
        shard.flush()
        await search_in_turns(shard, store, vectors, turns)
        await search_while_writing(store, embeddings, vectors)
        await scroll_in_turns(shard, store, number, turns)
        started = time.perf_counter()
        scope = frozenset(range(100_000 - len(points))) | {image.id for image in points[:100_000]}
        await store.query(ENCODER_ID, vectors[:1], Within(1, ids=scope), 10)
        print(f"search, {len(scope):,} ids   {(time.perf_counter() - started) * 1e3:.0f} ms")
        await store.close()
        shard.close()


async def search_while_writing(store: EdgeStore, points: list[Embedding], vectors: Vectors) -> None:
    """Print how long a search takes while the store is being written without a pause."""
    writing = asyncio.create_task(write(store, points))
    times: list[float] = []
    while not writing.done():
        started = time.perf_counter()
        await store.query(ENCODER_ID, vectors[:1], Within(1), 10)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.01)
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    print(f"search, while writing   p50 {p50:.1f} ms   p99 {p99:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    print(f"{options.points:,} points of {options.dimension} dimensions")
    asyncio.run(compare(options.points, options.dimension, options.turns))
    for name in ("Float32", "Float16"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            print(apart.submit(datatype_row, name, options.points, options.dimension).result())


if __name__ == "__main__":
    main()
