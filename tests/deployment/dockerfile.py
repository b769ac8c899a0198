"""A Dockerfile as its builder reads it: stages of instructions."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction; `words` are those of its exec form, or of the line, without its flags."""

    name: str
    text: str
    flags: dict[str, str]
    words: tuple[str, ...]

    @property
    def exec_form(self) -> bool:
        return self.text.startswith("[")


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    image: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (word.partition("=") for one in self.all("ENV") for word in one.words)
        return {name: value for name, _, value in pairs}


def parsed(text: str) -> list[Stage]:
    """Parse the subset of the format that ours is written in."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.M))
    stages: list[Stage] = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            image, _, called = rest.partition(" AS ")
            stages.append(Stage(image, called))
        else:
            stages[-1].instructions.append(_instruction(name, rest.strip()))
    return stages


def _instruction(name: str, rest: str) -> Instruction:
    flags = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    command = rest.removeprefix("CMD ").strip() if name == "HEALTHCHECK" else rest
    words = json.loads(command) if command.startswith("[") else shlex.split(command)
    return Instruction(name, command, flags, tuple(words))
