"""A real flow in a process group of its own, which is ended by its number."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import psutil

from daemon.encoders.clip_gateway import Gateway
from state.errors import Unavailable

START_SECONDS = 40.0


class RunningFlow:
    """Starts a `tiny_flow` and ends it; started again, it listens on the port it had."""

    def __init__(self, python: str = sys.executable, protocol: str = "grpc") -> None:
        self.port = free_port()
        self.url = f"{protocol.replace('websocket', 'ws')}://127.0.0.1:{self.port}"
        self._command = [
            python,
            str(Path(__file__).with_name("tiny_flow.py")),
            str(self.port),
            protocol,
        ]

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._said, name = tempfile.mkstemp()
        os.unlink(name)
        self._process = subprocess.Popen(
            self._command, stdout=self._said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, as a machine that loses its power would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._said)

    def kill_model(self) -> None:
        """End the process that holds the model; the gateway stays."""
        for process in psutil.Process(self._process.pid).children():
            if all(one.laddr.port != self.port for one in process.net_connections()):
                process.kill()
                while process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.1)
        raise AssertionError(f"the flow did not start: {os.pread(self._said, 4000, 0)!r}")


async def until_ready(clip: Gateway) -> None:
    """Wait until the service is ready."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                return await clip.ready()
            except Unavailable:
                await asyncio.sleep(0.1)


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])
