"""``python -m tests.qdrant_emulator``: a Qdrant server for trying things; what is written is gone with it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from .emulator import QdrantEmulator


async def serve(port: int, grpc_port: int, writing: str | None, reading: str | None) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with tempfile.TemporaryDirectory() as directory:
        async with QdrantEmulator(Path(directory), port, grpc_port) as qdrant:
            qdrant.keys.writing, qdrant.keys.reading = writing, reading
            sys.stdout.write(f"QDRANT_HOST={qdrant.url}\nQDRANT_GRPC_PORT={qdrant.grpc_port}\n")
            sys.stdout.flush()
            await stopped.wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.qdrant_emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of REST; 0: any free one")
    parser.add_argument("--grpc-port", type=int, default=0, help="0: any free one")
    parser.add_argument("--key", help="that everybody has to send")
    parser.add_argument("--read-only-key", help="that may read")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.port, chosen.grpc_port, chosen.key, chosen.read_only_key))


if __name__ == "__main__":
    main()
