from __future__ import annotations

import pytest
from http_fakes import CATS, DOGS, status_of
from http_world import Client, World

from state.errors import Unavailable
from state.model import FULL, Progress, Project, Quarantined, Scope, TaskStatus


def run(world: World, status: TaskStatus = TaskStatus.RUNNING) -> None:
    world.syncs.board[CATS] = Progress(CATS, 9, 3, status)


@pytest.mark.parametrize("status", list(TaskStatus))
async def test_the_status_of_a_task_is_told(client: Client, world: World, status: TaskStatus) -> None:
    if status is not TaskStatus.NO_TASK:
        run(world, status)
    answer = await client.post("/task_status", {"project_id": CATS})
    assert answer["status"] == status
    assert answer["is_running"] is (status is TaskStatus.RUNNING)


@pytest.mark.parametrize(
    ("status", "shown"),
    [("running", "processing"), ("completed", "completed"), ("failed", "error"), ("cancelled", "error")],
)
async def test_progress_of_one_project(client: Client, world: World, status: str, shown: str) -> None:
    run(world, TaskStatus(status))
    answer = await client.post("/processing_progress", {"project_id": CATS})
    assert answer == {"progress": {"total": 9, "current": 3, "status": shown, "project_id": CATS}}


async def test_no_progress_of_one_project(client: Client) -> None:
    answer = await client.post("/processing_progress", {"project_id": CATS})
    assert answer == {"message": "No processing progress found for project 1", "progress": None}


async def test_progress_of_all_projects(client: Client, world: World) -> None:
    message = "Project ID is not specified. Returning progress for all projects."
    assert await client.post("/processing_progress", {}) == {"message": message, "progress": {}}
    run(world)
    answer = await client.post("/processing_progress")
    assert answer["progress"].keys() == {"1"}


@pytest.mark.parametrize("path", ["/embeddings_up_to_date", "/projections_up_to_date"])
@pytest.mark.parametrize(("project", "answer"), [(CATS, True), (DOGS, False), (3, None), (99, None)])
async def test_up_to_date_is_a_bare_boolean_and_null_for_an_unknown_project(
    client: Client, path: str, project: int, answer: bool | None
) -> None:
    assert await client.post(path, {"project_id": project}) is answer
    assert client.status == 200


async def test_a_background_task_is_named_after_its_project(client: Client, world: World) -> None:
    answer = await client.post("/check_background_task_status", {"task_id": "1"})
    assert answer == {"status": "not_found", "message": "[Project: 1] Processing task not found"}
    run(world)
    answer = await client.post("/check_background_task_status", {"task_id": 1})
    assert answer == {"status": "in_progress", "message": "[Project: 1] Task is still running"}
    run(world, TaskStatus.FAILED)
    assert (await client.post("/check_background_task_status", {"task_id": 1}))["status"] == "error"
    assert (await client.post("/check_background_task_status", {"task_id": 99}))["status"] == "not_found"


async def test_a_background_task_without_its_id_is_400(client: Client) -> None:
    answer = await client.post("/check_background_task_status", {})
    assert client.status == 400
    assert answer["errors"][0]["field"] == "task_id"


async def test_stopping_an_update(client: Client, world: World) -> None:
    answer = await client.post("/stop-embeddings-update/1")
    assert (client.status, answer["success"], answer["is_current_task"], answer["details"]) == (
        200, True, False, {},
    )  # fmt: skip
    run(world)
    answer = await client.post("/stop-embeddings-update/cats")
    assert (answer["project_id"], answer["success"], answer["is_current_task"]) == (1, True, True)
    world.syncs.failure = Unavailable("generator", "gone")
    response = await client.http.post("/stop-embeddings-update/1")
    assert response.status == 400
    assert (await response.json())["success"] is False


async def test_status_says_where_projects_stand_the_stalest_first(client: Client, world: World) -> None:
    world.syncs.statuses = [
        status_of(Project(DOGS, "2024"), oldest_stale_seconds=0.0),
        status_of(Project(CATS, "cats")),
    ]
    answer = await client.get("/status")
    assert [state["project_id"] for state in answer["projects"]] == [CATS, DOGS]
    [cats] = (await client.get("/status?project_id=cats"))["projects"]
    assert cats["waiting_for"].startswith("clip: away; ")
    assert cats["encoder"] == {
        "id": "fake_8_1",
        "at_work": "fake_8_2",
        "current": 4,
        "total": 5,
        "remaining_seconds": None,
    }
    await client.get("/status?project_id=999")
    assert client.status == 404


