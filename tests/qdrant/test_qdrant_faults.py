"""A server in trouble: what was written is written, what was not is said, and nothing is guessed."""

import asyncio
from pathlib import Path

import pytest
import trustme
from qdrant_emulator import DISK_FULL, Fault, QdrantEmulator
from qdrant_opening import Opener, Time
from qdrant_points import ENCODER, both, embeddings, listed, unit_vectors

from state.errors import Misconfigured, Unavailable
from state.model import Within
from state.stores.qdrant import POINTS_PER_WRITE, QdrantStore
from state.stores.qdrant_reading import ROWS_PER_READ

pytestmark = pytest.mark.filterwarnings(
    # The client raises its own error in an interceptor of gRPC, which then trips over it at its end.
    "ignore:Exception ignored in.*InterceptedCall:pytest.PytestUnraisableExceptionWarning"
)

KEY = "sesame-write"
READING = "sesame-read"


@pytest.fixture
async def filled(store: QdrantStore) -> QdrantStore:
    """A store of twenty points, answering for project 1."""
    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings(range(20)))
    await store.set_pointer(1, ENCODER.id)
    return store


@both
async def test_a_server_away_amid_an_upsert_is_unavailable_and_the_next_try_makes_it_whole(
    filled: QdrantStore, emulator: QdrantEmulator
) -> None:
    points = embeddings(range(3 * POINTS_PER_WRITE), seed=1)
    emulator.faults.add(Fault("upsert", "reset", times=None, skip=1))
    with pytest.raises(Unavailable, match="qdrant"):
        await filled.upsert(ENCODER.id, points)
    emulator.faults.clear()
    await filled.upsert(ENCODER.id, points)
    assert await listed(filled) == list(range(3 * POINTS_PER_WRITE))


@both
async def test_a_server_away_amid_a_listing_never_makes_it_look_whole(
    filled: QdrantStore, emulator: QdrantEmulator
) -> None:
    await filled.upsert(ENCODER.id, embeddings(range(2 * ROWS_PER_READ)))
    emulator.faults.add(Fault("scroll", "reset", times=None, skip=1))
    seen: list[int] = []

    async def listing() -> None:
        async for page in filled.scroll(ENCODER.id, 1):
            seen.append(len(page))

    with pytest.raises(Unavailable):
        await listing()
    assert seen == [ROWS_PER_READ]


@both
async def test_a_pointer_whose_move_was_not_answered_is_moved_by_the_next_try(
    open_store: Opener, emulator: QdrantEmulator, filled: QdrantStore
) -> None:
    emulator.faults.add(Fault("upsert", "lost", times=None))
    with pytest.raises(Unavailable):
        await filled.set_pointer(2, ENCODER.id)
    emulator.faults.clear()
    assert await filled.pointers() == {1: ENCODER.id}
    await filled.set_pointer(2, ENCODER.id)
    await filled.close()
    assert await (await open_store()).pointers() == {1: ENCODER.id, 2: ENCODER.id}


@both
@pytest.mark.parametrize("kind", ["lost", "reset", "status"])
async def test_one_lost_call_of_each_kind_is_made_again(
    open_store: Opener, emulator: QdrantEmulator, kind: str
) -> None:
    operations = (
        "exists",
        "info",
        "create",
        "create_index",
        "upsert",
        "delete",
        "batch",
        "update_collection",
    )
    asked = ("scroll", "retrieve", "count", "facet", "query*", "delete_collection")
    emulator.faults.add(*(Fault(operation, kind) for operation in (*operations, *asked)))
    store = await open_store()
    await store.add_encoder(ENCODER)
    points = embeddings(range(5))
    await store.upsert(ENCODER.id, points)
    await store.retag(ENCODER.id, [points[4].image])
    await store.set_pointer(1, ENCODER.id)
    assert await store.remove(ENCODER.id, 1, [0]) == 1
    assert await store.projects(ENCODER.id) == {1: 4}
    assert await listed(store) == [1, 2, 3, 4]
    assert [image.id for image in await store.images(ENCODER.id, [0, 1])] == [1]
    (hits,) = await store.query(ENCODER.id, unit_vectors(1), Within(1), 2)
    assert len(hits) == 2
    await store.set_pointer(1, None)
    await store.forget_encoder(ENCODER.id)
    assert await store.encoders() == []


