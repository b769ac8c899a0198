"""A real daemon: a process of its own on a folder and a state of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
from daemon_asked import Costs, DaemonAsked

ROOT = Path(__file__).parents[2]
READY_SECONDS = 30.0
END_SECONDS = 45.0
COMMAND_SECONDS = 60.0
POLL_SECONDS = 0.03
LOG_TAIL_LINES = 20
READY, ANSWERED = '"event": "daemon.ready"', '"event": "request.answered"'

Seen = TypeVar("Seen")


class LiveDaemon(DaemonAsked):
    """One daemon after the other on the same folder and state.

    :param directory: holds the pictures, the state and the log
    :param program: what Python runs in place of ``-m daemon``
    :param environment: settings beside the folder's and the state's
    """

    def __init__(
        self,
        directory: Path,
        program: Sequence[str] = ("-m", "daemon"),
        **environment: str,
    ) -> None:
        self.images = directory / "images"
        self.images.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            "IMAGES_DIR": str(self.images),
            "STATE_DIR": str(directory / "state"),
            "PORT": "0",
            **environment,
        }
        self.url = ""
        self._program = program
        self._log = directory / "daemon.log"
        self._earlier_lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._children: set[psutil.Process] = set()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def life(self) -> str:
        """The log since the process was started last."""
        return self.log[self._earlier_lives :]

    @property
    def state(self) -> Path:
        """The state of this folder of pictures."""
        (found,) = Path(self.environment["STATE_DIR"]).iterdir()
        return found

    def launch(self, **environment: str) -> None:
        """Start the process, whatever becomes of it; these settings are this life's only."""
        self._earlier_lives = len(self.log)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._program, "run"],
                cwd=ROOT,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = ""

    def start(self, **environment: str) -> LiveDaemon:
        """Start the process and wait until it is ready."""
        self.launch(**environment)
        self.url = self.wait_until(self._announced, READY_SECONDS)
        self.wait_until(lambda: self.get("/readyz").status == 200, READY_SECONDS)
        return self

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line under the same settings."""
        return subprocess.run(
            [sys.executable, *self._program, *words],
            cwd=ROOT,
            env={**self.environment, "COLUMNS": "200", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def wait_for(self, indexed: Mapping[str, int], seconds: float = 30.0) -> None:
        """Wait until exactly these counts are indexed and nothing is being done any more."""

        def reached() -> bool:
            projects = self.projects()
            counts = {name: one["fresh"] for name, one in projects.items() if one["fresh"]}
            busy = any(one["task"] == "running" for one in projects.values())
            return counts == indexed and not busy and not self.metrics()["queue_depth"]

        try:
            self.wait_until(reached, seconds)
        except AssertionError as failure:
            raise AssertionError(f"{failure}: {self.projects()} and not {dict(indexed)}") from None

    def wait_for_costs(self, before: Costs, expected: Costs, project: str, seconds: float = 15.0) -> None:
        """Wait until that much was done since `before`, and be sure that nothing more is to come."""
        spent = Costs()

        def reached() -> bool:
            nonlocal spent
            spent = self.costs().since(before)
            return spent == expected

        try:
            self.wait_until(reached, seconds)
        except AssertionError as failure:
            raise AssertionError(f"{failure}: {expected}, but {spent}") from None
        assert self.wanting(project) == {}
        assert self.costs().since(before) == expected

    def wait_until(self, seen: Callable[[], Seen], seconds: float) -> Seen:
        """Ask again and again until the answer is truthy; return it."""
        deadline = time.monotonic() + seconds
        while not (answer := seen()):
            code = self.process.poll()
            assert code is None, f"the daemon ended with {code}"
            assert time.monotonic() < deadline, f"not seen within {seconds:g} s"
            time.sleep(POLL_SECONDS)
        return answer

    def store_child(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        self._children.add(child)
        return child

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the daemon to end; return its exit code."""
        self.send(number)
        return self.process.wait(END_SECONDS)

    def kill(self) -> None:
        """End the daemon without a warning, as a power cut would."""
        self._note_children()
        self.process.kill()
        self.process.wait(END_SECONDS)

    def close(self) -> None:
        """Leave nothing behind, whatever state the test left things in."""
        if self.alive:
            self.kill()
        for child in self._children:
            if not ended(child):
                child.kill()
        wait_for_end(self._children, 10)

    def log_tail(self) -> str:
        """Return the last events, without those of answered requests."""
        lines = [line for line in self.log.splitlines() if ANSWERED not in line]
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _note_children(self) -> None:
        try:
            self._children.update(psutil.Process(self.process.pid).children())
        except psutil.NoSuchProcess:
            return

    def _announced(self) -> str:
        """Return the URL that this life's log names."""
        lines = self.life.splitlines() if READY in self.life else ()
        return next((json.loads(line)["url"] for line in lines if READY in line), "")


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more, even if its parent has not asked for its exit code yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_end(processes: Iterable[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if not ended(process)]:
        assert time.monotonic() < deadline, f"still there after {seconds:g} s: {alive}"
        time.sleep(POLL_SECONDS)
