"""What the embedded store promises beyond the port: its process may die, be stuck, be left alone."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections import namedtuple
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from state.errors import Misconfigured, Occupied, Rejected, Unavailable
from state.model import Embedding, EncoderRecord, StoredImage, Vectors, Within
from state.stores import edge_process
from state.stores.edge import EdgeStore, free_space_floor

DIMENSION = 8
pytestmark = pytest.mark.asyncio(loop_scope="module")

ENCODER = EncoderRecord("test-8-1", "test", DIMENSION, np.eye(3, DIMENSION, dtype=np.float32))
PREFIX = "embedsync_1a2b3c4d"
GIB = 1 << 30

Opener = Callable[..., Awaitable[EdgeStore]]
Usage = namedtuple("Usage", "total used free")

PARENT = """
import asyncio, pathlib, sys
from state.stores.edge import EdgeStore
from tests.contract.test_edge_store import ENCODER, PREFIX, embeddings

async def main():
    store = await EdgeStore.open(pathlib.Path(sys.argv[1]), PREFIX, floor=lambda total: 0)
    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings(range(300)))
    print("written", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def unit_vectors(number: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((number, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(ids: Iterable[int]) -> list[Embedding]:
    images = [StoredImage(image_id, 1, 2, f"{image_id}.jpg", f"hash {image_id}") for image_id in ids]
    return [Embedding(*pair) for pair in zip(images, unit_vectors(len(images)), strict=True)]


async def opened(directory: Path, **options: object) -> EdgeStore:
    return await EdgeStore.open(directory, PREFIX, **{"floor": lambda total: 0, **options})


@pytest_asyncio.fixture(loop_scope="module")
async def open_store(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens a store in the test's directory, and closes it after the test at the latest."""
    async with AsyncExitStack() as stack:

        async def open_one(**options: object) -> EdgeStore:
            store = await opened(tmp_path, **options)
            stack.push_async_callback(store.close)
            return store

        yield open_one


def child_of(parent: psutil.Process | None = None) -> psutil.Process:
    """The youngest child that holds shards."""
    children = (parent or psutil.Process()).children()
    return max(
        (child for child in children if "state.stores.edge_child" in child.cmdline()),
        key=psutil.Process.create_time,
    )


async def gone(process: psutil.Process, seconds: float = 10) -> bool:
    for _ in range(int(seconds / 0.02)):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.02)
    return False


async def sent() -> None:
    """Let tasks just started put their messages on the way."""
    await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="module")
async def mortal(open_store: Opener) -> EdgeStore:
    """A store whose child a test may kill."""
    store = await open_store()
    await store.add_encoder(ENCODER)
    return store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStore]:
    store = await opened(tmp_path_factory.mktemp("shared"))
    await store.add_encoder(ENCODER)
    yield store
    await store.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(shared: EdgeStore) -> EdgeStore:
    """An empty store whose child lives on."""
    await shared.remove_project(ENCODER.id, 1)
    return shared


async def test_nothing_acknowledged_is_lost_when_the_child_is_killed_while_writing(
    mortal: EdgeStore,
) -> None:
    acknowledged: list[int] = []
    failures = 0
    for start in range(0, 6000, 200):
        batch = embeddings(range(start, start + 200))
        writing = asyncio.create_task(mortal.upsert(ENCODER.id, batch))
        if start % 2000 == 1000:
            await asyncio.sleep(0.005)
            child_of().kill()
        try:
            await writing
        except Unavailable:
            failures += 1
        else:
            acknowledged += range(start, start + 200)
        found = await mortal.images(ENCODER.id, acknowledged)
        assert [image.id for image in found] == acknowledged
    assert failures <= 3


async def test_a_write_in_flight_fails_when_the_child_dies_and_the_next_succeeds(mortal: EdgeStore) -> None:
    child = child_of()
    child.suspend()
    writing = asyncio.create_task(mortal.upsert(ENCODER.id, embeddings([1])))
    await sent()
    child.kill()
    with pytest.raises(Unavailable, match="process ended"):
        await writing
    await mortal.upsert(ENCODER.id, embeddings([1]))
    assert await mortal.count(ENCODER.id, Within(1)) == 1


async def test_a_search_in_flight_is_asked_again_when_the_child_dies(mortal: EdgeStore) -> None:
    await mortal.upsert(ENCODER.id, embeddings(range(20)))
    child = child_of()
    child.suspend()
    searching = asyncio.create_task(mortal.query(ENCODER.id, unit_vectors(1), Within(1), 5))
    await sent()
    child.kill()
    assert len((await searching)[0]) == 5


async def test_a_stuck_child_is_replaced(open_store: Opener) -> None:
    store = await open_store(call_seconds=0.3)
    await store.add_encoder(ENCODER)
    child = child_of()
    child.suspend()
    with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
        await store.count(ENCODER.id, Within(1))
    await store.upsert(ENCODER.id, embeddings([1]))
    assert await gone(child)


async def test_while_no_child_starts_calls_fail_at_once_and_later_one_does(
    mortal: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nonexistent")
        child_of().kill()
        with pytest.raises(Unavailable, match="does not start"):
            await mortal.count(ENCODER.id, Within(1))
        with pytest.raises(Unavailable, match="does not start") as raised:
            await mortal.healthy()
        assert raised.value.retry_after
    async with asyncio.timeout(10):
        while True:
            try:
                await mortal.healthy()
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    assert await mortal.count(ENCODER.id, Within(1)) == 0


async def test_the_child_ignores_the_signals_of_its_parent(store: EdgeStore) -> None:
    child = child_of()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child.send_signal(ignored)
    await store.upsert(ENCODER.id, embeddings(range(200)))
    assert child_of().pid == child.pid


async def test_the_child_of_a_killed_parent_ends_and_its_writes_are_kept(
    open_store: Opener, tmp_path: Path
) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(tmp_path)), stdout=asyncio.subprocess.PIPE, cwd=edge_process.ROOT
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"written\n"
    child = child_of(psutil.Process(parent.pid))
    with pytest.raises(Occupied, match=f"process {parent.pid}"):
        await open_store(patience=0)
    parent.kill()
    await parent.communicate()
    store = await open_store()
    assert await gone(child)
    assert await store.count(ENCODER.id, Within(1)) == 300


async def test_a_second_opener_is_told_who_holds_the_store(mortal: EdgeStore, open_store: Opener) -> None:
    with pytest.raises(Occupied, match=f"process {os.getpid()}"):
        await open_store(patience=0.2)
    await mortal.healthy()


async def test_two_sources_share_a_directory_without_meeting(mortal: EdgeStore, tmp_path: Path) -> None:
    await mortal.upsert(ENCODER.id, embeddings([1]))
    other = await EdgeStore.open(tmp_path, "embedsync_ffffffff", floor=lambda total: 0)
    assert await other.encoders() == []
    await other.add_encoder(ENCODER)
    assert await other.projects(ENCODER.id) == {}
    await other.close()


async def test_closing_ends_the_child_and_writes_under_way_are_kept(open_store: Opener) -> None:
    store = await open_store()
    await store.add_encoder(ENCODER)
    child = child_of()
    child.suspend()
    writing = asyncio.create_task(store.upsert(ENCODER.id, embeddings(range(100))))
    await sent()
    closing = asyncio.create_task(store.close())
    await sent()
    child.resume()
    await writing
    await closing
    assert await gone(child)
    await store.close()
    again = await open_store()
    assert await again.count(ENCODER.id, Within(1)) == 100
    await again.close()


async def test_closing_over_a_stuck_child_leaves_neither_it_nor_a_caller_waiting(
    mortal: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_process, "CLOSE_SECONDS", 1.0)
    child = child_of()
    child.suspend()
    asked = [asyncio.create_task(mortal.count(ENCODER.id, Within(1))) for _ in range(4)]
    await sent()
    await mortal.close()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert await gone(child)


async def test_with_little_space_left_nothing_is_written_and_searches_go_on(open_store: Opener) -> None:
    free = 10 * GIB
    store = await open_store(floor=free_space_floor, disk_usage=lambda path: Usage(100 * GIB, 0, free))
    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings([1]))
    free = 5 * GIB - 1
    for write in (
        store.upsert(ENCODER.id, embeddings([2])),
        store.retag(ENCODER.id, [StoredImage(1, 9, 9, "", "")]),
        store.remove(ENCODER.id, 1, [1]),
        store.remove_project(ENCODER.id, 1),
    ):
        with pytest.raises(Unavailable, match="disk low"):
            await write
    ((hit,),) = await store.query(ENCODER.id, unit_vectors(1), Within(1), 5)
    assert hit.image.id == 1


async def test_a_cancelled_call_does_not_shift_the_answers_of_others(store: EdgeStore) -> None:
    points = embeddings(range(200))
    await store.upsert(ENCODER.id, points)
    asked = [asyncio.create_task(store.embeddings(ENCODER.id, [i])) for i in range(200)]
    await asyncio.sleep(0.001)
    for task in asked[::2]:
        task.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for image_id, answer in list(enumerate(answers))[1::2]:
        assert not isinstance(answer, BaseException)
        assert [found.image.id for found in answer] == [image_id]


async def test_a_cancelled_write_is_whole_or_absent(store: EdgeStore) -> None:
    writing = asyncio.create_task(store.upsert(ENCODER.id, embeddings(range(2000))))
    await sent()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    written = [point async for page in store.scroll(ENCODER.id, 1) for point in page]
    assert len(written) % 128 == 0 or len(written) == 2000
    await store.upsert(ENCODER.id, embeddings(range(2000)))
    assert await store.count(ENCODER.id, Within(1)) == 2000


async def test_a_search_overtakes_the_messages_of_a_large_write(store: EdgeStore) -> None:
    await store.upsert(ENCODER.id, embeddings([1]))
    child = child_of()
    child.suspend()
    writing = [asyncio.create_task(store.upsert(ENCODER.id, embeddings(range(500)))) for _ in range(20)]
    await sent()
    searching = asyncio.create_task(store.query(ENCODER.id, unit_vectors(1), Within(1), 5))
    await sent()
    child.resume()
    await searching
    assert not any(task.done() for task in writing)
    await asyncio.gather(*writing)


async def test_searches_do_not_starve_a_write(store: EdgeStore) -> None:
    await store.upsert(ENCODER.id, embeddings([1]))
    child = child_of()
    child.suspend()
    searching = [
        asyncio.create_task(store.query(ENCODER.id, unit_vectors(1), Within(1), 5)) for _ in range(200)
    ]
    await sent()
    writing = asyncio.create_task(store.upsert(ENCODER.id, embeddings([2])))
    await sent()
    child.resume()
    await writing
    assert not all(task.done() for task in searching)
    await asyncio.gather(*searching)


async def test_no_more_calls_wait_than_the_queue_has_room_for(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_process, "LANE_SIZE", 3)
    child = child_of()
    child.suspend()
    asked = [asyncio.create_task(store.count(ENCODER.id, Within(1))) for _ in range(10)]
    await sent()
    child.resume()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(answer, Unavailable) for answer in answers] == [False] * 5 + [True] * 5


