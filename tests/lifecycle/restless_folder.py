"""A folder of pictures in which something of every kind changes again and again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import Random

from counting_daemon import digest
from painted import painted

from daemon.encoders.palette import PaletteEncoder
from daemon.pictures import content_hash, decode

PROJECTS = ("harbour", "meadow")
BROKEN_BYTES = b"<!DOCTYPE html><html>%d</html>"


class RestlessFolder:
    """The folder and what is in it; no bytes that left it ever come back.

    :param size: pictures in it, about
    :ivar good: the bytes of each picture, by path below the root
    :ivar broken: paths of files that are no pictures
    :ivar digests: how the diary calls the pixels of bytes, by their identity
    :ivar departed: what the diary calls pictures of which a file went: a copy that had not come to rest by
        then finds no vector to reuse
    """

    def __init__(self, root: Path, random: Random, size: int) -> None:
        self.root, self.size = root, size
        self.good: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.digests: dict[str, str] = {}
        self.departed: set[str] = set()
        self._random = random
        self._numbers = 0
        for name in PROJECTS:
            (root / name).mkdir(parents=True)

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures each project has."""
        return dict(Counter(path.partition("/")[0] for path in self.good))

    def change(self, added: int) -> None:
        """Do something of every kind; so many pictures are new, and as many leave once it is full."""
        for _ in range(added):
            self._put(self._new_path(), self._new_picture())
        for path in self._some(4):
            self._move(path, self._new_path())
        for path in self._some(3):
            self._put(path, self._new_picture())
        for path in self._some(2):
            self._put(self._new_path(), self.good[path])
        self._mend()
        self._spoil()
        for path in self._some(max(3, len(self.good) - self.size)):
            (self.root / path).unlink()
            self._depart(path)

    def _mend(self) -> None:
        for path in self._random.sample(sorted(self.broken), len(self.broken) // 2):
            self.broken.remove(path)
            self._put(path, self._new_picture())

    def _spoil(self) -> None:
        for path in (self._new_path(), *self._some(1)):
            self._depart(path)
            self.broken.add(path)
            self._write(path, BROKEN_BYTES % self._next())

    def _new_picture(self) -> bytes:
        picture = painted(self._next(), "png", 24)
        self.digests[content_hash(picture)] = digest(decode(picture, PaletteEncoder.picture_side))
        return picture

    def _new_path(self) -> str:
        return f"{self._random.choice(PROJECTS)}/{self._next()}.png"

    def _some(self, number: int) -> list[str]:
        return self._random.sample(sorted(self.good), min(number, len(self.good)))

    def _depart(self, path: str) -> None:
        if picture := self.good.pop(path, None):
            self.departed.add(self.digests[content_hash(picture)])

    def _put(self, path: str, picture: bytes) -> None:
        self._depart(path)
        self.good[path] = picture
        self._write(path, picture)

    def _move(self, path: str, to: str) -> None:
        self.good[to] = self.good.pop(path)
        (self.root / path).rename(self.root / to)

    def _write(self, path: str, content: bytes) -> None:
        """Let a file appear whole."""
        aside = self.root.with_name("aside")
        aside.write_bytes(content)
        os.replace(aside, self.root / path)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers
