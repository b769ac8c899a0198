"""Answers of the server are those of the store in memory, however many are wanted."""

import numpy as np
import pytest
from qdrant_emulator import QdrantEmulator
from qdrant_points import ENCODER, both, embeddings, listed, unit_vectors

from state.errors import Inconsistent
from state.model import Within
from state.stores.memory import MemoryStore
from state.stores.qdrant import POINTS_PER_WRITE, QdrantStore

NUMBER = 3000


@both
async def test_answers_of_any_size_are_those_of_memory_in_the_same_order(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    memory = MemoryStore()
    points = {point.image.id: point for point in embeddings(range(0, 5 * NUMBER, 5))}
    for one in (store, memory):
        await one.add_encoder(ENCODER)
        await one.upsert(ENCODER.id, list(points.values()))
    queries = unit_vectors(3, seed=5)
    scopes = [Within(1), Within(1, ids=frozenset(range(0, 5 * NUMBER, 2))), Within(1, dataset_id=11)]
    for within in scopes:
        for limit in (7, 400, 2500):
            found = await store.query(ENCODER.id, queries, within, limit)
            wanted = await memory.query(ENCODER.id, queries, within, limit)
            for ours, reference in zip(found, wanted, strict=True):
                scores = [hit.score for hit in reference]
                np.testing.assert_allclose([hit.score for hit in ours], scores, atol=1e-5)
                ids = [hit.image.id for hit in ours]
                swapped = sum(a != b.image.id for a, b in zip(ids, reference, strict=True))
                assert swapped <= 2
                assert all(hit.image == points[hit.image.id].image for hit in ours)


async def test_a_scope_of_ids_is_compared_point_by_point(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    await store.add_encoder(ENCODER)
    await store.query(ENCODER.id, unit_vectors(1), Within(1), 5)
    assert "params" not in emulator.bodies["query_one"]
    await store.query(ENCODER.id, unit_vectors(1), Within(1, ids=frozenset([1])), 5)
    assert emulator.bodies["query_one"]["params"]["exact"]


async def test_several_vectors_are_one_call(store: QdrantStore, emulator: QdrantEmulator) -> None:
    await store.add_encoder(ENCODER)
    await store.query(ENCODER.id, unit_vectors(16), Within(1), 50)
    assert emulator.calls["query"] == 1


async def test_writes_go_in_parts_and_the_last_of_two_of_an_image_stays(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    await store.add_encoder(ENCODER)
    before = emulator.calls["upsert"]
    twice = embeddings(range(POINTS_PER_WRITE)) + embeddings([0], seed=9, content="newer")
    await store.upsert(ENCODER.id, twice)
    assert emulator.calls["upsert"] - before == 1
    (found,) = await store.embeddings(ENCODER.id, [0])
    assert found.image.content == "newer"
    np.testing.assert_allclose(found.vector, twice[-1].vector, atol=1e-5)


async def test_a_listing_left_early_leaves_nothing_running(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings(range(1500)))
    listing = store.scroll(ENCODER.id, 1)
    async for page in listing:
        assert page
        break
    await listing.aclose()


async def test_a_point_without_a_proof_is_not_taken_for_an_image(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    await store.add_encoder(ENCODER)
    stranger = {"id": 5, "vector": unit_vectors(1)[0].tolist(), "payload": {"project": "1"}}
    emulator.engine.upsert(f"embedsync_1_{ENCODER.id}", {"points": [stranger], "wait": True})
    with pytest.raises(Inconsistent, match="not ours"):
        await listed(store)
    with pytest.raises(Inconsistent, match="not ours"):
        await anext(store.vectors(ENCODER.id, Within(1)))