async def test_a_failing_engine_call_is_unavailable_and_the_child_lives(store: EdgeStore) -> None:
    child = child_of()
    with pytest.raises(Unavailable, match="scroll"):
        await store._process.call("scroll", ENCODER.id, "no number")
    await store.healthy()
    assert child_of().pid == child.pid


async def test_half_a_shard_left_by_a_crash_is_made_again(open_store: Opener, tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}_{ENCODER.id}.new" / "segments").mkdir(parents=True)
    store = await open_store()
    await store.add_encoder(ENCODER)
    assert await store.count(ENCODER.id, Within(1)) == 0


async def test_the_catalogue_of_a_newer_version_is_left_alone(open_store: Opener, tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / f"{PREFIX}_catalogue")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(Misconfigured, match="schema 99"):
        await open_store()


async def test_the_catalogue_of_an_older_version_is_brought_forward(
    open_store: Opener, tmp_path: Path
) -> None:
    database = sqlite3.connect(tmp_path / f"{PREFIX}_catalogue")
    database.executescript(
        "CREATE TABLE encoder (id TEXT PRIMARY KEY, kind TEXT, dimension INTEGER, canaries BLOB);"
        "CREATE TABLE pointer (project_id INTEGER PRIMARY KEY, encoder_id TEXT NOT NULL);"
        "PRAGMA user_version = 1;"
    )
    canaries = ENCODER.canaries.tobytes()
    database.execute("INSERT INTO encoder VALUES (?, 'test', ?, ?)", (ENCODER.id, DIMENSION, canaries))
    database.execute("INSERT INTO pointer VALUES (7, ?)", (ENCODER.id,))
    database.commit()
    database.close()
    store = await open_store()
    assert [(known.id, known.confirmed) for known in await store.encoders()] == [(ENCODER.id, 0)]
    assert await store.pointers() == {7: ENCODER.id}
    await store.confirm(ENCODER.id, 3)
    assert [known.confirmed for known in await store.encoders()] == [3]


