"""What every journal promises; and what becomes of a file that is broken."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from state.errors import Unavailable
from state.journal import SCHEMA_VERSION, SqliteJournal
from state.model import Quarantined, StoredImage
from state.ports import Journal

NOW = 1_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(params=["sqlite"])
async def journal(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Journal]:
    opened = {"sqlite": SqliteJournal}[request.param](path)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal(path)
    yield opened
    await opened.close()


def bad(image_id: int, content: str = "a", since: float = NOW, project_id: int = 1) -> Quarantined:
    return Quarantined(image_id, project_id, f"{image_id}.jpg", f"p/{image_id}.jpg", content, "broken", since)


def proof(image_id: int, epoch: int) -> StoredImage:
    return StoredImage(image_id, 1, 1, "", "a", epoch=epoch)


async def test_a_watermark_is_what_was_set_last(journal: Journal) -> None:
    assert await journal.watermark("feed") is None
    await journal.set_watermark("feed", "1")
    await journal.set_watermark("feed", "2")
    await journal.set_watermark("other", "3")
    assert await journal.watermark("feed") == "2"


async def test_a_quarantined_picture_comes_back_as_it_was_written(journal: Journal) -> None:
    written = Quarantined(2**48 - 1, 2**47, "ü 图\n.jpg", "p/ü 图\n.jpg", "hash", 'an "odd" reason', NOW)
    await journal.quarantine("e", [written])
    assert await journal.quarantined("e") == [written]


async def test_quarantine_is_asked_by_content_and_by_age(journal: Journal) -> None:
    await journal.quarantine("e", [bad(1, "a", NOW), bad(2, "b", NOW - 100)])
    assert await journal.quarantined_contents("e", {"a", "b", "c"}, NOW - 50) == {"a": "broken"}
    assert await journal.quarantined_contents("e", {"a"}, NOW) == {}
    assert await journal.quarantined_contents("other", {"a"}, 0) == {}
    assert await journal.quarantined_contents("e", set(), 0) == {}


async def test_quarantine_of_images_without_a_hash_is_asked_by_their_time_and_by_age(
    journal: Journal,
) -> None:
    await journal.quarantine("e", [bad(1, since=NOW), bad(2, since=NOW - 100), bad(3)])
    await journal.date_quarantine("e", {1: "old", 2: "t"})
    await journal.date_quarantine("e", {1: "t"})
    asked = {1: "t", 2: "t", 3: "t", 4: "t"}
    assert await journal.quarantined_images("e", asked, NOW - 50) == {1: "broken"}
    assert await journal.quarantined_images("e", {1: "old"}, NOW - 50) == {}
    assert await journal.quarantined_images("other", asked, 0) == {}


async def test_the_time_of_an_image_is_forgotten_with_its_release(journal: Journal) -> None:
    await journal.quarantine("e", [bad(1), bad(2)])
    await journal.date_quarantine("e", {1: "t", 2: "t"})
    await journal.release(1, {1})
    await journal.quarantine("e", [bad(1)])
    assert await journal.quarantined_images("e", {1: "t", 2: "t"}, 0) == {2: "broken"}


async def test_a_failed_retry_starts_the_time_anew(journal: Journal) -> None:
    await journal.quarantine("e", [bad(1, since=NOW)])
    await journal.quarantine("e", [bad(1, since=NOW + 9)])
    assert [one.since for one in await journal.quarantined("e")] == [NOW + 9]


async def test_a_picture_merely_seen_again_keeps_its_time_unless_its_bytes_changed(journal: Journal) -> None:
    await journal.quarantine("e", [bad(1), bad(2)])
    await journal.quarantine("e", [bad(1, since=NOW + 9), bad(2, "b", NOW + 9), bad(3, since=NOW + 9)], False)
    assert [(one.image_id, one.since, one.content) for one in await journal.quarantined("e")] == [
        (1, NOW, "a"),
        (2, NOW + 9, "b"),
        (3, NOW + 9, "a"),
    ]


async def test_quarantine_is_listed_in_pages_by_id_and_counted_by_project(journal: Journal) -> None:
    await journal.quarantine("e", [bad(number, project_id=1 + number % 2) for number in (5, 3, 1, 4, 2)])
    assert [one.image_id for one in await journal.quarantined("e", after=1, limit=2)] == [2, 3]
    assert [one.image_id for one in await journal.quarantined("e", project_id=1)] == [2, 4]
    assert await journal.quarantine_counts("e") == {1: 2, 2: 3}


@pytest.mark.parametrize(
    ("project_id", "image_ids", "left"),
    [
        (1, None, {3}),
        (None, {1, 3, 99}, {2}),
        (1, {1, 3}, {2, 3}),
        (None, None, set()),
        (7, None, {1, 2, 3}),
        (None, set(), {1, 2, 3}),
    ],
)
async def test_pictures_are_released_some_or_a_projects_or_all(
    journal: Journal, project_id: int | None, image_ids: set[int] | None, left: set[int]
) -> None:
    await journal.quarantine("e", [bad(1), bad(2), bad(3, project_id=2)])
    assert await journal.release(project_id, image_ids) == 3 - len(left)
    assert {one.image_id for one in await journal.quarantined("e")} == left


async def test_a_removal_is_held_since_it_was_first_missed(journal: Journal) -> None:
    await journal.hold(1, [1, 2], NOW)
    await journal.hold(1, [1, 2, 3], NOW + 60)
    assert set(await journal.held(1, NOW)) == {1, 2}
    assert set(await journal.held(1, NOW - 1)) == set()
    assert set(await journal.held(1, NOW + 60)) == {1, 2, 3}


async def test_an_image_that_came_back_is_no_longer_held_and_starts_anew(journal: Journal) -> None:
    await journal.hold(1, [1, 2], NOW)
    await journal.hold(1, [2], NOW + 1)
    await journal.hold(1, [1, 2], NOW + 2)
    assert set(await journal.held(1, NOW + 1)) == {2}


async def test_a_clock_that_is_set_back_holds_nothing_longer_than_from_then_on(journal: Journal) -> None:
    await journal.hold(1, [1], NOW)
    await journal.missing(1, NOW)
    await journal.quarantine("e", [bad(1)])
    await journal.hold(1, [1], NOW - 500)
    await journal.quarantine("e", [bad(1, since=NOW - 500)], again=False)
    assert set(await journal.held(1, NOW - 440)) == {1}
    assert await journal.missing(1, NOW - 500) == (NOW - 500, 2)
    assert [one.since for one in await journal.quarantined("e")] == [NOW - 500]


async def test_projects_hold_their_removals_apart(journal: Journal) -> None:
    await journal.hold(1, [1], NOW)
    await journal.hold(2, [1, 2], NOW)
    await journal.hold(1, [], NOW)
    assert await journal.held_counts() == {2: 2}


async def test_a_cancelled_removal_is_kept_as_long_as_it_is_missed(journal: Journal) -> None:
    await journal.hold(1, [1, 2, 3], NOW)
    assert set(await journal.settle_held(1, [1, 2, 99], cancel=True)) == {1, 2}
    await journal.hold(1, [1, 3], NOW + 1)
    assert set(await journal.held(1, NOW + 1)) == {3}
    assert set(await journal.kept(1)) == {1}


async def test_a_confirmed_removal_is_forgotten_and_handed_over(journal: Journal) -> None:
    await journal.hold(1, [1, 2, 3], NOW)
    assert set(await journal.settle_held(1, [1, 99], cancel=False)) == {1}
    assert set(await journal.settle_held(1, None, cancel=False)) == {2, 3}
    assert await journal.settle_held(1, None, cancel=False) == set()
    assert await journal.held_counts() == {}


async def test_a_cancelled_removal_counts_as_held_no_more(journal: Journal) -> None:
    await journal.hold(1, [1, 2, 3], NOW)
    await journal.settle_held(1, [1, 2], cancel=True)
    assert await journal.held_counts() == {1: 1}
    assert set(await journal.settle_held(1, None, cancel=True)) == {3}
    assert await journal.held_counts() == {}


async def test_only_by_its_name_is_a_cancelled_removal_confirmed(journal: Journal) -> None:
    await journal.hold(1, [1, 2, 3], NOW)
    await journal.settle_held(1, [1, 2], cancel=True)
    assert set(await journal.settle_held(1, None, cancel=False)) == {3}
    assert set(await journal.kept(1)) == {1, 2}
    assert set(await journal.settle_held(1, [1], cancel=False)) == {1}
    assert set(await journal.kept(1)) == {2}


async def test_a_missing_project_is_missing_since_the_first_survey(journal: Journal) -> None:
    assert await journal.missing(1, NOW) == (NOW, 1)
    assert await journal.missing(1, NOW + 5) == (NOW, 2)
    await journal.missing(2, NOW + 5)
    assert await journal.missing_projects() == {1: NOW, 2: NOW + 5}
    await journal.found([1, 99])
    assert await journal.missing(1, NOW + 9) == (NOW + 9, 1)


async def test_nothing_is_forced_unless_somebody_wished_so(journal: Journal) -> None:
    assert not (await journal.forced(1)).stale(proof(1, 0))


async def test_a_wish_for_a_project_is_for_every_older_proof(journal: Journal) -> None:
    await journal.force(1, None, 5)
    forced = await journal.forced(1)
    assert forced.stale(proof(1, 4))
    assert not forced.stale(proof(1, 5))
    assert not (await journal.forced(2)).stale(proof(1, 4))


async def test_a_wish_for_some_images_leaves_the_others_alone(journal: Journal) -> None:
    await journal.force(1, [1], 5)
    await journal.force(1, [2], 6)
    forced = await journal.forced(1)
    assert [forced.stale(proof(number, 5)) for number in (1, 2, 3)] == [False, True, False]


async def test_fulfilled_wishes_are_forgotten_and_later_ones_are_not(journal: Journal) -> None:
    await journal.force(1, None, 5)
    await journal.force(1, [7], 6)
    await journal.force(2, None, 5)
    await journal.forget_forced(1, 5)
    forced = await journal.forced(1)
    assert not forced.stale(proof(1, 0))
    assert forced.stale(proof(7, 5))
    assert (await journal.forced(2)).stale(proof(1, 4))


async def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    first = SqliteJournal(path)
    await first.set_watermark("feed", "1")
    await first.close()
    second = SqliteJournal(path)
    assert await second.watermark("feed") == "1"
    await second.close()


async def test_calls_made_at_once_do_not_mix(sqlite: SqliteJournal) -> None:
    def slow_then_read(db: sqlite3.Connection) -> list[tuple[str]]:
        db.execute("INSERT OR REPLACE INTO watermarks VALUES ('mine', 'half')")
        time.sleep(0.01)
        db.execute("UPDATE watermarks SET value = 'whole' WHERE name = 'mine'")
        return db.execute("SELECT value FROM watermarks").fetchall()

    answers = await asyncio.gather(
        *[sqlite.run(slow_then_read) for _ in range(3)], *[sqlite.watermark("mine") for _ in range(3)]
    )
    assert {str(answer) for answer in answers} == {"[('whole',)]", "whole"}


async def test_a_transaction_that_fails_leaves_nothing_behind(sqlite: SqliteJournal) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO watermarks VALUES ('half', 'done')")
        db.execute("INSERT INTO watermarks VALUES ('half', 'again')")

    with pytest.raises(Unavailable, match="journal"):
        await sqlite.run(half)
    assert await sqlite.watermark("half") is None


async def test_a_defect_in_the_work_rolls_back_too(sqlite: SqliteJournal) -> None:
    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO watermarks VALUES ('half', 'done')")
        raise KeyError

    with pytest.raises(KeyError):
        await sqlite.run(work)
    assert await sqlite.watermark("half") is None


async def test_a_commit_that_fails_does_not_block_the_next_transaction(sqlite: SqliteJournal) -> None:
    def prepare(db: sqlite3.Connection) -> None:
        db.execute("COMMIT")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("BEGIN")
        db.execute("CREATE TABLE child (parent TEXT REFERENCES watermarks DEFERRABLE INITIALLY DEFERRED)")

    await sqlite.run(prepare)
    with pytest.raises(Unavailable, match="FOREIGN KEY"):
        await sqlite.run(lambda db: db.execute("INSERT INTO child VALUES ('nobody')").close())
    await sqlite.set_watermark("feed", "1")
    assert await sqlite.watermark("feed") == "1"


async def test_a_caller_that_is_cancelled_leaves_the_transaction_whole(sqlite: SqliteJournal) -> None:
    started, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO watermarks VALUES ('a', '1')")
        loop.call_soon_threadsafe(started.set)
        go_on.wait(5)
        db.execute("INSERT INTO watermarks VALUES ('b', '1')")

    caller = asyncio.create_task(sqlite.run(work))
    await asyncio.wait_for(started.wait(), 5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    assert [await sqlite.watermark(name) for name in ("a", "b")] == ["1", "1"]


async def test_closing_waits_for_what_is_under_way(path: Path) -> None:
    journal = SqliteJournal(path)
    writes = [asyncio.create_task(journal.set_watermark(str(number), "1")) for number in range(20)]
    await asyncio.sleep(0)
    await journal.close()
    await asyncio.gather(*writes)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM watermarks").fetchone() == (20,)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 1_000)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def another_layout(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE quarantine")
        db.execute("CREATE TABLE quarantine (something_else TEXT)")


@pytest.mark.parametrize("damage", [garbage, cut_short, another_version, another_layout])
async def test_a_journal_that_cannot_be_used_is_replaced(path: Path, damage: Callable[[Path], None]) -> None:
    first = SqliteJournal(path)
    await first.set_watermark("feed", "1")
    await first.close()
    damage(path)
    second = SqliteJournal(path)
    assert await second.watermark("feed") is None
    await second.quarantine("e", [bad(1)])
    assert await second.quarantine_counts("e") == {1: 1}
    await second.close()


async def test_a_journal_that_breaks_while_it_is_used_is_replaced_with_all_its_tables(path: Path) -> None:
    def tables(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS further (value TEXT)")

    first = SqliteJournal(path)
    await first.create(tables)
    await first.run(lambda db: db.executemany("INSERT INTO further VALUES (?)", [("x" * 500,)] * 500).close())
    await first.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    path.write_bytes(content)

    second = SqliteJournal(path)
    await second.create(tables)
    with pytest.raises(Unavailable, match="malformed"):
        await second.run(lambda db: db.execute("SELECT SUM(LENGTH(value)) FROM further").fetchall())
    assert await second.run(lambda db: db.execute("SELECT COUNT(*) FROM further").fetchall()) == [(0,)]
    await second.set_watermark("feed", "1")
    assert await second.watermark("feed") == "1"
    await second.close()


async def test_a_journal_that_is_only_locked_is_not_thrown_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SqliteJournal(path)
    await first.set_watermark("feed", "1")
    await first.close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **{**named, "timeout": 0}))
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            SqliteJournal(path)
        other.execute("ROLLBACK")
    monkeypatch.undo()
    second = SqliteJournal(path)
    assert await second.watermark("feed") == "1"
    await second.close()


async def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        SqliteJournal(tmp_path / "nowhere" / "journal.sqlite")
