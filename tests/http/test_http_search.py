from __future__ import annotations

import numpy as np
import pytest
from http_fakes import CATS, DIMENSION, embedding, unit
from http_world import Client, Opener, World

from state.model import EncoderRecord, Progress, TaskStatus


def ids(answer: dict) -> list[int]:
    return [item["image_id"] for item in answer["items"]]


async def test_a_text_finds_what_it_names_best_first(client: Client) -> None:
    answer = await client.post("/search", {"project_id": CATS, "prompt": "red"})
    assert ids(answer) == [101, 102, 103, 104]
    assert answer["scoring"] == "cosine"
    assert answer["collection_id"] is None
    assert answer["items"][0] == {
        "image_id": 101,
        "score": pytest.approx(0.3147, abs=1e-3),
        "dataset_id": 10,
        "name": "101.jpg",
        "path": "cats/101.jpg",
    }


async def test_texts_with_commas_are_several_and_the_largest_cosine_counts(
    client: Client, world: World
) -> None:
    answer = await client.post("/search", {"project_id": CATS, "prompt": " red, ,blue ,"})
    assert world.encoder.asked == ["red", "blue"]
    assert world.store.queries == 1
    assert set(ids(answer)[:2]) == {101, 104}


async def test_a_list_of_texts_is_taken_as_it_is(client: Client, world: World) -> None:
    await client.post("/search", {"project_id": CATS, "prompt": ["red, green"]})
    assert world.encoder.asked == ["red, green"]


async def test_a_text_is_encoded_once(client: Client, world: World) -> None:
    for _ in range(3):
        await client.post("/search", {"project_id": CATS, "prompt": "red"})
    assert world.encoder.asked == ["red"]


async def test_words_that_did_not_count_are_named(client: Client) -> None:
    answer = await client.post("/search", {"project_id": CATS, "prompt": "red unicorn, blue unicorn"})
    assert answer["ignored_words"] == ["unicorn"]


async def test_a_text_that_means_nothing_is_422_and_names_the_field(client: Client) -> None:
    answer = await client.post("/search", {"project_id": CATS, "prompt": "red", "negative_prompt": "unicorn"})
    assert client.status == 422
    assert answer["errors"][0]["field"] == "negative_prompt"
    assert "known are red" in answer["message"]


async def test_an_image_finds_its_like_without_being_encoded_and_is_left_out(
    client: Client, world: World
) -> None:
    answer = await client.post("/search", {"project_id": CATS, "by_image_ids": [101]})
    assert ids(answer) == [102, 103, 104]
    assert world.encoder.images_encoded == 0
    assert "image_ids" not in answer


async def test_the_query_image_comes_first_when_it_is_wanted(client: Client) -> None:
    answer = await client.post("/search", {"project_id": CATS, "by_image_ids": [101], "include_query": True})
    assert ids(answer)[0] == 101
    assert answer["items"][0]["score"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("body", "setting", "role"),
    [
        ({"image_ids": [101]}, "query", "query"),
        ({"image_ids": [101]}, "scope", "query"),
        ({"image_ids": [102, 103], "by_image_ids": [101]}, "query", "scope"),
        ({"image_ids": [101], "prompt": "red"}, "query", "query"),
        ({"image_ids": [102, 103], "prompt": "red"}, "scope", "scope"),
    ],
)
async def test_image_ids_are_the_query_or_the_scope_and_the_answer_says_which(
    opened: Opener, body: dict, setting: str, role: str
) -> None:
    client = await opened(search_image_ids=setting)
    answer = await client.post("/search", {"project_id": CATS, **body})
    assert answer["image_ids"] == role
    assert set(ids(answer)) == ({102, 103} if role == "scope" else {102, 103, 104})


async def test_restricted_image_ids_are_the_scope_in_either_setting(client: Client) -> None:
    body = {
        "projectId": CATS,
        "prompt": "red",
        "restrictedImageIds": [103, 104],
        "limit": 5,
        "uniqueItems": 5,
    }
    answer = await client.post("/search", body)
    assert ids(answer) == [103, 104]
    assert answer["collectionId"] is None


async def test_camel_case_image_ids_are_the_query(client: Client) -> None:
    answer = await client.post("/search", {"projectId": CATS, "imageIds": [101]})
    assert ids(answer) == [102, 103, 104]
    assert "image_ids" not in answer


async def test_a_dataset_narrows_and_a_scope_beats_it(client: Client) -> None:
    narrowed = await client.post("/search", {"project_id": CATS, "prompt": "red", "dataset_id": 11})
    assert ids(narrowed) == [103, 104]
    body = {"project_id": CATS, "prompt": "red", "dataset_id": 11, "restricted_image_ids": [101]}
    assert ids(await client.post("/search", body)) == [101]


async def test_no_more_than_limit_come_and_none_below_the_threshold(client: Client) -> None:
    body = {"project_id": CATS, "by_image_ids": [101], "limit": 1}
    assert ids(await client.post("/search", body)) == [102]
    body = {"project_id": CATS, "by_image_ids": [101], "threshold": 0.9}
    assert ids(await client.post("/search", body)) == [102]
    body["threshold"] = 0.999
    assert await client.post("/search", body) == {"message": "No similar images found."}


async def test_an_image_of_two_queries_comes_once_with_its_best_score(client: Client) -> None:
    body = {"project_id": CATS, "prompt": "red, green", "limit": 10}
    answer = await client.post("/search", body)
    assert sorted(ids(answer)) == [101, 102, 103, 104]
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