async def test_held_removals_are_told_with_the_way_to_confirm_or_cancel_them(
    client: Client, world: World
) -> None:
    world.syncs.statuses = [status_of(Project(CATS, "cats"), waiting_for=None)]
    [cats] = (await client.get("/status"))["projects"]
    assert cats["waiting_for"].endswith('POST /removals/confirm or /removals/cancel with {"project_id": 1}')
    world.syncs.statuses = [status_of(Project(CATS, "cats"), waiting_for=None, held_removals=0)]
    [cats] = (await client.get("/status"))["projects"]
    assert cats["waiting_for"] is None


async def test_an_empty_list_of_images_settles_no_removal(client: Client, world: World) -> None:
    world.syncs.held = {CATS: {1, 2, 3}}
    answer = await client.post("/removals/confirm", {"project_id": CATS, "image_ids": []})
    assert answer["count"] == 0
    assert world.syncs.held == {CATS: {1, 2, 3}}


async def test_a_project_gone_from_the_source_can_still_be_asked_about_by_number(
    client: Client, world: World
) -> None:
    world.syncs.statuses = [status_of(Project(88, "gone"), gone=True)]
    world.syncs.held = {88: {1, 2, 3}}
    [gone] = (await client.get("/status?project_id=88"))["projects"]
    assert gone["gone"] is True
    assert (await client.post("/removals/confirm", {"project_id": 88}))["count"] == 3


async def test_events_mark_projects_and_images(client: Client, world: World) -> None:
    answer = await client.post("/events", {"project_ids": ["2024"], "image_ids": [101, 102, 999]})
    assert (client.status, answer["project_ids"]) == (202, [CATS, DOGS])
    assert world.syncs.marked == {DOGS: FULL, CATS: Scope(ids=frozenset({101, 102}))}


async def test_an_event_about_an_image_gone_from_the_source_finds_it_in_the_store(
    client: Client, world: World
) -> None:
    world.source.images[CATS] = set()
    await client.post("/events", {"image_ids": [101]})
    assert world.syncs.marked == {CATS: Scope(ids=frozenset({101}))}


async def test_events_about_very_many_images_are_a_full_look(client: Client, world: World) -> None:
    world.source.images[CATS] = set(range(10_001))
    await client.post("/events", {"image_ids": list(range(10_001))})
    assert world.syncs.marked[CATS] == FULL


async def test_quarantine_lists_counts_and_retries(client: Client, world: World) -> None:
    world.syncs.aside = [
        Quarantined(104, CATS, "104.jpg", "cats/104.jpg", "h", "truncated", 5.0),
        Quarantined(201, DOGS, "201.jpg", "dogs/201.jpg", "h", "a web page", 6.0),
    ]
    world.syncs.statuses = [status_of(Project(CATS, "cats"), quarantined=1)]
    answer = await client.get("/quarantine?project_id=1&limit=10")
    assert answer["total"] == 1
    assert answer["items"][0]["reason"] == "truncated"
    assert (await client.get("/quarantine"))["total"] == 2
    assert (await client.post("/quarantine/retry", {"project_id": 1, "image_ids": [104]}))["count"] == 3
    assert (await client.post("/quarantine/retry"))["count"] == 3
    assert world.syncs.retried == [(CATS, [104]), (None, None)]


async def test_held_removals_are_confirmed_and_cancelled(client: Client, world: World) -> None:
    world.syncs.held = {CATS: {1, 2, 3}}
    answer = await client.post("/removals/cancel", {"project_id": CATS, "image_ids": [1]})
    assert answer == {"message": "[Project: 1] 1 held removals cancelled.", "count": 1}
    answer = await client.post("/removals/confirm", {"project_id": CATS})
    assert answer == {"message": "[Project: 1] 2 held removals confirmed.", "count": 2}


async def test_a_text_of_digits_is_a_name_first_and_a_number_else(client: Client, world: World) -> None:
    await client.post("/embeddings", {"project_id": "2024"})
    await client.post("/embeddings", {"project_id": "1"})
    assert [project for project, _, _ in world.syncs.started] == [DOGS, CATS]
