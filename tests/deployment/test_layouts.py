"""What is stored outlives the version that wrote it: older layouts come forward, newer ones are refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from dockerfile import ROOT
from folder_daemon import Running, paint
from qdrant_edge import EdgeShard, Point, UpdateOperation

from daemon.directory import prefix
from state import journal
from state.model import StoredImage
from state.stores import edge_catalogue, edge_shard, edge_wire, qdrant_points
from state.stores.edge import EdgeStore

MISCONFIGURED = 78

LAYOUT = {
    "proof": ("project_id", "dataset_id", "name", "content", "path", "updated_at", "route", "epoch"),
    "proof of the embedded store": 1,
    "proof of a server": 1,
    "embedded catalogue": 2,
    "journal": 1,
}
"""The layout that the last release wrote. The version of a proof is not looked at when one is read: that of
the catalogue speaks for all of them. So who changes what a proof is made of changes all of these, and says in
`docs/operations.md` what becomes of older ones."""


def layout() -> dict[str, object]:
    return {
        "proof": tuple(edge_wire.FIELDS),
        "proof of the embedded store": edge_shard.SCHEMA,
        "proof of a server": qdrant_points.SCHEMA,
        "embedded catalogue": edge_catalogue.SCHEMA,
        "journal": journal.SCHEMA_VERSION,
    }


def test_the_layout_does_not_change_unnoticed() -> None:
    assert layout() == LAYOUT
    assert set(qdrant_points.PROOF) == set(edge_wire.FIELDS)


@pytest.fixture
async def daemon(tmp_path: Path) -> Running:
    """A daemon that has embedded five pictures, and is stopped."""
    running = Running(tmp_path)
    paint(running.pictures / "trip", range(5))
    await running.start(encoder="palette")
    await running.settled()
    await running.stop()
    return running


def catalogue(running: Running) -> Path:
    return running.parts.directory / "vectors" / f"{prefix(running.settings)}_catalogue"


def points(running: Running) -> Path:
    return catalogue(running).with_name(f"{prefix(running.settings)}_{running.parts.encoder.id}")


async def test_the_first_layout_is_brought_forward_and_costs_no_encoding(daemon: Running) -> None:
    with closing(sqlite3.connect(catalogue(daemon))) as database:
        database.executescript(
            "ALTER TABLE encoder DROP COLUMN confirmed; DROP TABLE pin; PRAGMA user_version = 1;"
        )
    with closing(sqlite3.connect(daemon.parts.directory / "journal.sqlite")) as database:
        database.execute("PRAGMA user_version = 0")
    await daemon.start()
    try:
        await daemon.settled()
        assert daemon.encoded == 0
        assert sum((await daemon.parts.store.projects(daemon.parts.encoder.id or "")).values()) == 5
    finally:
        await daemon.stop()
    with closing(sqlite3.connect(catalogue(daemon))) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (edge_catalogue.SCHEMA,)


async def test_what_a_newer_version_wrote_is_refused_and_left_as_it_is(daemon: Running) -> None:
    newer = {**dict.fromkeys(edge_wire.FIELDS, 1), "v": edge_shard.SCHEMA + 1, "more": "of something"}
    shard = EdgeShard.load(str(points(daemon)))
    shard.update(UpdateOperation.upsert_points([Point(7, [1.0] * 199, newer)]))
    shard.flush()
    shard.close()
    with closing(sqlite3.connect(catalogue(daemon))) as database:
        database.execute(f"PRAGMA user_version = {edge_catalogue.SCHEMA + 1}")
    journal_before = (daemon.parts.directory / "journal.sqlite").read_bytes()

    refused = await asyncio.to_thread(run, daemon)

    assert refused.returncode == MISCONFIGURED
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("Misconfigured: STATE_DIR: a newer version wrote ")
    shard = EdgeShard.load(str(points(daemon)))
    (point,) = shard.retrieve([7], True, False)
    shard.close()
    assert point.payload == newer
    assert (daemon.parts.directory / "journal.sqlite").read_bytes() == journal_before


async def test_a_proof_of_another_version_is_read_where_it_says_as_much(daemon: Running) -> None:
    whole = StoredImage(7, 1, 2, "7.png", "blake2b:7", "trip/7.png", "", "file", 3)
    proof = {name: getattr(whole, name) for name in edge_wire.FIELDS}
    shard = EdgeShard.load(str(points(daemon)))
    shard.update(UpdateOperation.upsert_points([Point(7, [1.0] * 199, {**proof, "v": 0, "older": True})]))
    shard.flush()
    shard.close()
    store = await EdgeStore.open(catalogue(daemon).parent, prefix(daemon.settings))
    try:
        assert await store.images(daemon.parts.encoder.id or "", [7]) == [whole]
    finally:
        await store.close()


def run(daemon: Running) -> subprocess.CompletedProcess[str]:
    told = {
        "IMAGES_DIR": str(daemon.settings.images_dir),
        "STATE_DIR": str(daemon.settings.state_dir),
        "ENCODER": "palette",
        "PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-m", "daemon", "run"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **told},
        capture_output=True,
        text=True,
        timeout=60,
    )
