from __future__ import annotations

from dataclasses import replace

from http_fakes import CATS, embedding, unit
from http_world import Client, World

from handlers.copies import first_of_each, without_copies
from state.model import Embedding, Hit


def copy_of(one: Embedding, image_id: int) -> Embedding:
    return replace(one, image=replace(one.image, id=image_id, name=f"{image_id}.jpg"))


async def test_twenty_copies_of_a_picture_do_not_fill_an_answer(client: Client, world: World) -> None:
    first = embedding(900, unit(1, 0.01))
    await world.store.upsert("fake_8_1", [copy_of(first, image_id) for image_id in range(900, 920)])
    body = {"project_id": CATS, "prompt": "red", "limit": 3}
    crowded = await client.post("/search", body)
    assert {item["image_id"] // 100 for item in crowded["items"]} == {9}
    answer = await client.post("/search", {**body, "unique_content": True})
    ids = [item["image_id"] for item in answer["items"]]
    assert ids[0] in range(900, 920)
    assert ids[1:] == [101, 102]


async def test_copies_are_left_out_across_several_prompts_and_fused_queries_too(
    client: Client, world: World
) -> None:
    first = embedding(900, unit(1, 1))
    await world.store.upsert("fake_8_1", [copy_of(first, image_id) for image_id in range(900, 910)])
    for more in ({"prompt": ["red", "green"]}, {"prompt": "red", "negative_prompt": "blue"}):
        body = {"project_id": CATS, "limit": 4, "unique_content": True, **more}
        ids = [item["image_id"] for item in (await client.post("/search", body))["items"]]
        assert len(ids) == 4
        assert sum(image_id >= 900 for image_id in ids) == 1


async def test_no_more_is_asked_for_than_there_is_or_than_is_allowed() -> None:
    first = embedding(1, unit(1))
    hits = [Hit(copy_of(first, image_id).image, 1.0) for image_id in range(1000)]
    asked: list[int] = []

    async def ask(limit: int) -> list[list[Hit]]:
        asked.append(limit)
        return [hits[:limit]]

    assert await without_copies(ask, 10, 10_000) == [hits[:1]]
    assert asked == [10, 30, 90, 270, 810, 2430]
    asked.clear()
    assert await without_copies(ask, 10, 100) == [hits[:1]]
    assert asked == [10, 30, 90, 100]
    assert first_of_each([]) == []
