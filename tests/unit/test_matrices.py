"""A project's vectors as one matrix, in step with the store."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from state.errors import Inconsistent, Unavailable
from state.matrices import FEW_IDS, MatrixCache
from state.model import Embedding, EncoderRecord, StoredImage, Within
from state.stores.memory import MemoryStore

DIMENSION = 4


class WatchedStore(MemoryStore):
    """A store that counts what is asked of it, and stops where a test wants it to."""

    def __init__(self):
        super().__init__(page_size=10)
        self.streamed = []
        self.on_page = None
        self.fails = None
        self.miscounts = 0

    async def vectors(self, collection, within):
        self.streamed.append(within)
        async for block in super().vectors(collection, within):
            yield block
            if self.on_page is not None:
                await self.on_page()
            if self.fails is not None:
                raise self.fails

    async def count(self, collection, within):
        return await super().count(collection, within) + self.miscounts


def point(image_id, project_id=1, dataset_id=1, seed=None):
    vector = np.random.default_rng(image_id if seed is None else seed).standard_normal(DIMENSION)
    image = StoredImage(image_id, project_id, dataset_id, f"{image_id}.jpg", "hash")
    return Embedding(image, (vector / np.linalg.norm(vector)).astype(np.float32))


def points(ids, **fields):
    return [point(image_id, **fields) for image_id in ids]


@pytest.fixture
async def store():
    store = WatchedStore()
    for collection in ("a", "b"):
        await store.add_encoder(
            EncoderRecord(collection, "test", DIMENSION, np.eye(DIMENSION, dtype=np.float32))
        )
    return store


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def cache(store, tmp_path, executor):
    return MatrixCache(store, tmp_path / "matrices", executor)


async def assert_in_step(cache, store, within=Within(1), collection="a"):  # noqa: B008
    """The matrix is, row for row, what the store would list."""
    matrix = await cache.matrix(collection, within)
    expected = [block async for block in MemoryStore.vectors(store, collection, within)]
    ids, dataset_ids, vectors = ([x for block in expected for x in block[part].tolist()] for part in range(3))
    assert matrix.ids.tolist() == ids
    assert matrix.dataset_ids.tolist() == dataset_ids
    assert matrix.vectors.tolist() == vectors
    return matrix


async def test_a_matrix_lists_the_project_in_order_of_id(cache, store):
    await store.upsert("a", [*points([5, 30, 2]), *points([7], project_id=2), *points(range(50, 80))])
    matrix = await assert_in_step(cache, store)
    assert matrix.vectors.shape == (33, DIMENSION)


async def test_a_warm_matrix_asks_the_store_for_no_vector_and_copies_none(cache, store):
    await store.upsert("a", points(range(30)))
    first = await cache.matrix("a", Within(1))
    second = await cache.matrix("a", Within(1))
    assert np.shares_memory(first.vectors, second.vectors)
    assert len(store.streamed) == 1


async def test_an_empty_project_has_an_empty_matrix(cache, store):
    matrix = await assert_in_step(cache, store)
    assert len(matrix.vectors) == 0
    await cache.upsert("a", points([3]))
    await assert_in_step(cache, store)


async def test_a_write_is_seen_and_only_what_was_written_is_read_again(cache, store):
    await store.upsert("a", points(range(0, 80, 2)))
    await cache.matrix("a", Within(1))
    await cache.upsert("a", [point(7), point(4, seed=99)])
    await cache.remove("a", 1, [10, 12])
    await cache.retag("a", [point(6, dataset_id=9).image])
    await assert_in_step(cache, store)
    assert store.streamed[1:] == [Within(1, ids=frozenset({4, 6, 7, 10, 12}))]


async def test_an_image_that_moves_to_another_project_leaves_the_first(cache, store):
    await cache.upsert("a", [*points(range(20)), *points(range(20, 40), project_id=2)])
    for project_id in (1, 2):
        await cache.matrix("a", Within(project_id))
    await cache.upsert("a", [point(3, project_id=2)])
    await cache.retag("a", [point(4, project_id=2).image])
    for project_id in (1, 2):
        matrix = await assert_in_step(cache, store, Within(project_id))
        assert ({3, 4} <= set(matrix.ids.tolist())) == (project_id == 2)


async def test_writes_elsewhere_do_not_touch_a_matrix(cache, store):
    await cache.upsert("a", points(range(20)))
    await cache.upsert("b", points(range(5)))
    await cache.matrix("a", Within(1))
    await cache.upsert("b", points(range(20), seed=5))
    await cache.upsert("a", points(range(100, 120), project_id=2))
    await assert_in_step(cache, store)
    assert len(store.streamed) == 1


async def test_a_project_that_changed_a_lot_is_read_anew(cache, store):
    await cache.upsert("a", points(range(40)))
    await cache.matrix("a", Within(1))
    await cache.upsert("a", points(range(11), seed=1))
    await assert_in_step(cache, store)
    assert store.streamed == [Within(1), Within(1)]


async def test_a_removed_project_is_empty(cache, store):
    await cache.upsert("a", points(range(40)))
    await cache.matrix("a", Within(1))
    await cache.remove_project("a", 1)
    assert len((await cache.matrix("a", Within(1))).ids) == 0


async def test_what_is_written_behind_the_cache_is_found_by_the_count(cache, store):
    await cache.upsert("a", points(range(40)))
    await cache.matrix("a", Within(1))
    await store.remove("a", 1, [7])
    await assert_in_step(cache, store)


async def test_a_store_whose_count_contradicts_its_listing_is_inconsistent(cache, store):
    await cache.upsert("a", points(range(40)))
    store.miscounts = 1
    with pytest.raises(Inconsistent, match="40 vectors listed, 41 counted"):
        await cache.matrix("a", Within(1))


async def test_questions_asked_together_read_the_project_once(cache, store):
    await store.upsert("a", points(range(40)))
    await asyncio.gather(*(cache.matrix("a", Within(1)) for _ in range(5)))
    assert len(store.streamed) == 1


@pytest.mark.parametrize("warm", [False, True])
async def test_what_is_written_while_a_version_is_made_is_seen_by_the_next_question(cache, store, warm):
    await cache.upsert("a", [*points(range(80)), *points(range(900, 910), project_id=2)])
    if warm:
        await cache.matrix("a", Within(1))
        await cache.upsert("a", points(range(5, 18), seed=3))

    async def write():
        store.on_page = None
        await cache.upsert(
            "a", [point(7, seed=8), point(6, project_id=2), point(79, project_id=2), point(200)]
        )
        await cache.remove("a", 1, [5])

    store.on_page = write
    await cache.matrix("a", Within(1))
    await assert_in_step(cache, store)


async def test_a_project_removed_while_a_version_is_made_is_empty_afterwards(cache, store):
    await cache.upsert("a", points(range(80)))

    async def remove():
        store.on_page = None
        await cache.remove_project("a", 1)

    store.on_page = remove
    await cache.matrix("a", Within(1))
    await assert_in_step(cache, store)


async def test_a_matrix_in_hand_stays_what_it_was(cache, store):
    await cache.upsert("a", points(range(40)))
    matrix = await cache.matrix("a", Within(1))
    before = matrix.vectors.copy()
    await cache.upsert("a", [point(3, seed=77), point(100)])
    await cache.matrix("a", Within(1))
    await cache.remove_project("a", 1)
    await cache.matrix("a", Within(1))
    gc.collect()
    assert np.array_equal(matrix.vectors, before)
    assert matrix.ids.tolist() == list(range(40))


async def test_nobody_can_write_into_a_matrix(cache, store):
    await cache.upsert("a", points(range(40)))
    for within in (Within(1), Within(1, dataset_id=1), Within(1, ids=frozenset(range(5)))):
        matrix = await cache.matrix("a", within)
        with pytest.raises(ValueError, match="read-only"):
            matrix.vectors[0, 0] = 1.0


@pytest.mark.parametrize(
    "within",
    [
        Within(1, dataset_id=2),
        Within(1, dataset_id=5),
        Within(1, ids=frozenset({3, 4, 999, 41})),
        Within(1, ids=frozenset()),
        Within(1, dataset_id=1, ids=frozenset({3, 31})),
        Within(1, exclude=frozenset({3, 4, 999})),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
async def test_a_part_of_a_project_is_what_the_store_says_it_is(cache, store, within, warm):
    await store.upsert(
        "a", [*points(range(30)), *points(range(30, 40), dataset_id=2), *points([41], project_id=2)]
    )
    if warm:
        await cache.matrix("a", Within(1))
    await assert_in_step(cache, store, within)


async def test_a_few_images_of_a_cold_project_are_read_alone(cache, store):
    await store.upsert("a", points(range(40)))
    await cache.matrix("a", Within(1, ids=frozenset({3, 4})))
    assert store.streamed == [Within(1, ids=frozenset({3, 4}))]
    await cache.matrix("a", Within(1, ids=frozenset(range(FEW_IDS + 1))))
    assert store.streamed[1:] == [Within(1)]


async def test_the_least_recently_used_matrix_gives_way(store, tmp_path, executor):
    cache = MatrixCache(store, tmp_path, executor, max_bytes=2 * 20 * DIMENSION * 4)
    for project_id in (1, 2, 3):
        await cache.upsert("a", points(range(project_id * 100, project_id * 100 + 20), project_id=project_id))
    for project_id in (1, 2, 1, 3, 1, 2):
        await cache.matrix("a", Within(project_id))
    assert [within.project_id for within in store.streamed] == [1, 2, 3, 2]


async def test_a_matrix_larger_than_the_limit_is_handed_out_but_not_kept(store, tmp_path, executor):
    cache = MatrixCache(store, tmp_path, executor, max_bytes=100)
    await cache.upsert("a", points(range(20)))
    for _ in range(2):
        await assert_in_step(cache, store)
    assert len(store.streamed) == 2


@pytest.mark.parametrize("warm", [False, True])
async def test_the_stores_failure_is_passed_on_and_the_next_question_gets_its_answer(cache, store, warm):
    await cache.upsert("a", points(range(40)))
    if warm:
        await cache.matrix("a", Within(1))
        await cache.upsert("a", [point(3, seed=9), point(50)])
    store.fails = Unavailable("qdrant", "away", 3.0)
    with pytest.raises(Unavailable, match="away"):
        await cache.matrix("a", Within(1))
    store.fails = None
    await assert_in_step(cache, store)


async def test_a_question_given_up_half_way_leaves_the_next_one_its_answer(cache, store):
    await cache.upsert("a", points(range(40)))
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait():
        reached.set()
        await never.wait()

    store.on_page = wait
    question = asyncio.create_task(cache.matrix("a", Within(1)))
    await reached.wait()
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    store.on_page = None
    await assert_in_step(cache, store)


async def test_a_write_that_failed_half_way_is_looked_at_all_the_same(cache, store, monkeypatch):
    await cache.upsert("a", points(range(40)))
    await cache.matrix("a", Within(1))
    upsert = store.upsert

    async def half(collection, batch):
        await upsert(collection, batch[:1])
        raise Unavailable("qdrant", "gone")

    monkeypatch.setattr(store, "upsert", half)
    with pytest.raises(Unavailable):
        await cache.upsert("a", [point(3, seed=5), point(4, seed=5)])
    await assert_in_step(cache, store)


async def test_a_directory_that_cannot_be_written_makes_the_matrix_unavailable(store, tmp_path, executor):
    directory = tmp_path / "matrices"
    cache = MatrixCache(store, directory, executor)
    directory.rmdir()
    await cache.upsert("a", points(range(3)))
    with pytest.raises(Unavailable, match="no matrix"):
        await cache.matrix("a", Within(1))


async def test_no_file_is_left_behind(cache, store, tmp_path):
    await cache.upsert("a", points(range(40)))
    await cache.matrix("a", Within(1))
    assert list((tmp_path / "matrices").iterdir()) == []


async def test_a_store_that_lists_out_of_order_is_inconsistent(cache, store, monkeypatch):
    async def backwards(collection, within):
        for number in (2, 1):
            yield np.array([number]), np.array([1]), np.eye(1, DIMENSION, dtype=np.float32)

    monkeypatch.setattr(store, "vectors", backwards)
    cache.vectors = backwards
    with pytest.raises(Inconsistent, match="order"):
        await cache.matrix("a", Within(1))


async def test_any_interleaving_of_writes_and_questions_stays_in_step(cache, store):
    rng = np.random.default_rng(0)
    for turn in range(300):
        ids, project_id = rng.choice(60, rng.integers(1, 6), replace=False).tolist(), int(rng.integers(1, 3))
        stored = {each.image.id for each in await store.embeddings("a", ids)}
        match int(rng.integers(12)):
            case 0 | 1 | 2 | 3:
                await cache.upsert("a", points(ids, project_id=project_id, seed=turn))
            case 4 | 5:
                await cache.remove("a", project_id, ids)
            case 6 | 7:
                await cache.retag("a", [point(i, project_id, turn).image for i in ids if i in stored])
            case 8 if turn % 5 == 0:
                await cache.remove_project("a", project_id)
            case _:
                await assert_in_step(cache, store, Within(project_id))
