"""What a CLIP service's wire costs: ``python -m benchmarks.clip_wire``.

Real Jina flows around a model that does next to nothing, so that what is left is the wire; each way of
asking takes its turns, two batches at a time. clip-client is measured where it is installed, HTTP and
websocket where ``WIRE_PYTHON`` names the Python of an environment that their gateways start in.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from daemon.encoders.clip_documents import blobs
from daemon.encoders.clip_grpc import GrpcClip
from daemon.encoders.clip_http import HttpClip
from daemon.encoders.clip_ws import WebsocketClip
from tests.clip_grpc.running_flow import RunningFlow, until_ready

BATCH = 32
BATCHES_PER_TURN = 24
TURNS = 7
IN_FLIGHT = 2
SIDE = 224


class ClipClient:
    """The public client, asked for a batch at a time."""

    def __init__(self, url):
        os.environ |= {"NO_VERSION_CHECK": "1", "JINA_OPTOUT_TELEMETRY": "1", "JINA_LOG_LEVEL": "ERROR"}
        from clip_client import Client
        from docarray import Document

        self._client, self._document = Client(url), Document

    async def encode_texts(self, texts):
        return await self._encode([self._document(text=text) for text in texts])

    async def encode_images(self, pictures):
        packed = await asyncio.to_thread(blobs, pictures)
        return await self._encode([self._document(blob=blob) for blob in packed])

    async def _encode(self, documents):
        await self._client.aencode(documents, batch_size=BATCH)
        assert all(one.embedding is not None for one in documents)

    async def close(self):
        pass


async def turn(encode: Callable, batch):
    """Ask for `BATCHES_PER_TURN` batches; return documents per second, and ms of CPU for each."""
    left = iter(range(BATCHES_PER_TURN))

    async def asker():
        for _ in left:
            await encode(batch)

    started, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(asker() for _ in range(IN_FLIGHT)))
    documents = BATCH * BATCHES_PER_TURN
    return (
        documents / (time.perf_counter() - started),
        1000 * (time.process_time() - worked) / documents,
    )


def photographs():
    """Return smooth pictures, which JPEG makes about as small as it makes photographs."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (BATCH, SIDE // 8, SIDE // 8, 3), np.uint8)
    return list(np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8)))


async def measure(wire_python):
    with contextlib.ExitStack() as flows:

        def flow(protocol, python=sys.executable):
            return flows.enter_context(RunningFlow(python, protocol)).url

        grpc = flow("grpc")
        ways = {"gRPC": GrpcClip(grpc)}
        if wire_python:
            ways["websocket"] = WebsocketClip(flow("websocket", wire_python))
            ways["HTTP"] = HttpClip(flow("http", wire_python))
        for way in ways.values():
            await until_ready(way)
        if importlib.util.find_spec("clip_client"):
            ways["clip-client, gRPC"] = ClipClient(grpc)
        print("| way | documents | per second | × gRPC | ms of CPU each |\n|---|---|---|---|---|")
        await compare(ways, "texts", lambda way: way.encode_texts, [f"text {n}" for n in range(BATCH)])
        await compare(ways, "pictures", lambda way: way.encode_images, photographs())
        for way in ways.values():
            await way.close()


async def compare(ways, what, method, batch):
    measured = {name: [] for name in ways}
    for name in [*ways] * (1 + TURNS):
        measured[name].append(await turn(method(ways[name]), batch))
    speeds = {name: np.array(turns[1:]) for name, turns in measured.items()}  # the first one warms up
    for name, turns in speeds.items():
        ratio = statistics.median(turns[:, 0] / speeds["gRPC"][:, 0])
        speed, cpu = np.median(turns, axis=0)
        print(f"| {name} | {what} | {speed:.0f} | {ratio:.2f} | {cpu:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wire-python", default=os.environ.get("WIRE_PYTHON"))
    asyncio.run(measure(parser.parse_args().wire_python))


if __name__ == "__main__":
    main()
