"""The catalogue of the embedded store, in SQLite: what must survive, yet is no point of a shard."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from state.errors import Inconsistent
from state.model import EncoderRecord

SCHEMA = 1

TABLES = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS encoder (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, dimension INTEGER NOT NULL, canaries BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pointer (project_id INTEGER PRIMARY KEY, encoder_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS epoch (only INTEGER PRIMARY KEY CHECK (only = 1), latest INTEGER NOT NULL);
PRAGMA user_version = {SCHEMA};
COMMIT;
"""


class Catalogue:
    """Encoders with their canaries, pointers of projects, the epoch counter; mirrored in memory.

    Every method but the constructor's caller may block on the disk: use it from one thread.

    :ivar encoders: by id
    :ivar pointers: from project to encoder id
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA):
            self._database.close()
            raise Inconsistent(f"{path} has schema {version}; this version knows {SCHEMA}")
        self._database.executescript(TABLES)
        self.encoders = {
            row[0]: EncoderRecord(row[0], row[1], row[2], np.frombuffer(row[3], "<f4").reshape(-1, row[2]))
            for row in self._database.execute("SELECT id, kind, dimension, canaries FROM encoder")
        }
        self.pointers: dict[int, str] = dict(
            self._database.execute("SELECT project_id, encoder_id FROM pointer")
        )

    def add(self, record: EncoderRecord) -> None:
        """Keep an encoder; the first record of an id stays."""
        if record.id not in self.encoders:
            canaries = record.canaries.astype("<f4").tobytes()
            self._database.execute(
                "INSERT INTO encoder VALUES (?, ?, ?, ?)",
                (record.id, record.kind, record.dimension, canaries),
            )
            self.encoders[record.id] = record

    def point(self, project_id: int, encoder_id: str | None) -> None:
        """Move a project's pointer, or take it away."""
        if encoder_id is None:
            self._database.execute("DELETE FROM pointer WHERE project_id = ?", (project_id,))
            self.pointers.pop(project_id, None)
        else:
            self._database.execute("REPLACE INTO pointer VALUES (?, ?)", (project_id, encoder_id))
            self.pointers[project_id] = encoder_id

    def next_epoch(self) -> int:
        """Return a number greater than any before."""
        bump = (
            "INSERT INTO epoch VALUES (1, 1) ON CONFLICT DO UPDATE SET latest = latest + 1 RETURNING latest"
        )
        return int(self._database.execute(bump).fetchall()[0][0])

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
