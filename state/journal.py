"""The journal: a small SQLite file with what is worth remembering but may be lost.

Losing it costs one full sweep, and nothing else. All access goes through one thread, so no call
blocks the event loop and none needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from state.errors import Unavailable
from state.model import Quarantined, StoredImage

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS watermarks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    encoder_id TEXT NOT NULL, image_id INTEGER NOT NULL, project_id INTEGER NOT NULL, name TEXT NOT NULL,
    path TEXT NOT NULL, content TEXT NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (encoder_id, image_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quarantine_by_content ON quarantine (encoder_id, content);
CREATE TABLE IF NOT EXISTS unhashed (
    encoder_id TEXT NOT NULL, image_id INTEGER NOT NULL, updated_at TEXT NOT NULL,
    PRIMARY KEY (encoder_id, image_id)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS released AFTER DELETE ON quarantine BEGIN
    DELETE FROM unhashed WHERE encoder_id = old.encoder_id AND image_id = old.image_id; END;
CREATE TABLE IF NOT EXISTS held (
    project_id INTEGER NOT NULL, image_id INTEGER NOT NULL, since REAL NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (project_id, image_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS suspects (
    image_id INTEGER PRIMARY KEY, content TEXT NOT NULL, since REAL NOT NULL, tries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS missing (
    project_id INTEGER PRIMARY KEY, since REAL NOT NULL, surveys INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS forced (
    project_id INTEGER NOT NULL, image_id INTEGER NOT NULL, epoch INTEGER NOT NULL,
    PRIMARY KEY (project_id, image_id)) WITHOUT ROWID;
"""

PASSING = frozenset(
    {
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY),
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM),
    }
)
"""What SQLite says when the file is not to blame, and must not be thrown away."""

BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""What it says when nothing but another file will help."""

WHOLE_PROJECT = -1
"""Stands for every image of a project in ``forced``."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ForcedImages:
    """Wishes to make vectors again: each image's, and the whole project's, oldest good epoch."""

    project: int = 0
    images: Mapping[int, int] = field(default_factory=dict)

    def stale(self, stored: StoredImage) -> bool:
        """Whether this proof is older than the wish."""
        return stored.epoch < self.project or stored.epoch < self.images.get(stored.id, 0)


