"""Every benchmark, one after the other: ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys

ALL = (
    "selection",
    "matrices",
    "edge",
    "http",
    "concurrency",
    "pipeline",
    "text_latency",
    "decoding",
    "fairness",
    "folder",
    "downloads",
    "clip_wire",
    "stores",
)


def main():
    for name in ALL:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main()
