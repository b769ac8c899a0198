"""What a person does to a folder of photographs, and what the index does about it."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from daemon_asked import Costs
from live_daemon import LiveDaemon
from painted import COLOURS, fill, painted

from daemon.folder import samples

FOUND_SECONDS = 2.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    """A daemon that has indexed the sample photographs; each test works in projects of its own."""
    daemon = LiveDaemon(tmp_path_factory.mktemp("watched"))
    samples.fill(daemon.images)
    try:
        daemon.start()
        daemon.wait_for(photographs(daemon.images))
        yield daemon
    finally:
        daemon.close()


def photographs(root: Path) -> dict[str, int]:
    return {
        project.name: sum(path.is_file() for path in project.rglob("*")) for project in sorted(root.iterdir())
    }


@pytest.fixture
def project(watched: LiveDaemon, request: pytest.FixtureRequest) -> Path:
    """A project of the test's own with three painted pictures, indexed already."""
    folder = watched.images / request.node.name.removeprefix("test_")
    folder.mkdir()
    before, seed = watched.costs(), 10_000 + zlib.crc32(folder.name.encode())
    for number in range(3):
        (folder / f"{number}.jpeg").write_bytes(painted(seed + number))
    watched.wait_for_costs(before, Costs(encoded=3), folder.name)
    return folder


def test_photographs_are_found_by_words_and_by_example(watched: LiveDaemon) -> None:
    wish = {"project_id": "everyday", "prompt": "dark red", "limit": 1}
    (example,) = watched.post("/search", wish).json["items"]
    alike = watched.found("everyday", by_image_ids=[example["image_id"]], limit=3)
    assert len(alike) == 3
    assert example["path"] not in alike
    photograph = example["name"].partition("-")[0].partition(".")[0]
    assert any(photograph in path for path in alike), "none of its details is like it"


def test_a_copied_in_picture_is_found_by_words_and_by_example_within_two_seconds(
    watched: LiveDaemon, project: Path
) -> None:
    before = watched.costs()
    (project / "blue-0.jpeg").write_bytes(painted(10, colour=COLOURS["blue"]))
    watched.wait_for_costs(before, Costs(encoded=1), project.name)
    wish = {"project_id": project.name, "prompt": "blue", "limit": 1}
    (example,) = watched.post("/search", wish).json["items"]
    waits = []
    for number in range(1, 4):
        path = f"{project.name}/blue-{number}.jpeg"
        copied = time.monotonic()
        (watched.images / path).write_bytes(painted(10 + number, colour=COLOURS["blue"]))
        watched.wait_until(partial(_is_found, watched, path), 10)
        assert path in watched.found(project.name, by_image_ids=[example["image_id"]], limit=number)
        waits.append(time.monotonic() - copied)
    assert statistics.median(waits) <= FOUND_SECONDS, waits


def _is_found(daemon: LiveDaemon, path: str) -> bool:
    return path in daemon.found(path.partition("/")[0], prompt="blue")


def test_replacing_a_picture_encodes_just_it(watched: LiveDaemon, project: Path) -> None:
    before = watched.costs()
    (project / "1.jpeg").write_bytes(painted(20, colour=COLOURS["yellow"]))
    watched.wait_for_costs(before, Costs(encoded=1), project.name)
    assert watched.found(project.name, prompt="yellow", limit=1) == [f"{project.name}/1.jpeg"]


def test_renaming_a_picture_costs_no_encoding(watched: LiveDaemon, project: Path) -> None:
    before = watched.costs()
    (project / "1.jpeg").rename(project / "renamed.jpeg")
    watched.wait_for_costs(before, Costs(reused=1, removed=1), project.name)
    assert f"{project.name}/renamed.jpeg" in watched.found(project.name, prompt="bright")


def test_touching_a_picture_costs_nothing(watched: LiveDaemon, project: Path) -> None:
    before = watched.costs()
    (project / "1.jpeg").touch()
    (project / "sentinel.jpeg").write_bytes(painted(30))
    watched.wait_for_costs(before, Costs(encoded=1), project.name)


def test_deleting_a_picture_removes_it(watched: LiveDaemon, project: Path) -> None:
    before = watched.costs()
    (project / "1.jpeg").unlink()
    watched.wait_for_costs(before, Costs(removed=1), project.name)
    assert watched.found(project.name, prompt="bright", limit=10).count(f"{project.name}/1.jpeg") == 0


def test_a_copied_folder_costs_no_encoding(watched: LiveDaemon, project: Path) -> None:
    fill(project / "thirty", range(40, 70))
    watched.wait_for({**watched.indexed(), project.name: 33})
    before = watched.costs()
    shutil.copytree(project / "thirty", project / "deep" / "copy")
    watched.wait_for_costs(before, Costs(reused=30), project.name)
    copy = watched.images / f"{project.name}-copied"
    shutil.copytree(project / "thirty", copy)
    watched.wait_until(lambda: watched.indexed().get(copy.name) == 30, 15)
    watched.wait_for_costs(before, Costs(reused=60), copy.name)


def test_moving_a_picture_to_another_project_costs_no_encoding(watched: LiveDaemon, project: Path) -> None:
    other = watched.images / f"{project.name}-elsewhere"
    before = watched.costs()
    other.mkdir()
    (project / "1.jpeg").rename(other / "1.jpeg")
    watched.wait_for_costs(before, Costs(reused=1, removed=1), project.name)
    assert watched.indexed()[other.name] == 1


def test_a_file_written_slowly_is_indexed_once_and_never_set_aside(
    watched: LiveDaemon, project: Path
) -> None:
    before = watched.costs()
    content = painted(80, side=200, colour=COLOURS["green"])
    with (project / "slow.jpeg").open("wb") as file:
        for start in range(0, len(content), 500):
            file.write(content[start : start + 500])
            file.flush()
            assert watched.metrics()["images_quarantined"] == 0
            assert watched.costs() == before
            time.sleep(0.15)
    watched.wait_for_costs(before, Costs(encoded=1), project.name)
    assert watched.found(project.name, prompt="green", limit=1) == [f"{project.name}/slow.jpeg"]


def test_links_out_of_the_folder_and_hidden_files_are_left_alone(
    watched: LiveDaemon, project: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "outside.jpeg"
    secret.write_bytes(painted(90))
    before = watched.costs()
    (project / "link.jpeg").symlink_to(secret)
    (project / "folder").symlink_to(tmp_path, target_is_directory=True)
    (project / ".hidden.jpeg").write_bytes(painted(91))
    (project / ".cache").mkdir()
    (project / ".cache" / "thumbnail.jpeg").write_bytes(painted(92))
    (project / "sentinel.jpeg").write_bytes(painted(93))
    watched.wait_for_costs(before, Costs(encoded=1), project.name)
    assert watched.indexed()[project.name] == 4
    assert watched.metrics()["images_quarantined"] == 0
    os.unlink(project / "folder")
