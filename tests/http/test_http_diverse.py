from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from http_fakes import CATS, embedding, unit
from http_world import Client, Opener, World

from handlers.parts import Limits
from handlers.requests import DiverseRequest


def ids(answer: dict) -> list[int]:
    return [item["image_id"] for item in answer["items"]]


async def fill(world: World, count: int) -> None:
    rows = np.abs(np.random.default_rng(1).normal(size=(count, 8)))
    await world.store.upsert("fake_8_1", [embedding(1000 + i, unit(*row)) for i, row in enumerate(rows)])


@pytest.mark.parametrize("method", ["representative", "coverage", "random", "centroids", "kmeans", "dbscan"])
async def test_every_method_gives_as_many_different_images_as_asked(
    client: Client, world: World, method: str
) -> None:
    await fill(world, 60)
    body = {"project_id": CATS, "sample_size": 5, "method": method, "num_clusters": 3}
    answer = await client.post("/diverse", body)
    assert len(set(ids(answer))) == 5
    assert answer["method"] == method
    assert 0 < answer["coverage"] <= 2
    assert answer["collection_id"] is None
    assert await client.post("/diverse", body) == answer


async def test_items_come_in_the_order_of_choice_so_a_prefix_is_a_selection(
    client: Client, world: World
) -> None:
    await fill(world, 40)
    long, short = [
        ids(await client.post("/diverse", {"project_id": CATS, "sample_size": size, "seed": 7}))
        for size in (8, 3)
    ]
    assert long[:3] == short


async def test_the_seed_decides(client: Client, world: World) -> None:
    await fill(world, 40)
    body = {"project_id": CATS, "sample_size": 5, "method": "random"}
    first, second = [ids(await client.post("/diverse", {**body, "seed": seed})) for seed in (1, 2)]
    assert first != second


@pytest.mark.parametrize(
    ("body", "method", "size"),
    [
        ({"limit": 3}, "representative", 3),
        ({"limit": 3, "method": "kmeans"}, "kmeans", 3),
        ({"sample_size": 3, "limit": 9}, "representative", 3),
        ({"sample_size": 3, "sampling_method": "centroids"}, "centroids", 3),
        ({"sample_size": 3, "sampling_method": "random", "clustering_method": "dbscan"}, "random", 3),
        ({"sample_size": 3, "clustering_method": "kmeans"}, "kmeans", 3),
        ({"uniqueItems": 3, "limit": 100_000, "method": "centroids"}, "centroids", 3),
        (
            {"uniqueItems": 3, "method": "random", "clusteringMethod": "kmeans", "numberOfClusters": 2},
            "random",
            3,
        ),
    ],
)
def test_every_spelling_of_method_and_size_is_understood(body: dict, method: str, size: int) -> None:
    wish = DiverseRequest.model_validate({"project_id": 1, **body}, context=Limits())
    assert (wish.chosen_method, wish.sample_size) == (method, size)


async def test_what_is_selected_already_is_complemented_even_from_outside_the_dataset(
    client: Client,
) -> None:
    body = {"project_id": CATS, "sample_size": 1, "dataset_id": 11, "method": "coverage"}
    near_green = await client.post("/diverse", {**body, "selected_image_ids": [103]})
    assert ids(near_green) == [104]
    near_red = await client.post("/diverse", {**body, "selected_image_ids": [101]})
    assert ids(near_red) == [104]
    everything = await client.post("/diverse", {**body, "selected_image_ids": [103, 104, 201]})
    assert everything == {"message": "No diverse images found."}


async def test_a_scope_narrows_the_choice_and_beats_the_dataset(client: Client) -> None:
    body = {"project_id": CATS, "sample_size": 9, "dataset_id": 11, "image_ids": [101, 102]}
    assert set(ids(await client.post("/diverse", body))) == {101, 102}


async def test_an_empty_project_has_no_vectors(client: Client) -> None:
    for path in ("/diverse", "/clusters", "/projections"):
        answer = await client.post(path, {"project_id": "empty", "sample_size": 1})
        assert answer == {"message": "No vectors found."}


async def test_selections_run_one_by_one_and_too_many_are_turned_away(opened: Opener, world: World) -> None:
    await fill(world, 300)
    client = await opened(limits=Limits(waiting_selections=1))
    body = {"project_id": CATS, "sample_size": 100, "method": "coverage"}
    statuses = await asyncio.gather(*(_status(client, body) for _ in range(6)))
    assert set(statuses) == {200, 429}


async def _status(client: Client, body: dict) -> int:
    async with client.http.post("/diverse", json=body) as response:
        if response.status == 429:
            assert response.headers["Retry-After"] == "1"
        return response.status


async def test_clusters_hold_every_image_and_their_middle_is_one_of_them(client: Client) -> None:
    answer = await client.post("/clusters", {"project_id": CATS, "num_clusters": 2})
    label = {item["image_id"]: item["cluster"] for item in answer["items"]}
    assert label.keys() == {101, 102, 103, 104}
    assert label[101] == label[102]
    for cluster in answer["clusters"]:
        assert label[cluster["representative_image_id"]] == cluster["cluster"]
        assert cluster["size"] == list(label.values()).count(cluster["cluster"])


async def test_a_map_has_a_point_for_each_image_in_the_same_order(client: Client) -> None:
    images, points = await client.post("/projections", {"project_id": CATS})
    place = {image["id"]: np.array(point) for image, point in zip(images, points, strict=True)}
    assert place.keys() == {101, 102, 103, 104}
    assert np.linalg.norm(place[101] - place[102]) < np.linalg.norm(place[101] - place[104])
    assert images[0]["updated_at"] == "monday"
    assert "X-Sampled" not in client.headers


async def test_a_map_of_too_many_images_is_a_sample_and_says_so(opened: Opener, world: World) -> None:
    await fill(world, 50)
    client = await opened(limits=Limits(projection_points=20))
    images, points = await client.post("/projections", {"project_id": CATS})
    assert len(images) == len(points) == 20
    assert client.headers["X-Sampled"] == "20 of 54"


async def test_a_map_tells_the_address_of_an_image_that_has_one(client: Client, world: World) -> None:
    (one,) = await world.store.embeddings("fake_8_1", [101])
    address = "https://pictures.example/101.jpg"
    await world.store.upsert("fake_8_1", [replace(one, image=replace(one.image, path=address))])
    images, _ = await client.post("/projections", {"project_id": CATS})
    assert {image["id"]: image["full_url"] for image in images}[101] == address
    assert {image["full_url"] for image in images if image["id"] != 101} == {None}
