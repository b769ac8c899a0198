"""The flow in a process of its own, in an environment of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

SECONDS = 60.0


class Gateway:
    """A real gateway for HTTP, websocket and gRPC.

    :param python: the interpreter of the environment that has Jina
    :ivar urls: by scheme
    """

    def __init__(self, python: str) -> None:
        listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [str(one.getsockname()[1]) for one in listening]
        for one in listening:
            one.close()
        schemes = ("http", "ws", "grpc")
        self.urls = {
            scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(schemes, ports, strict=True)
        }
        self._command = [python, str(Path(__file__).with_name("flow.py")), *ports]

    def __enter__(self) -> Self:
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_for(b"ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def end_executor(self) -> None:
        """Leave the gateway alone."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self._wait_for(b"alone")

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._said.close()

    def _wait_for(self, word: bytes) -> None:
        end = time.monotonic() + SECONDS
        said = b""
        while time.monotonic() < end and self._process.poll() is None:
            said = os.pread(self._said.fileno(), 2**20, 0)
            if word in said.split(b"\n"):
                return
            time.sleep(0.1)
        raise AssertionError(f"the flow did not say {word!r}: {said[-2000:]!r}")
