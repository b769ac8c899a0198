"""A Qdrant server that outlives the daemons: the emulator, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from live_daemon import ROOT


@contextmanager
def qdrant_server() -> Iterator[str]:
    """Run one; yield its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.qdrant_emulator"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        yield server.stdout.readline().strip().partition("=")[2]
        server.terminate()
