"""The Dockerfile's own steps, carried out without an engine: in a directory, by an unprivileged user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile import ROOT, Instruction, Stage

IMAGE_USER = 65532

STEP_SECONDS = 1200.0

PLACES = ("/opt/embedsync", "/var/lib/embedsync", "/build")
"""Absolute paths of the image that have to be elsewhere on a machine that is none."""


@dataclass
class Builder:
    """Carries out one stage below a directory.

    :param place: stands for the root of the image's file system
    :param python: the interpreter that stands for the base image's
    :param user: who carries it out; ``None``: whoever runs the tests
    """

    place: Path
    python: str
    user: int | None
    _directory: str = field(default="", init=False)

    def within(self, text: str) -> str:
        """Return the text with the image's paths as they are here."""
        for one in PLACES:
            text = text.replace(one, f"{self.place}{one}")
        return text

    def carry_out(self, stage: Stage) -> None:
        """Do what the stage's steps say; what asks for root is left out."""
        for step in stage.instructions:
            if step.name == "WORKDIR":
                self.run(["mkdir", "-p", self.within(step.words[0])])
                self._directory = self.within(step.words[0])
            elif step.name == "COPY" and "from" not in step.flags:
                self._copy(step)
            elif step.name == "RUN" and "apt-get" not in step.text:
                self.run([self.python if word == "python" else self.within(word) for word in step.words])

    def run(self, words: list[str]) -> None:
        done = subprocess.run(
            words,
            cwd=self._directory or self.place,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            env=self.environment({}),
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
        )
        assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        network = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        settled = {name: self.within(value) for name, value in given.items()}
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.place), **network, **pip, **settled}

    def _copy(self, step: Instruction) -> None:
        source, target = ROOT / step.words[0], Path(self._directory, self.within(step.words[1]))
        self.run(["mkdir", "-p", str(target.parent)])
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(source, target)
        for path in (target, *target.rglob("*")) if self.user is not None else ():
            os.chown(path, self.user or -1, self.user or -1)


def usable_python(user: int | None) -> str | None:
    """Return an interpreter of a supported version that the user may run and make environments with."""
    check = "import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
    for one in _interpreters():
        try:
            run = subprocess.run(
                [one, "-c", check], user=user, group=user, cwd="/", env={}, capture_output=True, timeout=30
            )
        except OSError:
            continue
        if run.returncode == 0:
            return one
    return None


def _interpreters() -> Iterator[str]:
    yield os.path.realpath(sys.executable)
    for name in ("python3.12", "python3.13", "python3.11", "python3"):
        yield from filter(None, (shutil.which(name), shutil.which(name, path="/usr/local/bin:/usr/bin")))


def made_read_only(tree: Path) -> None:
    """Take away everybody's right to write below a directory; root's processes give it up by their user."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
            if os.getuid() == 0:
                os.chown(path, 0, 0)