async def test_neither_the_text_nor_the_image_alone_decides(client: Client, world: World) -> None:
    """Many images are as the text says, many are like the image, one is both: the one comes first."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, (60, 8))
    points = [embedding(1000, unit(0.7, 0.7, 0, 0, 0, 0, 0, 0.3))]
    for i, (a, b, *_) in enumerate(noise):
        weights = (1 + a, 0.0 + b) if i < 20 else (0.0 + a, 1 + b) if i < 40 else (a, b, 1.0)
        points.append(embedding(1001 + i, unit(*weights)))
    points.append(embedding(999, unit(0, 1)))
    await world.store.upsert("fake_8_1", points)
    body = {"project_id": CATS, "prompt": "red", "by_image_ids": [999], "limit": 1}
    before = world.store.queries
    answer = await client.post("/search", body)
    assert answer["scoring"] == "calibrated"
    assert ids(answer) == [1000]
    assert 0.5 < answer["items"][0]["score"] <= 1
    assert world.store.queries == before + 1


async def test_what_is_not_wanted_sinks(client: Client) -> None:
    body = {"project_id": CATS, "prompt": "red, blue", "negative_image_ids": [102]}
    answer = await client.post("/search", body)
    assert ids(answer)[0] == 104
    assert 102 not in ids(answer)
    assert answer["scoring"] == "mean_cosine"


async def test_the_sample_of_a_project_is_read_once_for_many_searches(client: Client, world: World) -> None:
    for _ in range(3):
        await client.post("/search", {"project_id": CATS, "prompt": "red", "scoring": "calibrated"})
    assert world.matrices.asked == 1


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": []}, {"image_ids": []}, {"prompt": " , "}])
async def test_without_a_query_there_is_nothing_to_search(client: Client, body: dict) -> None:
    answer = await client.post("/search", {"project_id": CATS, **body})
    assert (client.status, answer) == (200, {"message": "No queries provided."})


@pytest.mark.parametrize("image_id", [999_999, 201, 501])
async def test_an_image_of_no_project_or_another_is_not_found(client: Client, image_id: int) -> None:
    answer = await client.post("/search", {"project_id": CATS, "by_image_ids": [image_id]})
    assert answer == {"message": "No images found for the provided IDs."}


async def test_an_empty_project_has_nothing_similar(client: Client) -> None:
    answer = await client.post("/search", {"project_id": "empty", "prompt": "red"})
    assert answer == {"message": "No similar images found."}


@pytest.mark.parametrize("path", ["/search", "/diverse", "/projections", "/clusters"])
async def test_a_project_without_embeddings_is_404_and_says_what_to_do(
    client: Client, world: World, path: str
) -> None:
    await world.store.set_pointer(CATS, None)
    answer = await client.post(path, {"project_id": CATS, "prompt": "red", "sample_size": 1})
    assert client.status == 404
    assert answer["message"].startswith("[Project: 1] Embeddings collection does not exist")
    assert answer["message"].endswith("Create embeddings first.")


@pytest.mark.parametrize("path", ["/search", "/diverse", "/projections", "/clusters", "/embeddings"])
async def test_a_disabled_project_is_left_alone(client: Client, world: World, path: str) -> None:
    answer = await client.post(path, {"project_id": "disabled", "prompt": "red", "sample_size": 1})
    assert (client.status, answer) == (200, {"message": "[Project: 4] AI Search is disabled. Skipping."})
    assert world.syncs.started == []


async def test_with_another_model_at_work_texts_wait_and_images_are_searched(
    client: Client, world: World
) -> None:
    world.encoder.id = world.syncs.working = "fake_8_2"
    await world.store.add_encoder(EncoderRecord("fake_8_2", "fake", DIMENSION, unit(0, 1)[np.newaxis]))
    await world.store.upsert("fake_8_2", [embedding(101, unit(1)), embedding(102, unit(0, 1))])
    world.syncs.board[CATS] = Progress(CATS, 10, 7, TaskStatus.RUNNING, 180.0)
    answer = await client.post("/search", {"project_id": CATS, "prompt": "red"})
    assert client.status == 503
    assert client.headers["Retry-After"] == "180"
    assert "2 of 4 images are ready" in answer["message"]
    assert "about 3 minutes" in answer["message"]
    assert await client.post("/search", {"project_id": CATS, "by_image_ids": [101]})
    assert client.status == 200
    assert set(world.syncs.favoured) == {CATS}


async def test_an_operator_sees_the_encoders_and_goes_back_to_one(client: Client, world: World) -> None:
    found = await client.get("/encoders")
    assert found["encoders"][0]["id"] == "fake_8_1"
    assert found["addresses"][0]["name"] == "grpc://clip:51000"
    answer = await client.post("/encoders/use", {"encoder_id": "fake_8_1"})
    assert (answer["count"], world.syncs.pinned) == (2, "fake_8_1")
    answer = await client.post("/encoders/use", {"encoder_id": "unknown"})
    assert client.status == 422
    assert "no such encoder" in answer["message"]
    await client.post("/encoders/use", {})
    assert world.syncs.pinned is None


async def test_too_many_images_to_search_by_name_the_setting(opened: Opener) -> None:
    client = await opened()
    answer = await client.post(
        "/search", {"project_id": CATS, "image_ids": list(range(300)), "prompt": "red"}
    )
    assert client.status == 400
    assert answer["errors"][0]["field"] == "image_ids"
    assert "SEARCH_IMAGE_IDS" in answer["message"]


async def test_queries_that_cancel_out_are_422(client: Client) -> None:
    body = {"project_id": CATS, "by_image_ids": [101], "negative_image_ids": [101]}
    await client.post("/search", body)
    assert client.status == 422
