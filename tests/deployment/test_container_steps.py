"""What the Dockerfile describes is built and run as it says, though without a container."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from carried_out import IMAGE_USER, Builder, made_read_only, usable_python
from dockerfile import ROOT, parsed

READY_SECONDS = 60.0

pytestmark = pytest.mark.nightly


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any user may look into, unlike pytest's own."""
    directory = Path(mkdtemp(prefix="embedsync-image-"))
    directory.chmod(0o755)
    yield directory
    for path in directory.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(directory)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def says(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def until_it_says(url: str, words: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        assert process.poll() is None, "it ended"
        try:
            if words in says(url):
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{url} never said {words}"
        time.sleep(0.2)


def test_the_steps_build_a_tree_that_runs_read_only_as_nobody_in_particular(place: Path) -> None:
    user = IMAGE_USER if os.getuid() == 0 else None
    python = usable_python(user)
    if python is None:
        pytest.skip("NOT CHECKED: no Python 3.11 to 3.13 with ensurepip that an unprivileged user may run")
    builder = Builder(place, python, user)
    if user is not None:
        os.chown(place, user, user)
    build, image = parsed((ROOT / "Dockerfile").read_text())
    builder.carry_out(build)
    made_read_only(place / "opt")
    assert not (place / "opt/embedsync/bin/pip").exists()

    pictures = place / "pictures" / "trip"
    pictures.mkdir(parents=True)
    port = free_port()
    told = {"HOST": "127.0.0.1", "PORT": str(port), "IMAGES_DIR": str(pictures.parent), "ENCODER": "palette"}
    environment = builder.environment({**image.environment, **told})
    program = [builder.within(word) for word in image.last("ENTRYPOINT").words]
    who = {"user": user, "group": user, "extra_groups": None if user is None else []}
    state = builder.within(image.last("WORKDIR").text)

    log = place / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*program, *image.last("CMD").words],
            cwd=state,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            **who,
        )
    try:
        until_it_says(f"http://127.0.0.1:{port}/livez", '"running":true', process)
        until_it_says(f"http://127.0.0.1:{port}/readyz", "ready", process)
        check = [builder.within(word) for word in image.last("HEALTHCHECK").words]
        assert subprocess.run(check, cwd=state, env=environment, timeout=30, **who).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(45) == 0, log.read_text()[-2000:]
        assert subprocess.run(check, cwd=state, env=environment, timeout=30, **who).returncode == 1
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    events = [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert "daemon.stopped" in events
    written = [
        path for path in (place / "opt").rglob("*") if path.stat().st_mtime > (pictures.stat().st_mtime)
    ]
    assert written == []
