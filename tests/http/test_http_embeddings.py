from __future__ import annotations

import pytest
from http_fakes import CATS, DOGS, unit
from http_world import Client, Opener, World

from handlers.parts import Limits
from state.model import Progress, Start, TaskStatus


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Start.STARTED, "Embeddings creation started."),
        (Start.RUNNING, "Embeddings creation is already in progress. Skipping."),
        (Start.NOTHING, "Nothing to update. Skipping."),
    ],
)
async def test_asking_for_embeddings_says_what_became_of_it(
    client: Client, world: World, outcome: Start, words: str
) -> None:
    world.syncs.outcome = outcome
    answer = await client.post("/embeddings", {"project_id": CATS, "team_id": 9})
    assert answer == {"message": f"[Project: {CATS}] {words}"}
    assert world.syncs.started == [(CATS, None, False)]


async def test_images_and_force_are_passed_on(client: Client, world: World) -> None:
    await client.post("/embeddings", {"project_id": CATS, "image_ids": [101, 102], "force": True})
    assert world.syncs.started == [(CATS, [101, 102], True)]


async def test_from_images_alone_their_projects_are_found(client: Client, world: World) -> None:
    answer = await client.post("/embeddings", {"image_ids": [101, 201, 999]})
    assert sorted(world.syncs.started) == [(CATS, {101}, False), (DOGS, {201}, False)]
    assert "[Project: 1]" in answer["message"]
    assert "[Project: 2]" in answer["message"]


async def test_images_of_no_project_are_404(client: Client) -> None:
    await client.post("/embeddings", {"image_ids": [999]})
    assert client.status == 404


async def test_without_project_and_images_the_field_is_named(client: Client) -> None:
    answer = await client.post("/embeddings", {"force": True})
    assert client.status == 400
    assert answer["errors"] == [{"field": "project_id", "problem": "is needed, or image_ids"}]


async def test_a_dry_run_returns_the_plan_and_starts_nothing(client: Client, world: World) -> None:
    answer = await client.post("/embeddings", {"project_id": CATS, "dry_run": True})
    assert answer == {
        "plans": [
            {
                "project_id": CATS,
                "counts": {"keep": 2, "encode": 1},
                "changes": {"encode": [{"image_id": 104, "reason": "its bytes changed"}]},
                "quarantined": 0,
                "held": 1,
            }
        ]
    }
    assert world.syncs.started == []


async def test_vectors_are_returned_when_the_sync_has_ended(client: Client) -> None:
    body = {"project_id": CATS, "image_ids": [104, 101, 201], "return_vectors": True}
    answer = await client.post("/embeddings", body)
    assert answer["image_ids"] == [101, 104]
    assert answer["vectors"][0] == pytest.approx(unit(1, 0.1).tolist())


async def test_all_vectors_of_a_small_project_are_returned(client: Client) -> None:
    answer = await client.post("/embeddings", {"project_id": CATS, "return_vectors": True})
    assert answer["image_ids"] == [101, 102, 103, 104]


async def test_more_vectors_than_may_be_returned_are_refused_before_anything_starts(
    opened: Opener, world: World
) -> None:
    client = await opened(limits=Limits(returned_vectors=3))
    for more in ({}, {"image_ids": [1, 2, 3, 4]}):
        answer = await client.post("/embeddings", {"project_id": CATS, "return_vectors": True, **more})
        assert client.status == 400
        assert answer["errors"][0]["field"] == "return_vectors"
    assert world.syncs.started == []


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED])
async def test_a_sync_that_did_not_come_to_its_end_returns_no_vectors(
    client: Client, world: World, status: TaskStatus
) -> None:
    world.syncs.ends = status
    answer = await client.post("/embeddings", {"project_id": CATS, "return_vectors": True})
    assert client.status == 503
    assert status in answer["message"]


async def test_waiting_for_vectors_ends_with_the_time_a_request_has(opened: Opener, world: World) -> None:
    world.syncs.hang = True
    client = await opened(limits=Limits(request_seconds=0.05))
    answer = await client.post("/embeddings", {"project_id": CATS, "return_vectors": True})
    assert client.status == 503
    assert "0.05 s" in answer["message"]


async def test_a_running_sync_is_cancelled_and_without_one_that_is_said(client: Client, world: World) -> None:
    answer = await client.post("/cancel_embeddings", {"project_id": CATS})
    assert answer == {"message": "[Project: 1] No running embeddings task found."}
    world.syncs.board[CATS] = Progress(CATS, 9, 3, TaskStatus.RUNNING)
    answer = await client.post("/cancel_embeddings", {"project_id": CATS})
    assert answer == {"message": "[Project: 1] Embeddings task has been cancelled."}
