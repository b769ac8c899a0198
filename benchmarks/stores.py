"""Every store over the same points, and the store on a server against the bare client of it:
``python -m benchmarks.stores``.

The server is that of ``QDRANT_TEST_URL``, or else the emulator of the tests, in a process of its own.
Each store has its process too, so that its memory is its own. The ratios are medians of pairs that take
turns, so that a noisy machine disturbs both sides alike.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np
import psutil
from qdrant_client import AsyncQdrantClient, models

from benchmarks.edge import images
from benchmarks.vectors import synthetic
from state.model import Embedding, EncoderRecord, Within
from state.ports import Store
from state.stores.edge import EdgeStore
from state.stores.memory import MemoryStore
from state.stores.qdrant import POINTS_PER_WRITE, QdrantStore
from state.stores.qdrant_collections import drop
from state.stores.qdrant_points import of_project, payload_of
from state.stores.qdrant_reading import ROWS_PER_READ

ENCODER_ID = "benchmark-1"
POINTS_PER_CALL = 512
QUERIES = 200
STORES = ("memory", "edge", "qdrant, REST", "qdrant, gRPC")


@dataclass(frozen=True)
class Server:
    """Where a Qdrant server listens, and its process where that is here."""

    url: str
    grpc_port: int | None
    process: int | None = None


@contextmanager
def server() -> Iterator[Server]:
    if url := os.environ.get("QDRANT_TEST_URL"):
        port = os.environ.get("QDRANT_TEST_GRPC_PORT")
        yield Server(url, int(port) if port else None)
        return
    command = [sys.executable, "-m", "tests.qdrant_emulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout
        try:
            url, port = (emulator.stdout.readline().strip().partition("=")[2] for _ in range(2))
            yield Server(url, int(port), emulator.pid)
        finally:
            emulator.terminate()


@asynccontextmanager
async def opened(name: str, at: Server) -> AsyncIterator[Store]:
    """Open an empty store."""
    with tempfile.TemporaryDirectory() as directory:
        if name == "memory":
            store: Store = MemoryStore()
        elif name == "edge":
            store = await EdgeStore.open(Path(directory), "benchmark")
        else:
            store = await on_server(at, at.grpc_port if "gRPC" in name else None)
        yield store
        await leave(store)


async def on_server(at: Server, grpc_port: int | None) -> QdrantStore:
    instance = uuid4().hex
    prefix = f"benchmark_{instance[:8]}"
    return await QdrantStore.open(
        at.url, prefix, name="a benchmark", instance=instance, clock=time.monotonic, grpc_port=grpc_port
    )


async def leave(store: Store) -> None:
    """Close a store; of one on a server nothing stays there."""
    if isinstance(store, QdrantStore):
        for name in (store._name(ENCODER_ID), store._catalogue.collection):
            await drop(store._connection, name)
    await store.close()


def made(number: int, dimension: int) -> list[Embedding]:
    vectors, _ = synthetic(number, dimension=dimension)
    return [Embedding(*pair) for pair in zip(images(number), vectors, strict=True)]


def record(points: list[Embedding]) -> EncoderRecord:
    return EncoderRecord(ENCODER_ID, "benchmark", len(points[0].vector), points[0].vector[None])


async def fill(store: Store, points: list[Embedding]) -> float:
    await store.add_encoder(record(points))
    started = time.perf_counter()
    for start in range(0, len(points), POINTS_PER_CALL):
        await store.upsert(ENCODER_ID, points[start : start + POINTS_PER_CALL])
    return time.perf_counter() - started


async def listing(store: Store) -> None:
    async for _page in store.scroll(ENCODER_ID, 1):
        pass


def resident(at: Server) -> int:
    """Return the bytes of this process, its children and the server, where that is here."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    if at.process is not None:
        processes.append(psutil.Process(at.process))
    return sum(process.memory_info().rss for process in processes)


