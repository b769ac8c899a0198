"""The folder's listing: a table of what was found where, with the hash of each file's bytes.

Ids are derived from the path relative to the root, so they survive restarts and a lost journal. The
hash is kept by (size, mtime, ctime, inode), so that a restart does not read every byte again.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from state.model import ImageRef, Project

SCHEMA = """
CREATE TABLE IF NOT EXISTS folder_projects (id INTEGER PRIMARY KEY, path BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS folder_whole (project_id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS folder_gone (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS folder_mounts (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folder_files (
    id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, dataset_id INTEGER NOT NULL, path BLOB NOT NULL,
    content TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS folder_files_by_path ON folder_files (path);
CREATE INDEX IF NOT EXISTS folder_files_by_project ON folder_files (project_id, id);
CREATE INDEX IF NOT EXISTS folder_gone_by_project ON folder_gone (project_id);
"""

DEFAULT_PROJECT = b"default"
"""The project of pictures that lie directly in the root."""


Row = tuple[int, bytes]
"""An image's id and path; a page of them starts after the last one of the page before."""

BEFORE_ALL: Row = (-1, b"")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file without reading it; when it is the same, so are the bytes."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file found under the root; `path` is relative to it, as the file system spells it."""

    path: bytes
    stamp: Stamp

    @property
    def id(self) -> int:
        """The image's id."""
        return path_id(self.path)

    @property
    def project_path(self) -> bytes:
        """The folder that is its project."""
        return project_of(self.path)


def project_of(path: bytes) -> bytes:
    """Return the folder that is the project of the file at `path`."""
    first, slash, _ = path.partition(b"/")
    return first if slash else DEFAULT_PROJECT


def path_id(path: bytes) -> int:
    """Return the 48-bit id of a path relative to the root."""
    return int.from_bytes(blake2b(path, digest_size=6).digest())


def outermost(paths: Collection[bytes]) -> list[bytes]:
    """Return those of these folders that lie in no other one, in the order of what lies in them."""
    kept: list[bytes] = []
    for path in sorted(paths, key=lambda path: path + b"/"):
        if not kept or not path.startswith(kept[-1] + b"/"):
            kept.append(path)
    return kept


def inside(path: bytes, folders: Collection[bytes]) -> bool:
    """Whether a path lies in one of these folders, at any depth; the root is ``b""``."""
    while folders and path:
        path = path.rpartition(b"/")[0]
        if path in folders:
            return True
    return False


def shown(path: bytes) -> str:
    """Return a path in valid Unicode, for people and payloads."""
    return path.decode(errors="backslashreplace")


def stamps(db: sqlite3.Connection, entries: Sequence[Entry]) -> dict[bytes, Stamp]:
    """Return the stamps that the listing has for these files, by path."""
    rows = db.execute(
        "SELECT path, size, mtime_ns, ctime_ns, inode FROM folder_files"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([entry.id for entry in entries]),),
    )
    return {path: Stamp(*stamp) for path, *stamp in rows}


def record(db: sqlite3.Connection, found: Iterable[tuple[Entry, str]]) -> list[tuple[bytes, bytes]]:
    """Write files with their content hashes; return the pairs of paths that collide in one id.

    Of two files with one id the one already listed stays.
    """
    collisions = []
    for entry, content in found:
        image_id, project_id = entry.id, path_id(entry.project_path)
        row = db.execute("SELECT path FROM folder_files WHERE id = ?", (image_id,)).fetchone()
        if row and row[0] != entry.path:
            collisions.append((entry.path, row[0]))
            continue
        stamp = entry.stamp
        db.execute("INSERT OR IGNORE INTO folder_projects VALUES (?, ?)", (project_id, entry.project_path))
        db.execute(
            "INSERT OR REPLACE INTO folder_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(image_id, project_id, path_id(entry.path.rpartition(b"/")[0]), entry.path, content),
                *(stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode),
            ),
        )
    return collisions


def doubt(db: sqlite3.Connection, image_id: int) -> None:
    """Forget the stamp of a file, whose bytes are not what they were, so that it is read again."""
    db.execute("UPDATE folder_files SET inode = -1 WHERE id = ?", (image_id,))


def forget(db: sqlite3.Connection, image_ids: Collection[int]) -> None:
    """Take files out of the listing; that they were in it is remembered until all of the project is known."""
    db.executemany(
        "INSERT OR IGNORE INTO folder_gone SELECT id, project_id FROM folder_files WHERE id = ?",
        ((image_id,) for image_id in image_ids),
    )
    db.executemany("DELETE FROM folder_files WHERE id = ?", ((image_id,) for image_id in image_ids))


def paths_under(db: sqlite3.Connection, last: Row, limit: int, *, tops: Sequence[bytes]) -> list[Row]:
    """Return ids and paths listed below these folders, which are `outermost`, by path."""
    rows: list[Row] = []
    for top in tops:
        if len(rows) < limit:
            rows += db.execute(
                "SELECT id, path FROM folder_files WHERE path > ? AND path < ? ORDER BY path LIMIT ?",
                (max(last[1], top + b"/"), top + b"0", limit - len(rows)),
            )
    return rows


def paths_of(db: sqlite3.Connection, last: Row, limit: int, *, project_id: int) -> list[Row]:
    """Return ids and paths listed for a project, in ascending order of id."""
    return db.execute(
        "SELECT id, path FROM folder_files WHERE project_id = ? AND id > ? ORDER BY id LIMIT ?",
        (project_id, last[0], limit),
    ).fetchall()


def paths_among(db: sqlite3.Connection, last: Row, limit: int, *, image_ids: Collection[int]) -> list[Row]:
    """Return ids and paths of those of these images that are listed, in ascending order of id."""
    return db.execute(
        "SELECT id, path FROM folder_files WHERE id > ? AND id IN (SELECT value FROM json_each(?))"
        " ORDER BY id LIMIT ?",
        (last[0], json.dumps(list(image_ids)), limit),
    ).fetchall()


def page(db: sqlite3.Connection, project_id: int, after: int, limit: int) -> list[ImageRef]:
    """Return a project's images with ids above `after`, in ascending order."""
    rows = db.execute(
        "SELECT id, project_id, dataset_id, path, content FROM folder_files"
        " WHERE project_id = ? AND id > ? ORDER BY id LIMIT ?",
        (project_id, after, limit),
    )
    return [_image(*row) for row in rows]


def some(db: sqlite3.Connection, image_ids: Collection[int]) -> list[ImageRef]:
    """Return those of these images that are listed, in ascending order of id."""
    rows = db.execute(
        "SELECT id, project_id, dataset_id, path, content FROM folder_files"
        " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(list(image_ids)),),
    )
    return [_image(*row) for row in rows]


def projects_of(db: sqlite3.Connection, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
    """Map each project to those of these images that are listed for it."""
    found = defaultdict(set)
    for project_id, image_id in db.execute(
        "SELECT project_id, id FROM folder_files WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(image_ids)),),
    ):
        found[project_id].add(image_id)
    return {project_id: frozenset(ids) for project_id, ids in found.items()}


def count(db: sqlite3.Connection, project_id: int) -> int:
    """Return how many images of the project are listed."""
    row = db.execute("SELECT COUNT(*) FROM folder_files WHERE project_id = ?", (project_id,)).fetchone()
    return int(row[0])


def project(path: bytes) -> Project:
    """Return the project a sub-folder of the root is."""
    return Project(path_id(path), shown(path))


def project_path(db: sqlite3.Connection, project_id: int) -> bytes | None:
    """Return the sub-folder that was once seen to be this project."""
    row = db.execute("SELECT path FROM folder_projects WHERE id = ?", (project_id,)).fetchone()
    return row[0] if row else None


def project_named(db: sqlite3.Connection, name: str) -> bytes | None:
    """Return the sub-folder that is shown under this name; the file system may spell it otherwise."""
    rows = db.execute("SELECT path FROM folder_projects")
    return next((path for (path,) in rows if shown(path) == name), None)


def tells_of(db: sqlite3.Connection, project_id: int, image_ids: Collection[int]) -> bool:
    """Whether those of these images that are not listed are gone, rather than not found yet."""
    if db.execute("SELECT 1 FROM folder_whole WHERE project_id = ?", (project_id,)).fetchone():
        return True
    untold = db.execute(
        "SELECT 1 FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM folder_files WHERE id = value)"
        " AND NOT EXISTS (SELECT 1 FROM folder_gone WHERE id = value)",
        (json.dumps(list(image_ids)),),
    )
    return untold.fetchone() is None


def remember_whole(db: sqlite3.Connection, project_id: int) -> None:
    """Note that all of a project has been looked at."""
    db.execute("INSERT OR IGNORE INTO folder_whole VALUES (?)", (project_id,))
    db.execute("DELETE FROM folder_gone WHERE project_id = ?", (project_id,))


def mounts(db: sqlite3.Connection) -> list[bytes]:
    """Return the folders that were seen to be mounted."""
    return [path for (path,) in db.execute("SELECT path FROM folder_mounts")]


def remember_mounts(db: sqlite3.Connection, gone: Collection[bytes], new: Collection[bytes]) -> None:
    """Forget and remember mounted folders."""
    db.executemany("DELETE FROM folder_mounts WHERE path = ?", ((path,) for path in gone))
    db.executemany("INSERT OR IGNORE INTO folder_mounts VALUES (?)", ((path,) for path in new))


def create(db: sqlite3.Connection) -> None:
    """Make the tables."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)


def remember_projects(db: sqlite3.Connection, project_paths: Collection[bytes]) -> None:
    """Write down which sub-folders are projects."""
    db.executemany(
        "INSERT OR IGNORE INTO folder_projects VALUES (?, ?)",
        ((path_id(path), path) for path in project_paths),
    )


def _image(image_id: int, project_id: int, dataset_id: int, path: bytes, content: str) -> ImageRef:
    whole = shown(path)
    return ImageRef(image_id, project_id, dataset_id, whole.rpartition("/")[2], content, whole)
