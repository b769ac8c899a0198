"""Which vectors of an earlier service become ours, and at what cost."""

from __future__ import annotations

import numpy as np
import pytest
from adoption_world import ENCODER_ID, PROJECT, ROUTE, Model, World

from state.changes import compare
from state.errors import Rejected, Unavailable
from state.journal import ForcedImages
from state.model import Embedding, EncoderRecord, Project, StoredImage

IDS = range(100, 400)
DIMENSION = 32


@pytest.fixture
def old(world: World) -> World:
    """A project whose 300 images all have an old vector."""
    world.source.add(IDS)
    world.leave(IDS)
    return world


@pytest.mark.parametrize("by", ["rest", "grpc"])
async def test_old_vectors_become_ours_at_the_cost_of_a_sample(old: World, by: str) -> None:
    report = await old.adopt()
    assert (report.points, report.adopted, report.present, report.left) == (300, 300, 0, {})
    assert (report.compared, report.refused) == (20, None)
    assert old.model.encoded == 20
    assert report.lowest is not None
    assert report.lowest >= 0.999
    stored = await old.stored()
    assert stored.keys() == set(IDS)
    for image_id, vector in zip(IDS, old.model.of(IDS), strict=True):
        np.testing.assert_allclose(stored[image_id].vector, vector, atol=1e-6)


async def test_what_is_adopted_is_fresh_for_the_sync(old: World) -> None:
    await old.adopt()
    images = [image async for page in old.source.images(PROJECT.id, None) for image in page]
    proofs = [one.image for one in (await old.stored()).values()]
    step = compare(images, proofs, ForcedImages(), old.source.fallback_routes)
    assert (step.fresh, step.changes) == (300, [])
    assert {proof.route for proof in proofs} == {ROUTE}
    assert {proof.epoch for proof in proofs} == {old.epochs.current}


async def test_the_collections_are_only_read(old: World) -> None:
    before = old.qdrant.engine.retrieve(str(PROJECT.id), {"ids": list(IDS), "with_vector": True})
    old.qdrant.calls.clear()
    await old.adopt()
    assert set(old.qdrant.calls) == {"exists", "info", "count", "retrieve"}
    assert old.qdrant.engine.retrieve(str(PROJECT.id), {"ids": list(IDS), "with_vector": True}) == before


async def test_an_image_that_changed_since_is_left_to_be_encoded(old: World) -> None:
    old.source.change(range(100, 110), updated_at="2025-01-01T00:00:00.000Z")
    report = await old.adopt()
    assert (report.adopted, report.left) == (290, {"changed since": 10})
    assert not (await old.stored()).keys() & set(range(100, 110))


async def test_a_vector_made_anew_while_it_is_looked_at_is_left(old: World) -> None:
    marks = old.incumbent.marks

    async def as_before(project_id: int, ids: list[int]) -> dict[int, str]:
        return {**await marks(project_id, ids), 100: old.source.refs[100].updated_at}

    old.incumbent.marks = as_before
    old.source.change([100], updated_at="2025-01-01T00:00:00.000Z")
    report = await old.adopt()
    assert (report.adopted, report.left) == (299, {"changed since": 1})


async def test_where_nothing_is_left_to_compare_nothing_is_adopted(old: World) -> None:
    async def as_listed(project_id: int, ids: list[int]) -> dict[int, str]:
        return {image_id: old.source.refs[image_id].updated_at for image_id in ids}

    old.incumbent.marks = as_listed
    old.source.change(IDS, updated_at="2025-01-01T00:00:00.000Z")
    report = await old.adopt()
    assert report.refused == "only 0 of 0 pictures could be had and encoded to compare"


async def test_images_without_a_hash_or_without_an_old_vector_are_left_to_be_encoded(old: World) -> None:
    old.source.change(range(100, 103), content=None)
    old.source.add(range(400, 405))
    report = await old.adopt()
    assert (report.adopted, report.left) == (297, {"without a hash": 3, "not in it": 5})


async def test_an_image_that_is_gone_is_not_adopted(old: World) -> None:
    del old.source.refs[150]
    report = await old.adopt()
    assert (report.points, report.adopted) == (300, 299)
    assert 150 not in await old.stored()


async def test_a_second_time_costs_nothing_and_changes_nothing(old: World) -> None:
    await old.adopt()
    before = await old.stored()
    old.store.most = 0
    again = await old.adopt()
    assert (again.adopted, again.present, again.refused) == (0, 300, None)
    assert old.model.encoded == 20
    assert (await old.stored()).keys() == before.keys()


async def test_what_is_here_already_stays(old: World) -> None:
    own = StoredImage(200, PROJECT.id, 1, "200.jpg", "own bytes", epoch=1)
    await old.store.upsert(ENCODER_ID, [Embedding(own, np.eye(1, DIMENSION, dtype=np.float32)[0])])
    report = await old.adopt()
    assert (report.adopted, report.present) == (299, 1)
    assert (await old.stored())[200].image == own


async def test_one_that_was_interrupted_goes_on_where_it_was(old: World) -> None:
    old.source.page_size = 50
    old.store.most = 3
    with pytest.raises(Unavailable):
        await old.adopt()
    assert len(await old.stored()) == 150
    old.store.most = None
    report = await old.adopt()
    assert (report.adopted, report.present) == (150, 150)
    assert old.model.encoded == 40


async def test_a_dry_run_compares_and_writes_nothing(old: World) -> None:
    old.source.change([100], updated_at="2025-01-01T00:00:00.000Z")
    report = await old.adopt(dry_run=True)
    assert (report.adopted, report.compared, report.left) == (299, 20, {"changed since": 1})
    assert await old.stored() == {}
    assert await old.store.pointers() == {}


