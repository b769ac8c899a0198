"""The catalogue of the embedded store, in SQLite: what must survive, yet is no point of a shard."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np

from state.errors import Misconfigured
from state.model import EncoderRecord

SCHEMA = 2

MIGRATIONS = {1: "ALTER TABLE encoder ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;"}
"""What brings a file of each older schema to the next one."""

TABLES = """
CREATE TABLE IF NOT EXISTS encoder (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, dimension INTEGER NOT NULL, canaries BLOB NOT NULL,
    confirmed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS pointer (project_id INTEGER PRIMARY KEY, encoder_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS epoch (only INTEGER PRIMARY KEY CHECK (only = 1), latest INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pin (only INTEGER PRIMARY KEY CHECK (only = 1), encoder_id TEXT NOT NULL);
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
        if version > SCHEMA:
            self._database.close()
            raise Misconfigured(
                "STATE_DIR", f"a newer version wrote {path}: it has schema {version}, this one knows {SCHEMA}"
            )
        steps = [MIGRATIONS[older] for older in range(version, SCHEMA)] if version else []
        self._database.executescript(
            f"BEGIN; {''.join(steps)} {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;"
        )
        self.encoders = {
            row[0]: EncoderRecord(
                row[0], row[1], row[2], np.frombuffer(row[3], "<f4").reshape(-1, row[2]), row[4]
            )
            for row in self._database.execute("SELECT id, kind, dimension, canaries, confirmed FROM encoder")
        }
        self.pointers: dict[int, str] = dict(
            self._database.execute("SELECT project_id, encoder_id FROM pointer")
        )

    def add(self, record: EncoderRecord) -> None:
        """Keep an encoder; the first record of an id stays."""
        if record.id not in self.encoders:
            canaries = record.canaries.astype("<f4").tobytes()
            self._database.execute(
                "INSERT INTO encoder VALUES (?, ?, ?, ?, ?)",
                (record.id, record.kind, record.dimension, canaries, record.confirmed),
            )
            self.encoders[record.id] = record

    def forget(self, encoder_id: str) -> None:
        """Forget an encoder."""
        self._database.execute("DELETE FROM encoder WHERE id = ?", (encoder_id,))
        self.encoders.pop(encoder_id, None)

    def confirm(self, encoder_id: str, epoch: int) -> None:
        """Raise the epoch that good canaries of the encoder vouch for."""
        raised = max(epoch, self.encoders[encoder_id].confirmed)
        self._database.execute("UPDATE encoder SET confirmed = ? WHERE id = ?", (raised, encoder_id))
        self.encoders[encoder_id] = replace(self.encoders[encoder_id], confirmed=raised)

    def pinned(self) -> str | None:
        """Return the encoder that is wanted to answer."""
        row = self._database.execute("SELECT encoder_id FROM pin").fetchone()
        return row and str(row[0])

    def pin(self, encoder_id: str | None) -> None:
        """Keep which encoder is wanted to answer, or that none is."""
        self._database.execute("DELETE FROM pin")
        if encoder_id is not None:
            self._database.execute("INSERT INTO pin VALUES (1, ?)", (encoder_id,))

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
