"""Previews one by one, or originals in batches: ``python -m benchmarks.downloads`` (extra `platform`).

The SDK's batch route (``images.bulk.download``) knows originals only. Both are fetched from the emulated
platform, whose previews are made beforehand, as another machine would; then all are decoded. Loopback has
no width to speak of, so the bytes say what a network would add.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import io
import os
import time
import warnings

import numpy as np
from PIL import Image

from daemon.pictures import decode
from daemon.platform.pictures import Pictures
from state.model import ImageRef
from tests.platform_emulator import Emulator, server

SIDE = 224
BATCH = 50
CONNECTIONS = 16


def photograph(seed, width, height):
    """Paint something that compresses about as a photograph does."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + random.integers(-6, 7, smooth.shape, np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


async def unlimited(size):
    """Reserve room for a picture where there is enough."""


async def one_by_one(emulator, images, imgproxy):
    pictures = Pictures(emulator.address, imgproxy, (), CONNECTIONS, 2**30)
    slots = asyncio.Semaphore(CONNECTIONS)

    async def fetch(image):
        async with slots:
            return (await pictures.fetch(image, unlimited)).data

    found = await asyncio.gather(*map(fetch, images))
    await pictures.close()
    return found


async def originals(emulator, images):
    """Fetch originals one by one: what there is where no preview can be had."""
    for route in ("previews", "imgproxy"):
        emulator.faults.add(server.Fault(route, "status", times=None, status=503))
    found = await one_by_one(emulator, images, None)
    emulator.faults.clear()
    return found


async def batches(sdk, images, dataset_id):
    async def batch(ids):
        return [data async for _, data in sdk.image.download_bytes_generator_async(dataset_id, ids)]

    ids = [image.id for image in images]
    parts = [batch(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    return [data for part in await asyncio.gather(*parts) for data in part]


async def measure(emulator, sdk, number, width, height):
    world = emulator.world
    dataset_id = world.dataset(world.project("benchmark"), "photographs")
    ids = world.add(dataset_id, [photograph(seed, width, height) for seed in range(number)])
    known = [world.images[one] for one in ids]
    images = [
        ImageRef(one.id, one.project_id, one.dataset_id, one.name, one.content.hash, world.url_of(one))
        for one in known
    ]
    imgproxy = f"{emulator.address}/imgproxy"
    await one_by_one(emulator, images, imgproxy)  # so that all previews are made
    print(f"{number} pictures of {width} × {height}")
    print("| way | calls | MB | seconds to fetch | CPU seconds to decode |\n|---|---|---|---|---|")
    for name, way in (
        ("previews, one by one", lambda: one_by_one(emulator, images, imgproxy)),
        ("originals, one by one", lambda: originals(emulator, images)),
        (f"originals, {BATCH} at once", lambda: batches(sdk, images, dataset_id)),
    ):
        emulator.counters.clear()
        started = time.perf_counter()
        found = await way()
        fetched = time.perf_counter() - started
        started = time.process_time()
        for data in found:
            decode(data, SIDE)
        decoded = time.process_time() - started
        calls, size = emulator.counters.calls.total(), sum(map(len, found)) / 1e6
        print(f"| {name} | {calls} | {size:.1f} | {fetched:.2f} | {decoded:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(1600, 1200))
    arguments = parser.parse_args()
    os.environ["SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK"] = "1"
    with warnings.catch_warnings(), Emulator() as emulator:
        warnings.simplefilter("ignore")
        import supervisely

        server.resized = functools.cache(server.resized)
        sdk = supervisely.Api(emulator.address, emulator.world.admin_token)
        asyncio.run(measure(emulator, sdk, arguments.images, *arguments.size))


if __name__ == "__main__":
    main()