async def test_a_project_without_a_collection_is_none_to_report(world: World) -> None:
    world.source.add(IDS)
    assert await world.adoption().adopt(PROJECT) is None


async def test_the_encoder_answers_for_a_project_that_is_answered_for_by_none(old: World) -> None:
    await old.adopt()
    assert await old.store.pointers() == {PROJECT.id: ENCODER_ID}


async def test_whoever_answers_for_a_project_goes_on_answering(old: World) -> None:
    await old.store.add_encoder(EncoderRecord("palette-8-1", "palette", 8, np.eye(3, 8, dtype=np.float32)))
    await old.store.set_pointer(PROJECT.id, "palette-8-1")
    assert (await old.adopt()).adopted == 300
    assert await old.store.pointers() == {PROJECT.id: "palette-8-1"}


async def test_another_model_s_collection_is_refused_whole(world: World) -> None:
    world.source.add(IDS)
    world.leave(IDS, Model(seed=1).of(IDS))
    report = await world.adopt()
    assert "20 of a sample of 20 vectors are not those that clip-1 makes" in (report.refused or "")
    assert (report.adopted, await world.stored(), await world.store.pointers()) == (0, {}, {})


@pytest.mark.parametrize("seed", range(5))
async def test_a_collection_of_which_half_is_damaged_is_refused(world: World, seed: int) -> None:
    world.source.add(IDS)
    vectors = world.model.of(IDS)
    vectors[::2] = np.roll(vectors[::2], 1, axis=0)
    world.leave(IDS, vectors)
    report = await world.adopt(seed=seed)
    assert "or they are damaged" in (report.refused or "")
    assert await world.stored() == {}


async def test_one_vector_of_the_sample_that_differs_refuses_the_collection(world: World) -> None:
    few = IDS[:15]
    world.source.add(few)
    vectors = world.model.of(few)
    vectors[4] += 0.1 * np.abs(vectors[4]).max()
    world.leave(few, vectors)
    report = await world.adopt()
    assert "1 of a sample of 15" in (report.refused or "")


async def test_another_dimension_is_refused_without_encoding(world: World) -> None:
    world.source.add(IDS)
    world.leave(IDS, Model(dimension=48).of(IDS))
    report = await world.adopt()
    assert report.refused == "its vectors have 48 dimensions, those of clip-1 32"
    assert world.model.encoded == 0


async def test_a_collection_of_another_kind_is_refused(world: World) -> None:
    world.source.add(IDS)
    world.qdrant.engine.create(str(PROJECT.id), {"vectors": {"size": DIMENSION, "distance": "Euclid"}})
    report = await world.adopt()
    assert "does not hold one unnamed cosine vector" in (report.refused or "")


async def test_a_vector_that_is_none_is_left_out(old: World) -> None:
    # A zero vector stays one, even where vectors are made of unit length.
    damaged = [one for one in IDS if one % 100 == 0]
    old.leave(damaged, np.zeros((len(damaged), DIMENSION), np.float32))
    for seed in range(50):
        report = await old.adopt(dry_run=True, seed=seed)
        if report.refused is None:
            break
    report = await old.adopt(seed=seed)
    assert (report.adopted, report.left) == (297, {"damaged": 3})


async def test_for_a_picture_that_cannot_be_had_another_is_drawn(old: World) -> None:
    old.source.gone = set(IDS[::4])
    old.source.away = set(IDS[1::4])
    report = await old.adopt()
    assert (report.compared, report.adopted) == (20, 300)


async def test_a_picture_by_another_route_is_not_compared(old: World) -> None:
    old.source.routes = dict.fromkeys(IDS[::2], "original")
    report = await old.adopt()
    assert (report.compared, report.adopted, old.model.encoded) == (20, 300, 20)


async def test_where_hardly_a_picture_can_be_had_nothing_is_proved(old: World) -> None:
    old.source.gone = set(IDS[5:])
    report = await old.adopt()
    assert "pictures could be had and encoded to compare" in (report.refused or "")
    assert await old.stored() == {}


async def test_while_no_picture_can_be_had_the_source_is_away(old: World) -> None:
    old.source.away = set(IDS)
    with pytest.raises(Unavailable):
        await old.adopt()


async def test_nothing_is_adopted_before_the_encoder_is_recognised(old: World) -> None:
    old.model.id = None
    with pytest.raises(Unavailable, match="not been recognised"):
        await old.adopt()


async def test_what_a_withdrawn_epoch_proved_is_not_written(old: World) -> None:
    async def withdraw() -> None:
        old.epochs.begin(2)
        async with old.epochs.withdrawing():
            pass

    encode = old.model.encode_images

    async def encode_and_withdraw(pictures: list[object]) -> object:
        vectors = await encode(pictures)
        await withdraw()
        return vectors

    old.model.encode_images = encode_and_withdraw
    with pytest.raises(Unavailable, match="withdrawn"):
        await old.adopt()
    assert await old.stored() == {}


async def test_what_was_adopted_goes_with_the_epoch_that_nobody_vouches_for(old: World) -> None:
    await old.adopt()
    assert await old.store.withdraw(ENCODER_ID) == 300


async def test_the_server_being_away_is_said_and_nothing_is_refused(old: World) -> None:
    await old.qdrant.away()
    with pytest.raises(Unavailable):
        await old.adopt()


async def test_a_listing_that_contradicts_itself_is_reported(old: World) -> None:
    async def images(project_id: int, scope: object) -> object:
        raise Rejected("gone")
        yield []

    old.source.images = images
    assert (await old.adoption().adopt(Project(PROJECT.id, "seven"))).refused == "gone"
