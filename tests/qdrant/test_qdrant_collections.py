"""Collections on a shared server: made once, laid out as wished, and never anybody else's."""

from dataclasses import replace

import numpy as np
import pytest
from qdrant_emulator import Fault, QdrantEmulator
from qdrant_opening import Opener
from qdrant_points import DIMENSION, ENCODER, both, embeddings, listed, unit_vectors

from state.errors import Inconsistent, Misconfigured, Rejected
from state.model import Within
from state.stores.qdrant import QdrantStore
from state.stores.qdrant_catalogue import point_id
from state.stores.qdrant_collections import Layout
from state.stores.qdrant_points import SCHEMA, payload_of

CATALOGUE = "embedsync_1_catalogue"
POINTS = f"embedsync_1_{ENCODER.id}"
COSINE = {"vectors": {"size": DIMENSION, "distance": "Cosine"}}


def somebody_elses(emulator: QdrantEmulator, name: str, config: dict, payload: dict) -> None:
    emulator.engine.create(name, config)
    size = config["vectors"]["size"]
    points = [{"id": 1, "vector": [1.0] * size, "payload": payload}]
    emulator.engine.upsert(name, {"points": points, "wait": True})


def points_in(emulator: QdrantEmulator, name: str) -> int:
    return emulator.engine.count(name, {})["count"]


@both
async def test_everything_is_there_when_it_is_opened_again(open_store: Opener) -> None:
    first = await open_store()
    await first.add_encoder(ENCODER)
    await first.upsert(ENCODER.id, embeddings(range(50)))
    await first.set_pointer(1, ENCODER.id)
    await first.pin(ENCODER.id)
    epoch = await first.next_epoch()
    await first.confirm(ENCODER.id, epoch)
    await first.close()

    again = await open_store()
    assert await listed(again) == list(range(50))
    assert await again.pointers() == {1: ENCODER.id}
    assert await again.pinned() == ENCODER.id
    (known,) = await again.encoders()
    assert known.confirmed == epoch
    np.testing.assert_array_equal(known.canaries, ENCODER.canaries)
    assert await again.next_epoch() > epoch


@both
async def test_a_layout_reaches_the_server(open_store: Opener, emulator: QdrantEmulator) -> None:
    layout = Layout(
        shards=2,
        replicas=3,
        write_consistency=2,
        vectors_on_disk=True,
        payload_on_disk=False,
        hnsw_m=24,
        hnsw_ef_construct=200,
        quantization="scalar",
    )
    await (await open_store(layout=layout)).add_encoder(ENCODER)
    config = emulator.engine.collections[POINTS].config
    assert config["vectors"] == {"size": DIMENSION, "distance": "Cosine", "on_disk": True}
    assert (config["shard_number"], config["replication_factor"]) == (2, 3)
    assert (config["write_consistency_factor"], config["on_disk_payload"]) == (2, False)
    assert config["hnsw_config"] == {"m": 24, "ef_construct": 200}
    assert config["quantization_config"]["scalar"]["type"] == "int8"
    small = emulator.engine.collections[CATALOGUE].config
    assert (small["shard_number"], small["replication_factor"]) == (1, 3)
    assert small.get("quantization_config") is None