async def test_an_epoch_lost_with_its_answer_is_never_used_again(
    open_store: Opener, emulator: QdrantEmulator, store: QdrantStore
) -> None:
    emulator.faults.add(Fault("upsert", "lost", times=3))
    with pytest.raises(Unavailable):
        await store.next_epoch()
    assert await store.next_epoch() == 2
    await store.close()
    assert await (await open_store()).next_epoch() == 3


async def test_an_epoch_that_could_not_be_kept_is_not_used(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    emulator.faults.add(Fault("upsert", "status", status=403))
    with pytest.raises(Unavailable, match="may not write"):
        await store.next_epoch()
    assert await store.next_epoch() == 2


@both
async def test_a_page_not_found_of_a_proxy_is_no_evidence(
    store: QdrantStore, emulator: QdrantEmulator, time_passing: Time
) -> None:
    beating = asyncio.create_task(store.beat())
    beats = emulator.calls["upsert"]
    emulator.faults.add(Fault("retrieve", "status", times=3, status=404, message="404 page not found"))
    async with asyncio.timeout(10):
        while emulator.calls["upsert"] < beats + 2 and not beating.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not beating.done()
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)


@pytest.mark.parametrize("kind", ["html", "cut"])
async def test_half_an_answer_or_none_is_asked_for_again(
    filled: QdrantStore, emulator: QdrantEmulator, kind: str
) -> None:
    emulator.faults.add(Fault("query*", kind, times=2))
    (hits,) = await filled.query(ENCODER.id, unit_vectors(1), Within(1), 3)
    assert hits[0].image.id == 0
    emulator.faults.add(Fault("count", kind, times=None))
    with pytest.raises(Unavailable):
        await filled.count(ENCODER.id, Within(1))


@both
async def test_a_server_that_asks_for_a_moment_gets_it(
    filled: QdrantStore, emulator: QdrantEmulator, time_passing: Time
) -> None:
    emulator.faults.add(Fault("count", "status", status=429, retry_after=1))
    assert await filled.count(ENCODER.id, Within(1)) == 20
    assert time_passing.slept == [1.0]


@both
async def test_a_server_that_asks_for_long_is_left_alone_for_so_long(
    filled: QdrantStore, emulator: QdrantEmulator, time_passing: Time
) -> None:
    emulator.faults.add(Fault("upsert", "status", status=429, retry_after=60))
    with pytest.raises(Unavailable) as caught:
        await filled.upsert(ENCODER.id, embeddings([1]))
    assert caught.value.retry_after == 60
    assert time_passing.slept == []


@both
async def test_an_overloaded_server_is_tried_three_times(
    filled: QdrantStore, emulator: QdrantEmulator, time_passing: Time
) -> None:
    emulator.faults.add(Fault("count", "status", times=None, status=503))
    with pytest.raises(Unavailable, match="on command"):
        await filled.count(ENCODER.id, Within(1))
    assert emulator.calls["count"] == 3
    assert len(time_passing.slept) == 2


async def test_what_the_server_failed_at_is_not_repeated_at_once(
    filled: QdrantStore, emulator: QdrantEmulator
) -> None:
    emulator.faults.add(Fault("count", "status", times=None, status=500))
    with pytest.raises(Unavailable):
        await filled.count(ENCODER.id, Within(1))
    assert emulator.calls["count"] == 1


