"""Walking the folder: which files are candidates, what the file system says of them, their bytes.

Everything here is synchronous and runs on the source's own threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BufferedReader
from pathlib import Path

from daemon.folder.listing import DEFAULT_PROJECT, Entry, Stamp, shown
from daemon.pictures import CANDIDATE_SUFFIXES, CONTENT_BYTES
from state.errors import Inconsistent, Rejected, Unavailable

SUFFIXES = frozenset(os.fsencode(suffix) for suffix in CANDIDATE_SUFFIXES)

READ_SIZE = 1 << 20
"""Bytes read at a time while hashing."""

NEVER_WAIT = os.O_NOFOLLOW | os.O_NONBLOCK
"""How files are opened: what turns out to be a link or a pipe must not hold a thread."""

NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors that say that a path leads nowhere; all others say nothing about what is there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is noted while files are looked for.

    :param unknown: folders that could not be looked at, or not wholly, and why: absence proves nothing there
    :param mounts: folders on another device than the one they lie in
    """

    unknown: dict[bytes, str] = field(default_factory=dict)
    mounts: set[bytes] = field(default_factory=set)


class Folder:
    """The directory tree that is the source; its real path never changes while it is open."""

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(os.path.realpath(root))

    def walk(self, top: bytes, seen: Seen) -> Iterator[Entry]:
        """Find the candidates at or below `top`, a path relative to the root."""
        yield from self.entries([top], seen)
        waiting = [top] if self.is_directory(top) else []
        while waiting:
            directory = waiting.pop()
            if self.is_mount(directory):
                seen.mounts.add(directory)
            try:
                for name, is_directory in self._children(directory):
                    path = os.path.join(directory, name)
                    if is_directory:
                        waiting.append(path)
                    else:
                        yield from self.entries([path], seen)
            except Unavailable as problem:
                seen.unknown[directory] = problem.problem

    def walk_project(self, path: bytes, seen: Seen) -> Iterator[Entry]:
        """Find the candidates of a project.

        :raises Unavailable: when it includes the root's own files, and the root cannot be read
        """
        yield from self.walk(path, seen)
        if path == DEFAULT_PROJECT:
            loose = (name for name, is_directory in self._children(b"") if not is_directory)
            yield from self.entries(loose, seen)

    def entries(self, paths: Iterable[bytes], seen: Seen) -> Iterator[Entry]:
        """Find what is at these very paths; where the file system does not answer, the folder is noted.

        It is asked no further there: each answer of a server that is away may take minutes not to come.
        """
        for path in paths:
            folder = os.path.dirname(path)
            if folder in seen.unknown:
                continue
            try:
                entry = self.look(path, seen)
            except Unavailable as problem:
                seen.unknown[folder] = problem.problem
            else:
                if entry:
                    yield entry

    def look(self, path: bytes, seen: Seen | None = None) -> Entry | None:
        """Return what is at `path` now, ``None`` where no candidate is.

        A link is followed only to a file inside the root; one whose target is out of reach is noted alone.

        :raises Unavailable: when the file system does not answer
        """
        if not self.is_candidate(path):
            return None
        whole = os.path.join(self.root, path)
        linked: Seen | None = None
        try:
            found = os.lstat(whole)
            if stat.S_ISLNK(found.st_mode):
                if not self._inside(os.path.realpath(whole)):
                    return None
                linked = seen
                found = os.stat(whole)
        except OSError as error:
            if error.errno in NOTHING_THERE:
                return None
            if linked is not None:
                linked.unknown[path] = f"{shown(whole)}: {error.strerror}"
                return None
            raise Unavailable("source", f"{shown(whole)}: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            return None
        return Entry(path, Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))

    def is_candidate(self, path: bytes) -> bool:
        """Whether a path may hold a picture: by its suffix, and nothing hidden on the way."""
        suffix = os.path.splitext(path)[1].lower()
        return suffix in SUFFIXES and not _hidden(path)

    def content(self, path: bytes, stamp: Stamp) -> str:
        """Return the hash of a file's bytes; an unreadable file has its stamp's, so that it is tried."""
        digest = blake2b(digest_size=CONTENT_BYTES)
        try:
            with self._open(path) as file:
                while block := file.read(READ_SIZE):
                    digest.update(block)
        except (OSError, Rejected):
            digest = blake2b(repr(stamp).encode(), digest_size=CONTENT_BYTES, person=b"unreadable")
        return digest.hexdigest()

    def read(self, path: bytes, limit: int) -> bytes:
        """Return a file's bytes.

        :raises Rejected: when it is over `limit` bytes, or this process may not read it
        :raises Inconsistent: when it is not there any more
        """
        try:
            with self._open(path) as file:
                data = file.read(limit + 1) or b""
        except FileNotFoundError:
            raise Inconsistent("the file is gone since it was listed") from None
        except PermissionError as error:
            raise Rejected(f"cannot be read: {error.strerror}") from error
        except OSError as error:
            raise Unavailable("source", str(error.strerror)) from error
        if len(data) > limit:
            raise Rejected(f"over the limit of {limit} bytes")
        return data

    def projects(self) -> list[bytes]:
        """Return the folders in the root, and ``default`` where pictures lie in the root itself.

        :raises Unavailable, Inconsistent: as `check_root`
        """
        self.check_root()
        children = list(self._children(b""))
        folders = {name for name, is_directory in children if is_directory}
        loose = any(self.look(name) for name, is_directory in children if not is_directory)
        return sorted(folders | {DEFAULT_PROJECT} if loose else folders)

    def check_root(self) -> None:
        """Return if what is missing below the root is really missing.

        :raises Unavailable: when the root is gone or cannot be read
        :raises Inconsistent: when there is nothing visible in it: perhaps it is only not mounted
        """
        try:
            with os.scandir(self.root) as children:
                if any(not _hidden(child.name) for child in children):
                    return
        except OSError as error:
            raise Unavailable("source", f"{shown(self.root)}: {error.strerror}") from error
        raise Inconsistent(f"{shown(self.root)} is empty; nothing is removed for that")

    def is_mount(self, path: bytes) -> bool:
        """Whether a folder is on another device than the one it lies in."""
        return self._device(path) not in (None, self._device(os.path.dirname(path)))

    def is_emptied(self, path: bytes) -> bool:
        """Whether a folder that was a mount is an empty one now: perhaps it is only not mounted."""
        return (
            self.is_directory(path) and not self.is_mount(path) and next(self._children(path), None) is None
        )

    def has_project(self, path: bytes) -> bool:
        """Whether a project known before is there still; while the root is away, it is."""
        return path == DEFAULT_PROJECT or self.is_directory(path) or self.identity() is None

    def identity(self) -> tuple[int, int] | None:
        """Return what tells this root from another one mounted in its place; ``None`` while it is gone."""
        try:
            found = os.stat(self.root)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def is_directory(self, path: bytes) -> bool:
        """Whether there is a directory, not hidden and not a link, at `path`."""
        whole = os.path.join(self.root, path)
        return not _hidden(path) and os.path.isdir(whole) and not os.path.islink(whole)

    def directories(self, paths: Iterable[bytes]) -> set[bytes]:
        """Return those of these paths where there are directories, which may be called as pictures are."""
        return {path for path in paths if self.is_directory(path)}

    def shown(self, path: bytes) -> str:
        """Return a path with the root before it, for people."""
        return shown(os.path.join(self.root, path))

    def _device(self, path: bytes) -> int | None:
        try:
            return os.stat(os.path.join(self.root, path)).st_dev
        except OSError:
            return None

    def _children(self, directory: bytes) -> Iterator[tuple[bytes, bool]]:
        whole = os.path.join(self.root, directory)
        try:
            with os.scandir(whole) as children:
                for child in children:
                    if not _hidden(child.name):
                        yield child.name, child.is_dir(follow_symlinks=False)
        except OSError as error:
            if not directory or error.errno not in NOTHING_THERE:
                raise Unavailable("source", f"{shown(whole)}: {error.strerror}") from error

    def _inside(self, real_path: bytes) -> bool:
        return real_path.startswith(self.root.rstrip(b"/") + b"/")

    def _open(self, path: bytes) -> BufferedReader:
        whole = os.path.realpath(os.path.join(self.root, path))
        if not self._inside(whole):
            raise Rejected("a link out of the folder")
        return open(whole, "rb", opener=lambda path, flags: os.open(path, flags | NEVER_WAIT))


def _hidden(path: bytes) -> bool:
    return path.startswith(b".") or b"/." in path
