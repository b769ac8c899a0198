"""What every store promises, asked of each of them."""

import warnings
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from qdrant_stores import REAL_SERVER, emulated, local, real

from state.errors import Inconsistent, Rejected
from state.model import Embedding, EncoderRecord, StoredImage, Vectors, Within
from state.ports import Store
from state.stores.edge import EdgeStore
from state.stores.memory import MemoryStore

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]

LOCAL = pytest.param("local", marks=pytest.mark.nightly)
STORES = ["memory", "edge", LOCAL, "rest", "grpc", *(["server"] if REAL_SERVER else [])]
"""In memory, embedded, in the client library's memory, on the emulated server, on a real one.

The client's memory is slow, and the emulated server, whose engine is Qdrant's, shows as much of the store.
"""

DIMENSION = 16
FAR = 2**48 - 1
COLLECTION = "test-16-1"


def unit_vectors(number: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((number, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def stored(image_id: int, project_id: int = 1, **fields: object) -> StoredImage:
    image = StoredImage(image_id, project_id, 10 + image_id % 2, f"{image_id}.jpg", f"hash {image_id}")
    return replace(image, **fields)


def embeddings(ids: Iterable[int], project_id: int = 1, seed: int = 0) -> list[Embedding]:
    images = [stored(image_id, project_id) for image_id in ids]
    return [Embedding(*pair) for pair in zip(images, unit_vectors(len(images), seed), strict=True)]


def record(encoder_id: str, dimension: int = DIMENSION) -> EncoderRecord:
    return EncoderRecord(encoder_id, "test", dimension, np.eye(3, dimension, dtype=np.float32))


async def listed(store: Store, collection: str, project_id: int = 1) -> list[StoredImage]:
    return [image async for page in store.scroll(collection, project_id) for image in page]


@asynccontextmanager
async def edge(directory: Path) -> AsyncIterator[Store]:
    opened = await EdgeStore.open(directory, "embedsync_00000000", floor=lambda total: 0)
    yield opened
    await opened.close()


@asynccontextmanager
async def memory() -> AsyncIterator[Store]:
    yield MemoryStore(page_size=100)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    directory = tmp_path_factory.mktemp(request.param)
    opening = {
        "memory": memory,
        "edge": lambda: edge(directory),
        "local": local,
        "rest": lambda: emulated(directory),
        "grpc": lambda: emulated(directory, by_grpc=True),
        "server": lambda: real(str(REAL_SERVER)),
    }
    async with opening[request.param]() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def collection(store: Store) -> str:
    """An empty collection; one serves all tests, for making one costs a tenth of a second."""
    await store.add_encoder(record(COLLECTION))
    for project_id in await store.projects(COLLECTION):
        await store.remove_project(COLLECTION, project_id)
    return COLLECTION


async def test_the_catalogue_returns_encoders_with_their_canaries(store: Store, collection: str) -> None:
    found = next(known for known in await store.encoders() if known.id == collection)
    assert (found.kind, found.dimension) == ("test", DIMENSION)
    np.testing.assert_array_equal(found.canaries, record(collection).canaries)


async def test_adding_an_encoder_again_keeps_its_points(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings([1]))
    await store.add_encoder(record(collection))
    await store.add_encoder(next(known for known in await store.encoders() if known.id == collection))
    assert len(await listed(store, collection)) == 1
    assert [known.id for known in await store.encoders()].count(collection) == 1


async def test_an_encoder_cannot_change_its_dimension(store: Store, collection: str) -> None:
    with pytest.raises(Inconsistent, match="dimensions"):
        await store.add_encoder(record(collection, DIMENSION + 1))


async def test_an_unknown_collection_is_an_inconsistency(store: Store) -> None:
    with pytest.raises(Inconsistent, match="nowhere"):
        await store.upsert("nowhere", embeddings([1]))
    with pytest.raises(Inconsistent, match="nowhere"):
        await store.count("nowhere", Within(1))


async def test_pointers_move_and_go(store: Store) -> None:
    await store.set_pointer(5, "a")
    await store.set_pointer(6, "a")
    await store.set_pointer(5, "b")
    assert (await store.pointers()) == {5: "b", 6: "a"}
    await store.set_pointer(5, None)
    await store.set_pointer(6, None)
    await store.set_pointer(6, None)
    assert (await store.pointers()) == {}


async def test_epochs_only_grow(store: Store) -> None:
    epochs = [await store.next_epoch() for _ in range(3)]
    assert 0 < epochs[0] < epochs[1] < epochs[2]


async def test_what_no_good_canary_vouches_for_is_withdrawn(store: Store, collection: str) -> None:
    confirmed = await store.next_epoch()
    before = [replace(one, image=replace(one.image, epoch=confirmed)) for one in embeddings([1, 2])]
    after = [
        replace(one, image=replace(one.image, epoch=confirmed + 1)) for one in embeddings(range(3, 2500))
    ]
    await store.upsert(collection, before + after)
    await store.confirm(collection, confirmed)
    assert await store.withdraw(collection) == len(after)
    assert [image.id for image in await listed(store, collection)] == [1, 2]
    assert await store.withdraw(collection) == 0


async def test_a_confirmed_epoch_never_goes_back(store: Store, collection: str) -> None:
    first, second = await store.next_epoch(), await store.next_epoch()
    await store.confirm(collection, second)
    await store.confirm(collection, first)
    found = next(known for known in await store.encoders() if known.id == collection)
    assert found.confirmed == second
    np.testing.assert_array_equal(found.canaries, record(collection).canaries)


async def test_an_encoder_is_forgotten_with_its_points(store: Store, collection: str) -> None:
    await store.add_encoder(record("test-16-8"))
    await store.upsert("test-16-8", embeddings([1]))
    await store.upsert(collection, embeddings([1]))
    await store.set_pointer(7, "test-16-8")
    with pytest.raises(Inconsistent, match="answers for project 7"):
        await store.forget_encoder("test-16-8")
    await store.set_pointer(7, None)
    await store.forget_encoder("test-16-8")
    await store.forget_encoder("test-16-8")
    assert "test-16-8" not in [known.id for known in await store.encoders()]
    with pytest.raises(Inconsistent):
        await store.count("test-16-8", Within(1))
    await store.add_encoder(record("test-16-8"))
    assert await store.count("test-16-8", Within(1)) == 0
    assert await store.count(collection, Within(1)) == 1
    await store.forget_encoder("test-16-8")


async def test_a_pin_is_kept_until_it_is_taken_away(store: Store, collection: str) -> None:
    assert await store.pinned() is None
    await store.pin(collection)
    await store.pin("test-16-9")
    assert await store.pinned() == "test-16-9"
    await store.pin(None)
    assert await store.pinned() is None


async def test_every_field_of_a_proof_comes_back(store: Store, collection: str) -> None:
    image = StoredImage(FAR, 2**47, 2**46, "ü 图.jpg", "c" * 64, "a/b/ü 图.jpg", "2024-01-01", "cas", 7)
    await store.upsert(collection, [Embedding(image, unit_vectors(1)[0])])
    assert await store.images(collection, [FAR]) == [image]
    assert await listed(store, collection, 2**47) == [image]


async def test_an_upsert_replaces_vector_and_proof_together(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings([1, 2]))
    newer = Embedding(stored(1, content="newer", epoch=3), unit_vectors(1, seed=9)[0])
    await store.upsert(collection, [newer])
    (found,) = await store.embeddings(collection, [1])
    assert found.image == newer.image
    np.testing.assert_allclose(found.vector, newer.vector, atol=1e-3)
    assert await store.count(collection, Within(1)) == 2


async def test_scroll_lists_a_project_in_ascending_order_of_id(store: Store, collection: str) -> None:
    ids = np.random.default_rng(3).choice(FAR, 2500, replace=False).tolist()
    await store.upsert(collection, embeddings(ids))
    await store.upsert(collection, embeddings([7, 8], project_id=2))
    assert [image.id for image in await listed(store, collection)] == sorted(ids)
    assert [image.id for image in await listed(store, collection, 2)] == [7, 8]
    assert await listed(store, collection, 3) == []


async def test_scroll_goes_on_while_what_it_listed_is_removed(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings(range(2500)))
    seen: list[int] = []
    async for page in store.scroll(collection, 1):
        listed_now = [image.id for image in page]
        await store.remove(collection, 1, listed_now)
        seen += listed_now
    assert seen == list(range(2500))


async def test_images_are_found_whatever_their_project_and_in_order(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings([5, 3]) + embeddings([4], project_id=2))
    found = await store.images(collection, [5, 4, 99, 3, 3, -1, 2**70])
    assert [image.id for image in found] == [3, 4, 5]


async def test_embeddings_come_with_their_vectors(store: Store, collection: str) -> None:
    points = embeddings(range(600))
    await store.upsert(collection, points)
    found = await store.embeddings(collection, range(1000))
    assert [point.image for point in found] == [point.image for point in points]
    np.testing.assert_allclose([p.vector for p in found], [p.vector for p in points], atol=1e-3)
    np.testing.assert_allclose([np.linalg.norm(p.vector) for p in found], 1, atol=1e-3)


async def test_one_embedding_is_found_for_each_stored_content(store: Store, collection: str) -> None:
    points = embeddings(range(300)) + embeddings([1000], project_id=2, seed=4)
    twin = Embedding(stored(301, content="hash 7"), points[7].vector)
    await store.upsert(collection, [*points, twin])
    wanted = [f"hash {i}" for i in (7, 1000, 5000)]
    found = await store.with_contents(collection, wanted)
    assert set(found) == {"hash 7", "hash 1000"}
    assert found["hash 7"].image.id in (7, 301)
    np.testing.assert_allclose(found["hash 7"].vector, points[7].vector, atol=1e-3)


async def test_a_retag_replaces_proofs_and_keeps_vectors(store: Store, collection: str) -> None:
    points = embeddings([1, 2])
    await store.upsert(collection, points)
    await store.retag(collection, [stored(1, project_id=4, name="new.jpg", epoch=2), stored(77)])
    (found,) = await store.embeddings(collection, [1, 77])
    assert found.image == stored(1, project_id=4, name="new.jpg", epoch=2)
    np.testing.assert_allclose(found.vector, points[0].vector, atol=1e-3)
    assert await store.projects(collection) == {1: 1, 4: 1}


async def test_a_point_made_anew_keeps_its_proof_when_it_is_retagged(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings([1]))
    await store.retag(collection, [stored(1, content="its former bytes", name="new.jpg")])
    assert await store.images(collection, [1]) == [stored(1)]


async def test_a_removal_takes_only_what_still_belongs_to_the_project(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings([1, 2, 3]) + embeddings([4], project_id=2))
    assert await store.remove(collection, 1, [1, 2, 4, 99]) == 2
    assert await store.remove(collection, 1, [1]) == 0
    assert [image.id for image in await store.images(collection, [1, 2, 3, 4])] == [3, 4]


async def test_removing_a_project_leaves_the_others(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings(range(2500)) + embeddings([9000], project_id=2))
    await store.remove_project(collection, 1)
    assert await store.projects(collection) == {2: 1}


async def test_collections_do_not_mix(store: Store, collection: str) -> None:
    other = f"{collection}-other"
    await store.add_encoder(record(other, 4))
    await store.upsert(collection, embeddings([1]))
    await store.upsert(other, [Embedding(stored(1, content="x"), np.eye(4, dtype=np.float32)[0])])
    assert (await store.images(collection, [1]))[0].content == "hash 1"
    assert (await store.images(other, [1]))[0].content == "x"


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        (Within(1), range(400)),
        (Within(1, dataset_id=10), range(0, 400, 2)),
        (Within(1, ids=frozenset([3, 4, 500, 9999])), [3, 4]),
        (Within(1, dataset_id=11, ids=frozenset([3, 4])), [3]),
        (Within(1, exclude=frozenset(range(390))), range(390, 400)),
        (Within(1, ids=frozenset([1, 2, 3]), exclude=frozenset([2])), [1, 3]),
        (Within(1, ids=frozenset()), []),
        (Within(1, dataset_id=12), []),
        (Within(3), []),
    ],
)
async def test_within_narrows_every_question(
    store: Store, collection: str, within: Within, expected: Iterable[int]
) -> None:
    await store.upsert(collection, embeddings(range(400)) + embeddings([500], project_id=2))
    wanted = list(expected)
    assert await store.count(collection, within) == len(wanted)
    (hits,) = await store.query(collection, unit_vectors(1, seed=5), within, 1000)
    assert sorted(hit.image.id for hit in hits) == wanted
    blocks = [block async for block in store.vectors(collection, within)]
    assert [int(image_id) for ids, _, _ in blocks for image_id in ids] == wanted
    assert all(set(datasets.tolist()) <= {10, 11} for _, datasets, _ in blocks)


async def test_a_scope_may_name_a_hundred_thousand_ids(
    request: pytest.FixtureRequest, store: Store, collection: str
) -> None:
    if "local" in request.node.name:
        pytest.skip("the client library's memory compares every point with every id, in Python")
    points = embeddings(range(0, 100_000, 500))
    await store.upsert(collection, points)
    within = Within(1, ids=frozenset(range(100_000)), exclude=frozenset([1000, 1500]))
    expected = [point.image.id for point in points if point.image.id not in within.exclude]
    assert await store.count(collection, within) == len(expected)
    (hits,) = await store.query(collection, unit_vectors(1, seed=5), within, 50)
    cosines = np.stack([p.vector for p in points if p.image.id in expected]) @ unit_vectors(1, seed=5)[0]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1][:50], atol=1e-3)
    assert all(hit.image == points[hit.image.id // 500].image for hit in hits)
    blocks = [block async for block in store.vectors(collection, within)]
    assert [int(image_id) for ids, _, _ in blocks for image_id in ids] == expected
    left_out = Within(1, exclude=frozenset(range(90_000)))
    assert await store.count(collection, left_out) == 20
    (hits,) = await store.query(collection, unit_vectors(1), left_out, 50)
    assert len(hits) == 20


async def test_blocks_of_vectors_belong_to_their_ids(store: Store, collection: str) -> None:
    points = embeddings(range(700))
    await store.upsert(collection, points)
    seen = 0
    async for ids, dataset_ids, rows in store.vectors(collection, Within(1)):
        for image_id, dataset_id, row in zip(ids, dataset_ids, rows, strict=True):
            assert dataset_id == points[image_id].image.dataset_id
            np.testing.assert_allclose(row, points[image_id].vector, atol=1e-3)
        assert rows.dtype == np.float32
        seen += len(ids)
    assert seen == 700


@pytest.mark.parametrize("exact", [False, True])
async def test_a_query_returns_the_nearest_of_each_vector_best_first(
    store: Store, collection: str, exact: bool
) -> None:
    points = embeddings(range(500))
    await store.upsert(collection, points)
    queries = unit_vectors(3, seed=8)
    cosines = queries @ np.stack([point.vector for point in points]).T
    answers = await store.query(collection, queries, Within(1), 10, exact)
    assert len(answers) == 3
    for answer, row in zip(answers, cosines, strict=True):
        scores = [hit.score for hit in answer]
        assert scores == sorted(scores, reverse=True)
        np.testing.assert_allclose(scores, np.sort(row)[::-1][:10], atol=1e-3)
        np.testing.assert_allclose(scores, [row[hit.image.id] for hit in answer], atol=1e-3)
        assert all(hit.image == points[hit.image.id].image for hit in answer)


async def test_a_large_answer_is_whole(store: Store, collection: str) -> None:
    await store.upsert(collection, embeddings(range(3000)))
    (hits,) = await store.query(collection, unit_vectors(1), Within(1), 10_000)
    assert {hit.image.id for hit in hits} == set(range(3000))


async def test_no_query_vectors_have_no_answers(store: Store, collection: str) -> None:
    assert await store.query(collection, unit_vectors(0), Within(1), 10) == []


@pytest.mark.parametrize(
    "bad",
    [
        np.full(DIMENSION, np.nan),
        np.full(DIMENSION, np.inf),
        np.zeros(DIMENSION),
        np.ones(DIMENSION),
        np.ones(1),
        np.eye(DIMENSION)[:1],
    ],
    ids=["nan", "inf", "zero", "long", "short", "matrix"],
)
async def test_what_is_no_unit_vector_is_rejected_and_nothing_is_written(
    store: Store, collection: str, bad: np.ndarray
) -> None:
    await store.upsert(collection, embeddings([1]))
    points = [*embeddings([1, 2, 3], seed=1), Embedding(stored(4), bad.astype(np.float32))]
    with pytest.raises(Rejected, match="image 4"):
        await store.upsert(collection, points)
    (found,) = await store.embeddings(collection, [1, 2, 3, 4])
    np.testing.assert_allclose(found.vector, embeddings([1])[0].vector, atol=1e-3)


async def test_a_query_that_is_no_unit_vector_is_rejected(store: Store, collection: str) -> None:
    for bad in (np.full((1, DIMENSION), np.nan), np.ones((1, 3)), np.ones(DIMENSION)):
        with pytest.raises(Rejected, match="query"):
            await store.query(collection, bad.astype(np.float32), Within(1), 1)


async def test_a_name_that_is_not_unicode_is_rejected_and_nothing_is_written(
    store: Store, collection: str
) -> None:
    points = [*embeddings([1]), Embedding(stored(2, name="\udcff.jpg"), unit_vectors(1)[0])]
    with pytest.raises(Rejected, match="image 2"):
        await store.upsert(collection, points)
    assert await listed(store, collection) == []


async def test_empty_writes_are_harmless(store: Store, collection: str) -> None:
    await store.upsert(collection, [])
    await store.retag(collection, [])
    assert await store.remove(collection, 1, []) == 0
    assert await store.images(collection, []) == []
    assert await store.with_contents(collection, []) == {}
    await store.healthy()


async def test_edge_keeps_everything_when_it_is_opened_again(tmp_path: Path) -> None:
    first = await EdgeStore.open(tmp_path, "embedsync_1", floor=lambda total: 0)
    await first.add_encoder(record("test-16-1"))
    await first.upsert("test-16-1", embeddings(range(50)))
    await first.set_pointer(1, "test-16-1")
    epoch = await first.next_epoch()
    await first.confirm("test-16-1", epoch)
    await first.pin("test-16-1")
    await first.close()

    again = await EdgeStore.open(tmp_path, "embedsync_1", floor=lambda total: 0)
    assert await listed(again, "test-16-1") == [stored(i) for i in range(50)]
    assert await again.pointers() == {1: "test-16-1"}
    assert await again.next_epoch() > epoch
    assert await again.pinned() == "test-16-1"
    assert (await again.encoders())[0].confirmed == epoch
    np.testing.assert_array_equal((await again.encoders())[0].canaries, record("test-16-1").canaries)
    await again.close()


@pytest.mark.filterwarnings("default:QDRANT_TEST_URL")
async def test_a_real_server_was_asked_too() -> None:
    if REAL_SERVER is None:
        warnings.warn("QDRANT_TEST_URL is not set: no real Qdrant server was asked", stacklevel=1)
        pytest.skip("QDRANT_TEST_URL is not set")
