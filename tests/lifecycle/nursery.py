"""Daemons that start in no time: forked from a process that has imported everything already.

Importing takes most of a start, and tests start hundreds of daemons. What is forked is a process like any
other, with the environment, session, output and signals of its own that a new one would have.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from live_daemon import COMMAND_SECONDS, ROOT, LiveDaemon

PRELOADED = ("counting_daemon", "daemon.service", "daemon.once", "daemon.client", "daemon.doctor")
PATH = (str(ROOT), str(Path(__file__).parent), str(Path(__file__).parents[1] / "acceptance"))
ANSWER_SECONDS = 60.0
POLL_SECONDS = 0.005
COLUMNS = "200"


class Nursery:
    """The process that others are forked from.

    :param more: modules that it imports beside `PRELOADED`
    """

    def __init__(self, *more: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *PRELOADED, *more],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(PATH), "COLUMNS": COLUMNS},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(ANSWER_SECONDS)
        self._socket = ours
        self.ask({"ended": None})  # it answers once it has imported everything

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], output: Path, errors: Path
    ) -> Forked:
        """Start the counting daemon with these words on its command line."""
        wish = {"words": words, "environment": environment, "output": str(output), "errors": str(errors)}
        return Forked(self, self.ask(wish), [*words])

    def ask(self, wish: object) -> Any:
        self._socket.send(json.dumps(wish).encode())
        return json.loads(self._socket.recv(1024))

    def close(self) -> None:
        """End it, and whatever of its children still runs."""
        self._socket.close()
        self._process.wait(ANSWER_SECONDS)


@dataclass
class Forked:
    """A process that was forked; as much like ``subprocess.Popen`` as tests need."""

    nursery: Nursery
    pid: int
    args: list[str]
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ask({"ended": self.pid})
        return self.returncode

    def wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, seconds)
            time.sleep(POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedDaemon(LiveDaemon):
    """A live daemon that starts in no time and keeps a diary of what it encodes, if ``DIARY`` says where."""

    def __init__(self, nursery: Nursery, directory: Path, **environment: str) -> None:
        super().__init__(directory, **environment)
        self._nursery = nursery
        self._said = directory / "said"

    def launch(self, **environment: str) -> None:
        self._earlier_lives = len(self.log)
        self._process = self._nursery.start(
            ["run"], {**self.environment, **environment}, self._log, self._log
        )
        self.url = ""

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {**self.environment, "COLUMNS": COLUMNS, **environment}
        output, errors = self._said.with_suffix(".out"), self._said.with_suffix(".err")
        for file in (output, errors):
            file.write_text("")
        ended = self._nursery.start(words, settings, output, errors)
        code = ended.wait(COMMAND_SECONDS)
        return subprocess.CompletedProcess(ended.args, code, output.read_text(), errors.read_text())


def fork_on_demand(connection: socket.socket) -> Mapping[str, Any] | None:
    """Fork on every wish; return it in the child, and ``None`` at the end."""
    children: set[int] = set()
    while message := connection.recv(1 << 16):
        wish = json.loads(message)
        if "words" in wish:
            if not (pid := os.fork()):
                return wish
            children.add(pid)
            answer: int | None = pid
        else:
            answer = _exit_code(wish["ended"]) if wish["ended"] in children else None
            children -= set() if answer is None else {wish["ended"]}
        connection.send(json.dumps(answer).encode())
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def become(wish: Mapping[str, Any]) -> None:
    """Be the process that was wished for."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output, errors = (
        os.open(wish[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in ("output", "errors")
    )
    for descriptor, number in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wish["environment"])
    sys.argv = ["embedsync", *wish["words"]]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        import_module(name)
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as connection:
        wish = fork_on_demand(connection)
    if wish is not None:
        become(wish)
        sys.modules["counting_daemon"].live()