async def test_a_shard_that_outlived_its_catalogue_entry_is_not_trusted(
    open_store: Opener, tmp_path: Path
) -> None:
    store = await open_store()
    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings(range(3)))
    await store.close()
    database = sqlite3.connect(tmp_path / f"{PREFIX}_catalogue")
    database.execute("DELETE FROM encoder")
    database.commit()
    database.close()
    again = await open_store()
    await again.add_encoder(ENCODER)
    assert await again.count(ENCODER.id, Within(1)) == 0


async def test_an_encoder_id_that_leads_out_of_the_directory_is_rejected(store: EdgeStore) -> None:
    with pytest.raises(Rejected, match="name"):
        await store.add_encoder(EncoderRecord("../x", "test", 3, np.eye(3, dtype=np.float32)))


async def test_a_worn_process_begins_anew_amid_writes_and_questions_and_none_of_them_is_lost(
    mortal: EdgeStore,
) -> None:
    child = child_of()
    began, before = child.cmdline(), embeddings(range(4))

    async def overwrite(writer: int) -> None:
        for turn in range(70):
            some = [replace(one, image=replace(one.image, content=f"{writer} {turn}")) for one in before]
            await mortal.upsert(ENCODER.id, some)

    async def ask() -> None:
        while True:
            assert await mortal.count(ENCODER.id, Within(1)) == 4
            await asyncio.sleep(0.01)

    await mortal.upsert(ENCODER.id, before)
    async with asyncio.TaskGroup() as asking:
        questions = asking.create_task(ask())
        await asyncio.gather(*map(overwrite, range(8)))
        questions.cancel()
    assert child_of().pid == child.pid
    assert child.cmdline() != began
    assert any(file.path.endswith("_lock") for file in child.open_files())
    assert len({one.content for one in await mortal.images(ENCODER.id, range(4))}) == 1
