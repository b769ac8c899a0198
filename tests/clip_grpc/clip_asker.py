"""Asks the CLIP at an address for a text, and stops well at a signal: ``python clip_asker.py URL``."""

from __future__ import annotations

import asyncio
import signal
import sys

from daemon.encoders.clip_grpc import GrpcClip


async def ask(url: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clip = GrpcClip(url)
    batch = asyncio.create_task(clip.encode_texts(["a dog"]))
    await stop.wait()
    batch.cancel()
    await asyncio.wait([batch])
    await clip.close()
    sys.stdout.write("stopped\n")


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1]))