async def test_payloads_are_indexed_by_tenant_and_by_what_is_asked(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    await store.add_encoder(ENCODER)
    indexes = emulator.engine.collections[POINTS].indexes
    assert {name: index["data_type"] for name, index in indexes.items()} == {
        "project": "keyword",
        "project_id": "integer",
        "dataset_id": "integer",
        "content": "keyword",
        "epoch": "integer",
    }
    assert indexes["project"]["params"]["is_tenant"]
    await store.upsert(ENCODER.id, embeddings([1]))
    await store.count(ENCODER.id, Within(1))
    assert emulator.bodies["count"]["filter"]["must"] == [{"key": "project", "match": {"value": "1"}}]


async def test_an_index_that_lacks_is_made_at_the_next_start(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    first = await open_store()
    await first.add_encoder(ENCODER)
    await first.close()
    del emulator.engine.collections[POINTS].indexes["epoch"]
    await open_store()
    assert "epoch" in emulator.engine.collections[POINTS].indexes


async def test_a_search_in_a_smaller_copy_scores_the_best_anew(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    store = await open_store(layout=Layout(quantization="scalar"))
    await store.add_encoder(ENCODER)
    await store.query(ENCODER.id, unit_vectors(1), Within(1), 5)
    params = emulator.bodies["query_one"]["params"]
    assert params["quantization"] == {"rescore": True, "oversampling": 2.0}


@both
async def test_the_search_graph_is_built_once_a_project_is_answered_for(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    first = await open_store()
    await first.add_encoder(ENCODER)
    config = emulator.engine.collections[POINTS].config
    assert config["optimizers_config"]["indexing_threshold"] == 0
    await first.close()
    again = await open_store()
    await again.set_pointer(1, ENCODER.id)
    await again.set_pointer(2, ENCODER.id)
    assert config["optimizers_config"]["indexing_threshold"] > 0
    assert emulator.calls["update_collection"] == 1


async def test_two_sources_on_one_server_never_meet(open_store: Opener) -> None:
    mine, theirs = await open_store(), await open_store(prefix="embedsync_2")
    for store in (mine, theirs):
        await store.add_encoder(ENCODER)
    await mine.upsert(ENCODER.id, embeddings([1, 2]))
    await theirs.upsert(ENCODER.id, embeddings([3]))
    await mine.set_pointer(1, ENCODER.id)
    await theirs.forget_encoder(ENCODER.id)
    assert await listed(mine) == [1, 2]
    assert await theirs.pointers() == {}


@pytest.mark.parametrize(
    ("config", "payload"),
    [
        (COSINE, {"title": "a book"}),
        (COSINE, {"v": 99, "content": "of a newer version"}),
        ({"vectors": {"size": DIMENSION, "distance": "Dot"}}, {"v": 1, "content": "x"}),
        ({"vectors": {"size": 5, "distance": "Cosine"}}, {"v": 1, "content": "x"}),
    ],
    ids=["payload", "version", "distance", "dimension"],
)
async def test_a_collection_of_somebody_else_is_left_alone(
    store: QdrantStore, emulator: QdrantEmulator, config: dict, payload: dict
) -> None:
    somebody_elses(emulator, POINTS, config, payload)
    with pytest.raises(Misconfigured, match=f"QDRANT_PREFIX.*{POINTS}"):
        await store.add_encoder(ENCODER)
    assert points_in(emulator, POINTS) == 1
    assert emulator.engine.collections[POINTS].indexes == {}


@pytest.mark.parametrize("config", [COSINE, {"vectors": {"size": 1, "distance": "Dot"}}])
async def test_a_catalogue_of_somebody_else_is_left_alone(
    open_store: Opener, emulator: QdrantEmulator, config: dict
) -> None:
    somebody_elses(emulator, CATALOGUE, config, {"title": "a book"})
    with pytest.raises(Misconfigured, match="QDRANT_PREFIX"):
        await open_store()
    assert points_in(emulator, CATALOGUE) == 1


async def test_the_catalogue_of_a_newer_version_is_left_alone(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    first = await open_store()
    await first._catalogue.put("schema", v=99)
    await first.close()
    written = emulator.calls["upsert"]
    with pytest.raises(Misconfigured, match=r"schema 99.*upgrade"):
        await open_store()
    assert emulator.calls["upsert"] == written


async def test_two_that_start_on_an_empty_server_at_once_both_take_the_catalogue_for_ours(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    marker = {
        "id": point_id("schema"),
        "vector": [1.0],
        "payload": {"kind": "schema", "key": "", "v": SCHEMA},
    }

    def marked_meanwhile() -> None:
        emulator.engine.upsert(CATALOGUE, {"points": [marker], "wait": True})

    emulator.faults.add(Fault("scroll", "call", action=marked_meanwhile))
    assert await (await open_store()).encoders() == []


async def test_a_catalogue_that_was_made_and_never_marked_is_taken_on(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    emulator.engine.create(CATALOGUE, {"vectors": {"size": 1, "distance": "Dot"}})
    first = await open_store()
    await first.add_encoder(ENCODER)
    await first.close()
    assert [one.id for one in await (await open_store()).encoders()] == [ENCODER.id]


async def test_what_a_forgotten_encoder_left_is_not_trusted(open_store: Opener) -> None:
    first = await open_store()
    await first.add_encoder(ENCODER)
    await first.upsert(ENCODER.id, embeddings(range(3)))
    await first._catalogue.forget(ENCODER.id)
    await first.add_encoder(replace(ENCODER, canaries=-ENCODER.canaries))
    assert await first.count(ENCODER.id, Within(1)) == 0


async def test_a_lost_collection_is_made_anew_and_filled_again(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    first = await open_store()
    await first.add_encoder(ENCODER)
    emulator.engine.delete_collection(POINTS, {})
    with pytest.raises(Inconsistent, match="doesn't exist"):
        await first.upsert(ENCODER.id, embeddings([1]))
    await first.close()
    again = await open_store()
    await again.upsert(ENCODER.id, embeddings([1]))
    assert await listed(again) == [1]


@both
async def test_two_that_make_a_collection_at_once_both_have_it(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    def made_meanwhile() -> None:
        emulator.engine.create(POINTS, {**COSINE, "optimizers_config": {"indexing_threshold": 0}})

    store = await open_store()
    emulator.faults.add(Fault("create", "call", action=made_meanwhile))
    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings([1]))
    assert await listed(store) == [1]


async def test_an_image_that_moves_while_its_project_is_removed_stays(
    store: QdrantStore, emulator: QdrantEmulator
) -> None:
    def move() -> None:
        (moved,) = embeddings([2], project_id=7)
        point = {"id": 2, "vector": moved.vector.tolist(), "payload": payload_of(moved.image)}
        emulator.engine.upsert(POINTS, {"points": [point], "wait": True})

    await store.add_encoder(ENCODER)
    await store.upsert(ENCODER.id, embeddings([1, 2, 3]))
    emulator.faults.add(Fault("delete", "call", action=move))
    await store.remove_project(ENCODER.id, 1)
    assert await store.projects(ENCODER.id) == {7: 1}


async def test_an_encoder_that_is_no_name_is_rejected(store: QdrantStore) -> None:
    with pytest.raises(Rejected, match="name"):
        await store.add_encoder(replace(ENCODER, id="../x"))


@pytest.mark.parametrize(
    "url", ["", "ftp://qdrant", "http://", "http://emulator:port", "http://me:hunter2@emulator:6333"]
)
async def test_an_address_that_is_none_is_named_and_not_repeated(url: str) -> None:
    with pytest.raises(Misconfigured, match="QDRANT_HOST") as caught:
        await QdrantStore.open(url, "embedsync_1", name="a", instance="a", clock=lambda: 0.0)
    assert "hunter2" not in str(caught.value)


@both
@pytest.mark.parametrize("key", ["hunter2\nhunter3", "hunter2é", "hunter2\x7f"])
async def test_a_key_that_no_header_can_carry_is_named_and_not_repeated(open_store: Opener, key: str) -> None:
    with pytest.raises(Misconfigured, match="QDRANT_API_KEY") as caught:
        await open_store(api_key=key)
    assert "hunter2" not in str(caught.value)


@both
async def test_a_server_too_old_is_told_at_the_start(open_store: Opener, emulator: QdrantEmulator) -> None:
    emulator.engine.version_said = "1.9.7"
    with pytest.raises(Misconfigured, match=r"QDRANT_HOST.*Qdrant 1\.9\.7.*1\.12 or later"):
        await open_store()


async def test_a_server_that_does_not_say_how_old_it_is_is_used(
    open_store: Opener, emulator: QdrantEmulator
) -> None:
    emulator.engine.version_said = "development"
    await (await open_store()).add_encoder(ENCODER)
