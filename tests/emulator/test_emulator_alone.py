"""``python -m tests.platform_emulator``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone() -> Any:
    """An emulator in a process of its own, and what it says of itself."""
    command = [sys.executable, "-m", "tests.platform_emulator", "--projects", "3", "--images", "90"]
    command += ["--app", "http://127.0.0.1:9"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = dict(process.stdout.readline().strip().split("=", 1) for _ in range(5))
        yield said
        process.terminate()
        assert process.wait(timeout=10) == 0


def ask(alone: dict[str, str], token: str, method: str, **body: Any) -> Any:
    url = f"{alone['SERVER_ADDRESS']}/public/api/v3/{method}"
    return requests.post(url, json=body, headers={"x-api-key": token}, timeout=10).json()


def test_it_has_projects_full_of_pictures(alone: dict[str, str]) -> None:
    projects = ask(alone, alone["API_TOKEN"], "projects.list.all")["entities"]
    assert [project["imagesCount"] for project in projects] == [30, 30, 30]


def test_its_user_may_read_them(alone: dict[str, str]) -> None:
    assert ask(alone, alone["USER_TOKEN"], "projects.list.all")["total"] == 3


def test_its_previews_are_where_it_says(alone: dict[str, str]) -> None:
    row = ask(alone, alone["API_TOKEN"], "images.list", projectId=101)["entities"][0]
    path = row["fullStorageUrl"].removeprefix(alone["SERVER_ADDRESS"])
    url = f"{alone['IMGPROXY_ADDRESS']}/q/ext:jpeg/resize:fit:224:224:0/q:70/plain{path}"
    assert requests.get(url, timeout=10).headers["Content-Type"] == "image/jpeg"


def test_its_task_leads_to_the_app(alone: dict[str, str]) -> None:
    task = int(alone["TASK_ID"])
    assert ask(alone, alone["API_TOKEN"], "tasks.info", id=task)["status"] == "started"
    answer = ask(alone, alone["USER_TOKEN"], "tasks.request.direct", taskId=task, command="search")
    assert answer["error"] == "The app cannot be reached"
