"""A real daemon: a process of its own on a folder and a state of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).parents[2]
READY_SECONDS = 30.0
END_SECONDS = 45.0
ASK_SECONDS = 30.0
COMMAND_SECONDS = 60.0
POLL_SECONDS = 0.03
LOG_TAIL_LINES = 20
READY, ANSWERED = '"event": "daemon.ready"', '"event": "request.answered"'

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was done to keep the index right, by the counters of ``/metrics``."""

    encoded: int = 0
    reused: int = 0
    retagged: int = 0
    removed: int = 0

    def since(self, earlier: Costs) -> Costs:
        return Costs(
            self.encoded - earlier.encoded,
            self.reused - earlier.reused,
            self.retagged - earlier.retagged,
            self.removed - earlier.removed,
        )


class LiveDaemon:
    """One daemon after the other on the same folder and state.

    :param directory: holds the state, the log and, unless `images` says otherwise, the pictures
    :param program: what Python runs in place of ``-m daemon``
    :param environment: settings beside the folder's and the state's
    """

    def __init__(
        self,
        directory: Path,
        images: Path | None = None,
        program: Sequence[str] = ("-m", "daemon"),
        **environment: str,
    ) -> None:
        self.images = images or directory / "images"
        self.images.mkdir(parents=True, exist_ok=True)
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
        self._directory = directory
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

    def launch(self, **environment: str) -> subprocess.Popen[bytes]:
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
        return self._process

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

    def get(self, path: str, token: str | None = None) -> Answer:
        return self._ask("GET", path, None, token)

    def post(self, path: str, body: Mapping[str, object] | None = None, token: str | None = None) -> Answer:
        return self._ask("POST", path, body or {}, token)

    def metrics(self) -> dict[str, float]:
        """Return every series, without the prefix they share."""
        lines = (line for line in self.get("/metrics").text.splitlines() if not line.startswith("#"))
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {name.removeprefix("embedsync_"): float(value) for name, value in pairs}

    def costs(self) -> Costs:
        metrics = self.metrics()
        kinds = ("encoded", "reused", "retagged", "removed")
        return Costs(*(int(metrics[f"images_{kind}_total"]) for kind in kinds))

    def projects(self) -> dict[str, dict[str, Any]]:
        """Return where the projects stand that are there, by name."""
        return {one["name"]: one for one in self.get("/status").json["projects"] if not one["gone"]}

    def indexed(self) -> dict[str, int]:
        """Return how many images of each project are fresh; projects without any are left out."""
        return {name: one["fresh"] for name, one in self.projects().items() if one["fresh"]}

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

    def wanting(self, project: str) -> dict[str, int]:
        """Return what a sync would do, by action; looking at every file afresh."""
        answer = self.post("/embeddings", {"project_id": project, "dry_run": True})
        (plan,) = answer.json["plans"]
        return {action: count for action, count in plan["counts"].items() if count and action != "keep"}

    def found(self, project: str, **query: object) -> list[str]:
        """Search, and return the paths of what was found."""
        answer = self.post("/search", {"project_id": project, **query})
        return [item["path"] for item in answer.json.get("items", ())] if answer.status == 200 else []

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

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None, token: str | None) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=ASK_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())
        except (ConnectionError, HTTPException) as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            raise AssertionError(f"exit code {self.process.returncode}: {error!r}") from error
        finally:
            connection.close()


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