async def measure(name: str, at: Server, number: int, dimension: int) -> str:
    points = made(number, dimension)
    before = resident(at)
    async with opened(name, at) as store:
        rate = number / await fill(store, points)
        await store.set_pointer(1, ENCODER_ID)
        grown = resident(at) - before
        started = time.perf_counter()
        await listing(store)
        listed = number / (time.perf_counter() - started)
        times = []
        for row in np.random.default_rng(2).choice(number, QUERIES):
            started = time.perf_counter()
            await store.query(ENCODER_ID, points[row].vector[None], Within(1), 10)
            times.append(time.perf_counter() - started)
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return f"{name:<14}{rate:>10,.0f}{listed:>12,.0f}{p50:>10.2f}{p99:>10.2f}{grown >> 20:>10,}"


def measured(*arguments: object) -> str:
    return asyncio.run(measure(*arguments))


async def pairs(
    turns: int, bare: Callable[[], Awaitable[object]], ours: Callable[[], Awaitable[object]]
) -> str:
    """Return the median of how much longer ours takes, and what the bare client takes."""
    ratios, taken = [], []
    await bare()
    await ours()
    for _ in range(turns):
        started = time.perf_counter()
        await bare()
        between = time.perf_counter()
        await ours()
        taken.append(between - started)
        ratios.append((time.perf_counter() - between) / taken[-1])
    return f"{median(taken) * 1e3:>10.1f} ms{median(ratios):>8.2f}"


async def overhead(at: Server, by_grpc: bool, number: int, dimension: int, turns: int) -> None:
    """Print how much longer the store takes than the bare client doing the same to the same collection."""
    points = made(number, dimension)
    port = at.grpc_port if by_grpc else None
    store = await on_server(at, port)
    await fill(store, points)
    name = store._name(ENCODER_ID)
    client = AsyncQdrantClient(
        at.url, grpc_port=port or 6334, prefer_grpc=by_grpc, timeout=30, check_compatibility=False
    )
    some = points[:POINTS_PER_WRITE]
    asked = [points[row] for row in np.random.default_rng(2).choice(number, 50)]
    project = of_project(1)

    async def bare_write() -> None:
        structs = [
            models.PointStruct(id=one.image.id, vector=one.vector.tolist(), payload=payload_of(one.image))
            for one in some
        ]
        await client.upsert(name, structs, wait=True)

    async def bare_listing() -> None:
        offset, rows = None, []
        while True:
            records, offset = await client.scroll(name, project, limit=ROWS_PER_READ, offset=offset)
            rows.extend((one.id, one.payload) for one in records)
            if offset is None:
                return

    async def bare_search() -> None:
        for one in asked:
            await client.query_points(name, one.vector.tolist(), query_filter=project, limit=10)

    async def search() -> None:
        for one in asked:
            await store.query(ENCODER_ID, one.vector[None], Within(1), 10)

    async def write() -> None:
        await store.upsert(ENCODER_ID, some)

    way = "gRPC" if by_grpc else "REST"
    print(f"{way}, {len(some)} points written  {await pairs(turns, bare_write, write)}")
    print(f"{way}, {number:,} rows listed  {await pairs(turns, bare_listing, lambda: listing(store))}")
    print(f"{way}, 50 searches         {await pairs(turns, bare_search, search)}")
    await client.close()
    await leave(store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--points-in-pairs", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{options.points:,} points of {options.dimension} dimensions\n")
    print("store           points/s written  listed   p50 ms    p99 ms   MiB more")
    for name in STORES:
        with server() as at, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            if "gRPC" not in name or at.grpc_port is not None:
                work = apart.submit(measured, name, at, options.points, options.dimension)
                print(work.result(), flush=True)
    print(
        f"\nthe bare client on {options.points_in_pairs:,} points, and how many times as long the store takes"
    )
    with server() as at:
        for by_grpc in (False, True) if at.grpc_port is not None else (False,):
            asyncio.run(overhead(at, by_grpc, options.points_in_pairs, options.dimension, options.pairs))


if __name__ == "__main__":
    main()