@both
async def test_a_full_disk_of_the_server_is_named_and_searches_go_on(
    filled: QdrantStore, emulator: QdrantEmulator
) -> None:
    emulator.faults.add(Fault("upsert", "status", times=None, status=500, message=DISK_FULL))
    with pytest.raises(Unavailable, match="the server's disk is full") as caught:
        await filled.upsert(ENCODER.id, embeddings([1]))
    assert caught.value.retry_after
    (hits,) = await filled.query(ENCODER.id, unit_vectors(1), Within(1), 3)
    assert len(hits) == 3


@both
async def test_a_call_that_hangs_is_given_up(open_store: Opener, emulator: QdrantEmulator) -> None:
    store = await open_store(call_seconds=0.3)
    emulator.faults.add(Fault("exists", "latency", seconds=1))
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
        await store.healthy()
    assert asyncio.get_running_loop().time() - started < 1
    assert emulator.calls["exists"] == 2


async def test_a_write_that_was_only_heard_is_no_write(filled: QdrantStore, emulator: QdrantEmulator) -> None:
    emulator.faults.add(Fault("upsert", "acknowledged"))
    with pytest.raises(Unavailable, match="acknowledged"):
        await filled.upsert(ENCODER.id, embeddings([1]))


@both
async def test_a_server_that_went_and_came_back_is_used_again(
    filled: QdrantStore, emulator: QdrantEmulator
) -> None:
    await emulator.away()
    with pytest.raises(Unavailable):
        await filled.healthy()
    await emulator.back()
    async with asyncio.timeout(20):
        while True:
            try:
                await filled.healthy()
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    assert await listed(filled) == list(range(20))


@both
@pytest.mark.parametrize("key", [None, "guessed"])
async def test_a_wrong_key_is_told_at_the_start(
    open_store: Opener, emulator: QdrantEmulator, key: str | None
) -> None:
    emulator.keys.writing = KEY
    with pytest.raises(Misconfigured, match="QDRANT_API_KEY") as caught:
        await open_store(api_key=key)
    assert "guessed" not in str(caught.value)


@both
async def test_a_key_that_may_only_read_serves_searches_and_says_why_nothing_is_written(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    emulator.keys.writing, emulator.keys.reading = KEY, READING
    writer = await open_store(api_key=KEY)
    await writer.add_encoder(ENCODER)
    await writer.upsert(ENCODER.id, embeddings(range(20)))
    reader = await open_store(api_key=READING)
    (hits,) = await reader.query(ENCODER.id, unit_vectors(1), Within(1), 3)
    assert hits[0].image.id == 0
    assert await reader.next_epoch() > 0
    with pytest.raises(Unavailable, match="QDRANT_API_KEY may not write") as caught:
        await reader.upsert(ENCODER.id, embeddings([1]))
    assert READING not in str(caught.value)
    with pytest.raises(Unavailable, match="may not write"):
        await reader.set_pointer(1, ENCODER.id)


@both
async def test_over_tls_the_server_is_one_that_this_machine_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_passing: Time, transport: str
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    async with QdrantEmulator(tmp_path, certificate=certificate) as emulator:
        opener = Opener(emulator, time_passing, transport == "grpc")
        with pytest.raises(Unavailable, match=r"CERTIFICATE_VERIFY_FAILED|UNAVAILABLE"):
            await opener()
        authority.cert_pem.write_to_path(tmp_path / "roots.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
        store = await opener()
        await store.healthy()
        await store.close()


async def test_a_key_that_may_only_read_is_no_start_for_a_new_store(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    emulator.keys.writing, emulator.keys.reading = KEY, READING
    with pytest.raises(Misconfigured, match=r"QDRANT_API_KEY.*may not write"):
        await open_store(api_key=READING)


async def test_who_may_only_read_hears_of_what_the_writer_moves(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    emulator.keys.writing, emulator.keys.reading = KEY, READING
    writer = await open_store(api_key=KEY)
    await writer.add_encoder(ENCODER)
    reader = await open_store(api_key=READING)
    await writer.set_pointer(1, ENCODER.id)
    beating = asyncio.create_task(reader.beat())
    async with asyncio.timeout(10):
        while not await reader.pointers():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
