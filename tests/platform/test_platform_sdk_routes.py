"""Every command an app of the platform can be sent, sent by the real SDK and judged by what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest
import test_platform_sdk
from platform_emulator import Fault, World
from test_platform_sdk import (
    COLOURS,
    NOWHERE,
    PATIENCE,
    Person,
    Served,
    amid_a_sync,
    anna,
    colours,
    of,
    served,
)

from handlers.routes import ROUTES

__all__ = ["anna", "colours", "served"]

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

ELSEWHERE = "http://192.0.2.1/picture.jpg"
"""A link that may not be followed."""

LARGE = 400


@pytest.fixture
def large(world: World) -> int:
    """A project that keeps a slow sync busy for seconds."""
    return world.project("large", images=LARGE, enabled=False)


async def syncing(anna: Person, served: Served, large: int) -> None:
    """Have the large project synced slowly; return amid that."""
    served.world.set_ai_search(large, True)
    await amid_a_sync(anna, served, large)


def labels_of(answer: Mapping[str, Any]) -> dict[int, int]:
    return {item["image_id"]: item["cluster"] for item in answer["items"]}


async def test_a_map_has_each_image_beside_what_it_is_like(anna: Person, world: World, colours: int) -> None:
    ids = world.image_ids(colours)
    images, points = await anna.send("projections", {"project_id": colours})
    for image, image_id in zip(images, sorted(ids), strict=True):
        stored = world.images[image_id]
        assert image["id"] == image_id
        assert image["dataset_id"] == stored.dataset_id
        assert image["full_url"].startswith(world.address)
        assert image["updated_at"].startswith("20")
        assert (image["cas_url"], image["score"]) == (None, None)
    places = {image["id"]: complex(*point) for image, point in zip(images, points, strict=True)}
    for one, place in places.items():
        nearest = min(set(places) - {one}, key=lambda other: abs(places[other] - place))
        assert any({one, nearest} <= set(of(colour, world, colours)) for colour in COLOURS)


async def test_a_map_and_clusters_of_some_images_have_only_those(
    anna: Person, world: World, colours: int
) -> None:
    some = [*of("red", world, colours)[:2], *of("blue", world, colours)[:2]]
    wish = {"project_id": colours, "image_ids": [*some, NOWHERE]}
    images, points = await anna.send("projections", wish)
    assert ([image["id"] for image in images], len(points)) == (sorted(some), 4)
    answer = await anna.send("clusters", {**wish, "num_clusters": 2})
    assert sorted(labels_of(answer)) == sorted(some)
    none = {"project_id": colours, "image_ids": [NOWHERE]}
    for command in ("projections", "clusters"):
        assert await anna.send(command, none) == {"message": "No vectors found."}


async def test_every_cluster_has_its_size_and_an_image_of_its_own_in_its_middle(
    anna: Person, colours: int
) -> None:
    for method in ("kmeans", "dbscan"):
        wish = {"project_id": colours, "clustering_method": method, "num_clusters": 3}
        answer = await anna.send("clusters", wish)
        labels = labels_of(answer)
        assert len(labels) == 12
        assert [one["cluster"] for one in answer["clusters"]] == sorted(set(labels.values()) - {-1})
        for cluster in answer["clusters"]:
            assert cluster["size"] == list(labels.values()).count(cluster["cluster"])
            assert labels[cluster["representative_image_id"]] == cluster["cluster"]


async def test_what_was_chosen_earlier_is_complemented_by_every_method_of_ours(
    anna: Person, world: World, colours: int
) -> None:
    red, blue = of("red", world, colours), of("blue", world, colours)
    for method in ("representative", "coverage"):
        wish = {"project_id": colours, "sample_size": 1, "method": method, "seed": 5}
        answer = await anna.send("diverse", {**wish, "selected_image_ids": [*red, *blue]})
        (chosen,) = answer["items"]
        assert chosen["image_id"] in of("green", world, colours), method
        assert 0 <= answer["coverage"] < 1
        assert await anna.shown(answer["collection_id"]) == {chosen["image_id"]: None}
    nothing = {"project_id": colours, "sample_size": 2, "image_ids": [NOWHERE]}
    assert (await anna.send("diverse", nothing))["message"] == "No vectors found."


async def test_a_search_by_opposites_is_scored_as_probabilities_and_left_so(
    anna: Person, world: World, colours: int
) -> None:
    wish = {"project_id": colours, "prompt": "red", "negative_prompt": "blue", "limit": 12}
    answer = await anna.send("search", wish)
    ranked = [item["image_id"] for item in answer["items"]]
    assert set(ranked[:4]) == set(of("red", world, colours))
    assert set(ranked[-4:]) == set(of("blue", world, colours))
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < 0.5 < scores[0] <= 1
    assert answer["scoring"] == "calibrated"
    assert len(await anna.shown(answer["collection_id"])) == 12


async def test_a_search_without_an_answer_says_why_and_leaves_no_collection(
    anna: Person, world: World, colours: int
) -> None:
    for fields, message in (
        ({}, "No queries provided."),
        ({"prompt": " , "}, "No queries provided."),
        ({"by_image_ids": [NOWHERE]}, "No images found for the provided IDs."),
        ({"prompt": "red", "threshold": 1.0}, "No similar images found."),
    ):
        assert await anna.send("search", {"project_id": colours, **fields}) == {"message": message}
    assert world.collections == {}


async def test_where_nothing_is_embedded_yet_every_question_is_answered_404(
    anna: Person, served: Served, world: World
) -> None:
    served.emulator.faults.add(Fault("imgproxy", "latency", times=None, seconds=2.0))
    young = world.project("young", images=3)
    world.grant(anna.sdk.token, young)
    for command, fields in (
        ("search", {"prompt": "red"}),
        ("diverse", {"sample_size": 2}),
        ("projections", {}),
        ("clusters", {}),
    ):
        status, answer = await anna.refusal(command, {"project_id": young, **fields})
        assert status == 404
        assert "Embeddings collection does not exist" in answer["message"]
        assert "Create embeddings first." in answer["message"]
    assert world.projects[young].embeddings_enabled
    served.emulator.faults.clear()


async def test_bad_input_is_told_field_by_field(anna: Person, colours: int) -> None:
    for command, fields, field in (
        ("search", {"prompt": "red", "limit": "many"}, "limit"),
        ("diverse", {}, "sample_size"),
        ("clusters", {"num_clusters": 0}, "num_clusters"),
        ("projections", {"image_ids": ["x"]}, "image_ids"),
    ):
        status, answer = await anna.refusal(command, {"project_id": colours, **fields})
        assert status in (400, 422)
        assert answer["errors"][0]["field"].startswith(field)
    status, answer = await anna.refusal("check_background_task_status", {})
    assert (status, answer["errors"][0]["field"]) == (400, "task_id")


async def test_a_running_sync_shows_in_every_question_about_it_until_it_is_stopped(
    anna: Person, served: Served, world: World, large: int
) -> None:
    await syncing(anna, served, large)
    assert await anna.send("task_status", {"project_id": large}) == {
        "message": f"[Project: {large}] Task is currently running.",
        "status": "running",
        "is_running": True,
    }
    progress = (await anna.send("processing_progress", {"project_id": large}))["progress"]
    assert (progress["total"], progress["status"], progress["project_id"]) == (LARGE, "processing", large)
    assert 64 <= progress["current"] < LARGE
    everyone = (await anna.send("processing_progress", {}))["progress"]
    assert everyone[str(large)]["status"] == "processing"
    assert await anna.send("check_background_task_status", {"task_id": large}) == {
        "status": "in_progress",
        "message": f"[Project: {large}] Task is still running",
    }
    for command in ("embeddings_up_to_date", "projections_up_to_date"):
        assert await anna.send(command, {"project_id": large}) is False
    assert await anna.send("embeddings", {"project_id": large}) == {
        "message": f"[Project: {large}] Embeddings creation is already in progress. Skipping."
    }

    assert await anna.send(f"stop-embeddings-update/{large}", {}) == {
        "project_id": large,
        "is_current_task": True,
        "success": True,
        "message": "The update is stopped.",
        "details": {},
    }
    kept = await served.stored(large)
    assert 64 <= kept < LARGE
    assert (await anna.send("task_status", {"project_id": large}))["status"] == "cancelled"
    assert (await anna.send("check_background_task_status", {"task_id": large}))["status"] == "not_found"
    await served.settled()
    assert world.projects[large].embeddings_in_progress is False
    assert await served.stored(large) == kept


async def test_stopping_what_is_not_being_updated_is_no_failure(
    anna: Person, served: Served, colours: int
) -> None:
    await served.rested()
    assert await anna.send(f"stop-embeddings-update/{colours}", {}) == {
        "project_id": colours,
        "is_current_task": False,
        "success": True,
        "message": "The project is not being updated.",
        "details": {},
    }
    assert await anna.send("cancel_embeddings", {"project_id": colours}) == {
        "message": f"[Project: {colours}] No running embeddings task found."
    }
    assert (await anna.send("task_status", {"project_id": colours}))["status"] == "completed"
    assert await served.stored(colours) == 12


async def test_a_failed_sync_is_an_error_to_whoever_asks(anna: Person, served: Served, colours: int) -> None:
    served.emulator.faults.add(Fault("images.list", "status", times=None, status=500))
    await anna.send("embeddings", {"project_id": colours, "force": True})
    await served.until(lambda: served.parts.controller.progress()[colours].status == "failed")
    answer = await anna.send("check_background_task_status", {"task_id": str(colours)})
    assert answer == {"status": "error", "message": f"[Project: {colours}] Task failed"}
    progress = (await anna.send("processing_progress", {"project_id": colours}))["progress"]
    assert progress["status"] == "error"
    served.emulator.faults.clear()


async def test_of_a_project_that_was_never_synced_there_is_nothing_to_tell(
    anna: Person, world: World
) -> None:
    idle = world.project("never looked at", images=1, enabled=False)
    world.grant(anna.sdk.token, idle)
    assert await anna.send("processing_progress", {"project_id": idle}) == {
        "message": f"No processing progress found for project {idle}",
        "progress": None,
    }
    assert await anna.send("task_status", {"project_id": idle}) == {
        "message": f"[Project: {idle}] No task found.",
        "status": "no_task",
        "is_running": False,
    }
    assert await anna.send("check_background_task_status", {"task_id": idle}) == {
        "status": "not_found",
        "message": f"[Project: {idle}] Processing task not found",
    }
    assert await anna.send("embeddings_up_to_date", {"project_id": NOWHERE}) is None


async def test_an_event_has_looked_at_what_nothing_else_tells_of(
    anna: Person, served: Served, world: World, colours: int
) -> None:
    (dataset_id,) = world.dataset_ids(colours)
    known = served.emulator.counters.calls["imgproxy"]
    for name in ("project_ids", "image_ids"):
        (added,) = world.add(dataset_id, logged=False)
        answer = await anna.send("events", {name: [colours] if name == "project_ids" else [added]})
        assert answer == {"message": "They will be looked at.", "project_ids": [colours]}
        await served.until(partial(is_shown, world, added))
    assert await served.stored(colours) == 14
    assert served.emulator.counters.calls["imgproxy"] == known + 2


def is_shown(world: World, image_id: int) -> bool:
    return world.images[image_id].embeddings_updated_at is not None


async def test_a_picture_set_aside_is_tried_again_when_told(
    anna: Person, served: Served, world: World, colours: int
) -> None:
    (dataset_id,) = world.dataset_ids(colours)
    (link,) = world.add_links(dataset_id)
    reachable, world.images[link].link = world.images[link].link, ELSEWHERE
    await anna.send("events", {"project_ids": [colours]})
    await quarantined(served, colours, 1)
    world.images[link].link = reachable
    answer = await anna.send("quarantine/retry", {"project_id": colours, "image_ids": [link]})
    assert answer == {"message": "1 pictures will be tried again.", "count": 1}
    await quarantined(served, colours, 0)
    await served.until_stored(colours, 13)
    assert (await anna.send("quarantine/retry", {"project_id": colours}))["count"] == 0


async def quarantined(served: Served, project_id: int, count: int) -> None:
    async def as_many() -> bool:
        return len(await served.parts.controller.quarantined(project_id, 10)) == count

    await eventually(as_many)


async def until_left(served: Served, project_id: int, count: int) -> None:
    async def so_many() -> bool:
        return await served.stored(project_id) == count

    await eventually(so_many)


async def everything_vanishes(served: Served, world: World, project_id: int) -> None:
    """Delete all pictures of a project; a listing of none is held back until somebody confirms it."""

    async def held() -> bool:
        (status,) = await served.parts.controller.status(project_id)
        return status.held_removals == 12

    world.delete(world.image_ids(project_id))
    served.parts.surveys.want_sweep()
    await eventually(held)
    assert await served.stored(project_id) == 12


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await true():
                return
            await asyncio.sleep(0.02)


async def test_held_removals_are_carried_out_when_confirmed(
    anna: Person, served: Served, world: World, colours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.removals.SECOND_LOOK", 0.1)
    some = world.image_ids(colours)[:5]
    await everything_vanishes(served, world, colours)
    answer = await anna.send("removals/confirm", {"project_id": colours, "image_ids": some})
    assert answer == {"message": f"[Project: {colours}] 5 held removals confirmed.", "count": 5}
    await until_left(served, colours, 7)
    assert (await anna.send("removals/confirm", {"projectId": colours}))["count"] == 7
    await until_left(served, colours, 0)


async def test_held_removals_are_kept_when_cancelled(
    anna: Person, served: Served, world: World, colours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await everything_vanishes(served, world, colours)
    answer = await anna.send("removals/cancel", {"project_id": colours})
    assert answer == {"message": f"[Project: {colours}] 12 held removals cancelled.", "count": 12}
    # From here on, what is held and was not cancelled goes at once.
    monkeypatch.setattr("daemon.sync.HOLD_SECONDS", 0.0)
    monkeypatch.setattr("daemon.removals.SECOND_LOOK", 0.0)
    (added,) = world.add(world.dataset_ids(colours)[0])
    served.parts.surveys.want_sweep()
    await served.until(partial(is_shown, world, added))
    assert await served.stored(colours) == 13


async def test_which_encoder_answers_is_not_for_a_user_to_say(anna: Person, served: Served) -> None:
    status, _ = await anna.refusal("encoders/use", {"encoder_id": served.parts.encoder.id})
    assert status == 401


async def test_the_platform_sees_that_the_app_runs(anna: Person, served: Served) -> None:
    assert await anna.send("is_running", {}) == {"running": True, "mode": "production"}
    assert await anna.send("is_ready", {}) == {"status": "ready"}
    assert await anna.ask(anna.sdk.app.is_ready_for_api_calls, served.task) is True


SENT_HERE = {
    "/projections": test_a_map_has_each_image_beside_what_it_is_like,
    "/clusters": test_every_cluster_has_its_size_and_an_image_of_its_own_in_its_middle,
    "/task_status": test_a_running_sync_shows_in_every_question_about_it_until_it_is_stopped,
    "/processing_progress": test_a_running_sync_shows_in_every_question_about_it_until_it_is_stopped,
    "/embeddings_up_to_date": test_a_running_sync_shows_in_every_question_about_it_until_it_is_stopped,
    "/projections_up_to_date": test_a_running_sync_shows_in_every_question_about_it_until_it_is_stopped,
    "/check_background_task_status": test_a_failed_sync_is_an_error_to_whoever_asks,
    "/stop-embeddings-update/{project_id}": test_stopping_what_is_not_being_updated_is_no_failure,
    "/events": test_an_event_has_looked_at_what_nothing_else_tells_of,
    "/quarantine/retry": test_a_picture_set_aside_is_tried_again_when_told,
    "/removals/confirm": test_held_removals_are_carried_out_when_confirmed,
    "/removals/cancel": test_held_removals_are_kept_when_cancelled,
    "/encoders/use": test_which_encoder_answers_is_not_for_a_user_to_say,
    "/is_running": test_the_platform_sees_that_the_app_runs,
    "/is_ready": test_the_platform_sees_that_the_app_runs,
    "/embeddings": test_platform_sdk.test_embeddings_are_made_again_when_forced_and_shown_so,
    "/search": test_platform_sdk.test_each_form_of_a_search_leaves_its_collection_with_scores,
    "/diverse": test_platform_sdk.test_each_form_of_a_diverse_request_leaves_its_collection_without_scores,
    "/cancel_embeddings": (
        test_platform_sdk.test_cancelling_stops_between_batches_and_keeps_and_shows_what_is_written
    ),
}
"""Where each command is accepted; ``send_request`` posts, so those are all there are."""


def test_every_command_that_can_be_sent_is_sent_somewhere() -> None:
    assert SENT_HERE.keys() == {route.path for route in ROUTES if route.method == "POST"}