class SqliteJournal:
    """The journal in a file of its own, opened anew when what is there cannot be read.

    :raises Unavailable: when the file may not be opened, or another process keeps it locked
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._path = path
        self._further: list[Callable[[sqlite3.Connection], None]] = []
        try:
            self._connection = self._thread.submit(self._open).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise Unavailable("journal", f"{path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if _kind(error) in PASSING:
                raise
            return self._start_anew()

    def _start_anew(self) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        connection = self._connect()
        for create in self._further:
            create(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"journal of version {version}")
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                f"{SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};"
            )
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    async def create(self, tables: Callable[[sqlite3.Connection], None]) -> None:
        """Make further tables, here and in any file that has to take this one's place."""
        await self.run(tables)
        self._further.append(tables)

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, Arguments], Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Do `work` on the journal's thread, in one transaction.

        :raises Unavailable: when the file cannot be read or written now
        """

        def transaction() -> Result:
            try:
                with self._transaction():
                    return work(self._connection, *arguments, **named)
            except sqlite3.Error as error:
                if _kind(error) in BROKEN:
                    self._connection.close()
                    self._connection = self._start_anew()
                raise Unavailable("journal", str(error)) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, transaction)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        return await self.run(lambda db: db.execute(statement, values).fetchall())

    async def _each(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        await self.run(lambda db: db.executemany(statement, rows).close())

    async def watermark(self, name: str) -> str | None:
        """Return where a feed was."""
        rows = await self._rows("SELECT value FROM watermarks WHERE name = ?", name)
        return rows[0][0] if rows else None

    async def set_watermark(self, name: str, value: str) -> None:
        """Remember where a feed is."""
        await self._rows("INSERT OR REPLACE INTO watermarks VALUES (?, ?)", name, value)

    async def quarantine(self, encoder_id: str, images: Sequence[Quarantined], again: bool = True) -> None:
        """Set pictures aside; unless `again`, those that are there keep their time."""
        await self._each(
            "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (encoder_id, image_id)"
            " DO UPDATE SET project_id = excluded.project_id, name = excluded.name, path = excluded.path,"
            " since = CASE WHEN content = excluded.content AND NOT ? THEN MIN(since, excluded.since)"
            " ELSE excluded.since END,"
            " content = excluded.content, reason = excluded.reason",
            (
                (encoder_id, image_id, project_id, name, path, content, reason, since, again)
                for image_id, project_id, name, path, content, reason, since in map(astuple, images)
            ),
        )

    async def suspect(self, image_id: int, content: str, now: float) -> tuple[float, int]:
        """Count one more time that these bytes came damaged; return since when, and how often so far."""
        rows = await self._rows(
            "INSERT INTO suspects VALUES (?, ?, ?, 1) ON CONFLICT (image_id) DO UPDATE SET"
            " since = CASE WHEN content = excluded.content THEN min(since, excluded.since)"
            " ELSE excluded.since END,"
            " tries = CASE WHEN content = excluded.content THEN tries + 1 ELSE 1 END,"
            " content = excluded.content RETURNING since, tries",
            *(image_id, content, now),
        )
        since, tries = rows[0]
        return since, tries

    async def quarantined_contents(
        self, encoder_id: str, contents: Collection[str], since: float
    ) -> Mapping[str, str]:
        """Map those of `contents` set aside after `since` to the reason."""
        rows = await self._rows(
            "SELECT content, reason FROM quarantine WHERE encoder_id = ? AND since > ?"
            " AND content IN (SELECT value FROM json_each(?))",
            *(encoder_id, since, json.dumps(list(contents))),
        )
        return dict(rows)

    async def date_quarantine(self, encoder_id: str, updated_at: Mapping[int, str]) -> None:
        """Remember at which `updated_at` of theirs images without a hash were set aside."""
        await self._each(
            "INSERT OR REPLACE INTO unhashed VALUES (?, ?, ?)",
            ((encoder_id, image_id, time) for image_id, time in updated_at.items()),
        )

    async def quarantined_images(
        self, encoder_id: str, updated_at: Mapping[int, str], since: float
    ) -> Mapping[int, str]:
        """Map those of these images set aside after `since`, at this `updated_at`, to the reason."""
        rows = await self._rows(
            "SELECT image_id, reason FROM json_each(?) AS asked"
            " JOIN unhashed ON image_id = CAST(asked.key AS INTEGER) AND updated_at = asked.value"
            " JOIN quarantine USING (encoder_id, image_id) WHERE encoder_id = ? AND since > ?",
            *(json.dumps(dict(updated_at)), encoder_id, since),
        )
        return dict(rows)

    async def quarantined(
        self, encoder_id: str, project_id: int | None = None, after: int = 0, limit: int = 1000
    ) -> list[Quarantined]:
        """List what is set aside, by image id."""
        rows = await self._rows(
            "SELECT image_id, project_id, name, path, content, reason, since FROM quarantine"
            " WHERE encoder_id = ? AND image_id > ? AND (? IS NULL OR project_id = ?)"
            " ORDER BY image_id LIMIT ?",
            *(encoder_id, after, project_id, project_id, limit),
        )
        return [Quarantined(*row) for row in rows]

    async def quarantine_counts(self, encoder_id: str) -> Mapping[int, int]:
        """Count what is set aside, by project."""
        count = "SELECT project_id, COUNT(*) FROM quarantine WHERE encoder_id = ? GROUP BY project_id"
        return dict(await self._rows(count, encoder_id))

    async def release(self, project_id: int | None, image_ids: Collection[int] | None) -> int:
        """Take pictures out of quarantine: some, a project's, or all; return how many."""
        chosen = None if image_ids is None else json.dumps(list(image_ids))
        rows = await self._rows(
            "DELETE FROM quarantine WHERE (? IS NULL OR project_id = ?)"
            " AND (? IS NULL OR image_id IN (SELECT value FROM json_each(?))) RETURNING 1",
            *(project_id, project_id, chosen, chosen),
        )
        return len(rows)

    async def hold(self, project_id: int, image_ids: Collection[int], now: float) -> None:
        """Hold exactly these removals of a project; ids held before keep their time and verdict."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS vanished (image_id INTEGER PRIMARY KEY)")
            db.execute("DELETE FROM vanished")
            db.executemany("INSERT INTO vanished VALUES (?)", ((image_id,) for image_id in image_ids))
            db.execute(
                "DELETE FROM held WHERE project_id = ? AND image_id NOT IN (SELECT image_id FROM vanished)",
                (project_id,),
            )
            # The clock may have been set back: what was held in its future is held since now.
            db.execute("UPDATE held SET since = MIN(since, ?) WHERE project_id = ?", (now, project_id))
            db.execute("INSERT OR IGNORE INTO held SELECT ?, image_id, ?, 0 FROM vanished", (project_id, now))

        await self.run(work)

    async def held(self, project_id: int, before: float) -> Collection[int]:
        """Return the removals held since before that time that nobody cancelled."""
        held = "SELECT image_id FROM held WHERE project_id = ? AND since <= ? AND NOT cancelled"
        return {image_id for (image_id,) in await self._rows(held, project_id, before)}

    async def kept(self, project_id: int) -> Collection[int]:
        """Return the removals of a project that somebody cancelled."""
        kept = "SELECT image_id FROM held WHERE project_id = ? AND cancelled"
        return {image_id for (image_id,) in await self._rows(kept, project_id)}

    async def held_counts(self, cancelled: bool = False) -> Mapping[int, int]:
        """Count the held removals by project that nobody cancelled, or those that somebody did."""
        count = "SELECT project_id, COUNT(*) FROM held WHERE cancelled = ? GROUP BY project_id"
        return dict(await self._rows(count, cancelled))

    async def settle_held(
        self, project_id: int, image_ids: Collection[int] | None, cancel: bool
    ) -> Collection[int]:
        """Confirm or cancel held removals: a confirmed one is forgotten and returned for carrying out.

        :param image_ids: these, cancelled before or not; ``None``: all that nobody cancelled
        """

        def work(db: sqlite3.Connection) -> Collection[int]:
            held = "SELECT image_id FROM held WHERE project_id = ? AND (NOT cancelled OR ?)"
            rows = db.execute(held, (project_id, image_ids is not None)).fetchall()
            chosen = {image_id for (image_id,) in rows}
            chosen = chosen if image_ids is None else chosen.intersection(image_ids)
            statement = (
                "UPDATE held SET cancelled = 1 WHERE project_id = ? AND image_id = ?"
                if cancel
                else "DELETE FROM held WHERE project_id = ? AND image_id = ?"
            )
            db.executemany(statement, ((project_id, image_id) for image_id in chosen))
            return chosen

        return await self.run(work)

    async def missing(self, project_id: int, now: float) -> tuple[float, int]:
        """Count one more survey that lacked the project; return since when, and how many so far."""
        rows = await self._rows(
            "INSERT INTO missing VALUES (?, ?, 1)"
            " ON CONFLICT (project_id) DO UPDATE"
            " SET surveys = surveys + 1, since = MIN(since, excluded.since) RETURNING since, surveys",
            *(project_id, now),
        )
        since, surveys = rows[0]
        return since, surveys

    async def missing_projects(self) -> Mapping[int, float]:
        """Map projects gone from the source to since when."""
        return dict(await self._rows("SELECT project_id, since FROM missing"))

    async def found(self, project_ids: Collection[int]) -> None:
        """Forget that these projects were missing."""
        await self._each("DELETE FROM missing WHERE project_id = ?", ((one,) for one in project_ids))

    async def force(self, project_id: int, image_ids: Collection[int] | None, epoch: int) -> None:
        """Want images (``None``: all of the project) whose proof is older than `epoch` made again."""
        wanted = (WHOLE_PROJECT,) if image_ids is None else image_ids
        await self._each(
            "INSERT OR REPLACE INTO forced VALUES (?, ?, ?)",
            ((project_id, image_id, epoch) for image_id in wanted),
        )

    async def forced(self, project_id: int) -> ForcedImages:
        """Return what of the project is to be made again."""
        wishes = dict(await self._rows("SELECT image_id, epoch FROM forced WHERE project_id = ?", project_id))
        return ForcedImages(wishes.pop(WHOLE_PROJECT, 0), wishes)

    async def forget_forced(self, project_id: int, epoch: int) -> None:
        """Forget wishes up to `epoch`; they are fulfilled."""
        await self._rows("DELETE FROM forced WHERE project_id = ? AND epoch <= ?", project_id, epoch)

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()


def _kind(error: sqlite3.Error) -> int:
    # The low byte is the error's kind; the others only tell its case.
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
