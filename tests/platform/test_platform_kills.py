"""Killed at whatever call that shows its work, the daemon's next life shows what is true."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from signal import SIGKILL

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lifecycle"))  # the daemon that keeps a diary lives there

from counting_daemon import encodings, main, write_down_what_is_encoded
from platform_emulator import Emulator, Fault

from daemon.platform import flags

pytestmark = pytest.mark.skipif(find_spec("supervisely") is None, reason="comes with the extra `platform`")

FORKS = multiprocessing.get_context("forkserver")
"""Importing the SDK takes seconds: once for all lives."""

IMAGES = 4
GATHER_SECONDS, SLOW_SECONDS = 0.2, 1.0
"""Pictures that come so late keep a sync going until it is shown to be in progress, which takes a moment."""

PATIENCE = 40.0

PROGRESS, EDIT, SHOW = (
    "projects.embeddings-in-progress.update",
    "projects.editInfo",
    "images.embeddings-updated-at.update",
)

DEADLY = [
    ("quick", EDIT, 0, "lost"),  # the vectors are safe, and nothing of them is shown
    ("quick", SHOW, 0, "lost"),  # only the project's time
    ("slow", SHOW, 0, "lost"),  # in progress, and since when, and the vectors are safe
    ("slow", PROGRESS, 1, "lost"),  # in progress still, with nothing to say since when
]
"""Pace of the pictures, the deadly call, how many like it are survived, whether it still has its effect."""

DEADLY_TOO = [
    ("quick", SHOW, 0, "done"),  # everything, though the daemon never heard so
    ("quick", PROGRESS, 0, "lost"),  # the same, but for what needs no change
    ("slow", PROGRESS, 0, "lost"),  # nothing, before the vectors
    ("slow", PROGRESS, 0, "done"),  # in progress, before the vectors
    ("slow", EDIT, 0, "done"),  # in progress, and since when, before the vectors
    ("slow", EDIT, 1, "done"),  # the project's time as well
    ("slow", EDIT, 2, "lost"),  # all but the end
]

THEIRS = {"theirs": {"kept": [1, "two"]}}


def live(settings: dict[str, str], log: str, diary: str) -> None:
    """Be a daemon."""
    os.environ.update(settings)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    flags.GATHER_SECONDS = GATHER_SECONDS
    write_down_what_is_encoded(os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    sys.argv = ["daemon", "run"]
    main()


class Lives:
    """One daemon process after the other over the same state."""

    def __init__(self, emulator: Emulator, directory: Path) -> None:
        self.diary, self.log = directory / "diary", directory / "log"
        self._settings = {
            "SOURCE": "supervisely",
            "SERVER_ADDRESS": emulator.address,
            "API_TOKEN": emulator.world.admin_token,
            "IMGPROXY_ADDRESS": f"{emulator.address}/imgproxy",
            "IMGPROXY_CONCURRENCY": str(IMAGES),
            "ENCODER": "palette",
            "STATE_DIR": str(directory / "state"),
            "PORT": "0",
            "NEWS_SECONDS": "0.2",
            "SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK": "1",
        }
        self.process: ForkServerProcess

    def start(self) -> None:
        self.process = FORKS.Process(target=live, args=(self._settings, str(self.log), str(self.diary)))
        self.process.start()

    def wait_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert self.process.is_alive(), f"it ended with {self.process.exitcode}"
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def wait_for_death(self) -> None:
        self.process.join(PATIENCE)
        assert self.process.exitcode == -SIGKILL, self.log.read_text()[-4000:]

    def end(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(PATIENCE)


@pytest.fixture
def lives(emulator: Emulator, tmp_path: Path) -> Iterator[Lives]:
    FORKS.set_forkserver_preload(["supervisely", "daemon.__main__", "counting_daemon"])
    made = Lives(emulator, tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize(
    "deaths", [DEADLY, pytest.param(DEADLY + DEADLY_TOO, marks=pytest.mark.nightly)], ids=len
)
def test_whichever_call_it_dies_at_the_next_life_shows_what_is_true_and_encodes_nothing_twice(
    emulator: Emulator, lives: Lives, deaths: Sequence[tuple[str, str, int, str]]
) -> None:
    world = emulator.world
    project = world.projects[world.project("first", images=IMAGES)]
    (dataset_id,) = world.dataset_ids(project.id)
    project.custom_data = dict(THEIRS)

    def all_is_shown() -> bool:
        return (
            not project.embeddings_in_progress
            and project.embeddings_updated_at is not None
            and all(world.images[one].embeddings_updated_at for one in world.image_ids(project.id))
            and project.custom_data == THEIRS
        )

    lives.start()
    lives.wait_until(all_is_shown)
    for pace, call, survived, effect in deaths:
        project.embeddings_updated_at = None
        if pace == "slow":
            emulator.faults.add(Fault("imgproxy", "latency", times=None, seconds=SLOW_SECONDS))
        emulator.faults.add(Fault(call, "call", skip=survived, action=lives.process.kill))
        if effect == "lost":
            emulator.faults.add(Fault(call, "reset", times=None, skip=survived))
        world.add(dataset_id, count=IMAGES)
        lives.wait_for_death()
        emulator.faults.clear()
        lives.start()
        lives.wait_until(all_is_shown)
    counts = encodings(lives.diary)
    assert len(counts) == (1 + len(deaths)) * IMAGES
    assert max(counts.values()) == 1
