"""What people send by the real SDK, answered by the whole daemon: the right collection, the right flags."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from platform_emulator import Emulator, Fault, World
from platform_emulator.fixtures import Api, AsUser

from daemon.platform.publishing import key_of
from daemon.service import listening, synchronising
from daemon.settings import Settings
from daemon.wiring import Parts, wired
from state.model import Within

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

PATIENCE = 20.0
NOWHERE = 999
COLOURS = ("red", "green", "blue")
OF_A_COLOUR = 4

ROUTES = [
    ("search", {"prompt": "red"}),
    ("diverse", {"sample_size": 2}),
    ("embeddings", {}),
    ("embeddings", {"force": True}),
    ("embeddings", {"return_vectors": True}),
    ("embeddings", {"dry_run": True}),
    ("cancel_embeddings", {}),
    ("task_status", {}),
    ("processing_progress", {}),
    ("projections", {}),
    ("clusters", {}),
    ("events", {}),
    ("removals/confirm", {}),
    ("removals/cancel", {}),
    ("quarantine/retry", {}),
]
"""Every command about a project that answers 404 to who may not see it, with what it needs beside."""


class Served:
    """A daemon that follows the emulated platform and is an app's task on it."""

    def __init__(self, emulator: Emulator, directory: Path) -> None:
        self.emulator, self.world = emulator, emulator.world
        self._settings = Settings(
            source="supervisely",
            server_address=emulator.address,
            api_token=self.world.admin_token,
            imgproxy_address=f"{emulator.address}/imgproxy",
            imgproxy_concurrency=8,
            encoder="palette",
            state_dir=directory,
            news_seconds=0.2,
        )
        self._stack = AsyncExitStack()
        self.parts: Parts
        self.task = 0

    async def __aenter__(self) -> Served:
        self.parts = await self._stack.enter_async_context(wired(self._settings))
        await self._stack.enter_async_context(synchronising(self.parts))
        url = await self._stack.enter_async_context(listening(self.parts.app, "127.0.0.1", 0))
        self.task = self.world.register_app(url)
        self.world.register_ai_search(url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def encoded(self) -> float:
        return self.parts.metrics.registry.get_sample_value("embedsync_images_encoded_total") or 0.0

    async def stored(self, project_id: int) -> int:
        encoder_id = self.parts.encoder.id
        assert encoder_id
        return await self.parts.store.count(encoder_id, Within(project_id))

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if true():
                    return
                await asyncio.sleep(0.02)

    async def until_stored(self, project_id: int, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if await self.stored(project_id) >= count:
                    return
                await asyncio.sleep(0.02)

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.parts.controller.idle()
            await self.parts.settled()

    async def rested(self) -> None:
        """Wait until what the start has told and shown was looked at, too."""
        await self.survey()
        await self.settled()

    async def survey(self) -> None:
        """List the projects as every `UPDATE_INTERVAL` does, and let come what comes of it."""
        listed = self.emulator.counters.calls["projects.list.all"]
        self.parts.surveys.want()
        await self.until(lambda: self.emulator.counters.calls["projects.list.all"] > listed)
        await asyncio.sleep(0.5)


class Person:
    """Somebody at the SDK."""

    def __init__(self, sdk: Api, task: int) -> None:
        self.sdk, self._task = sdk, task

    async def send(self, command: str, state: dict[str, Any]) -> Any:
        return await asyncio.to_thread(self.sdk.task.send_request, self._task, command, state)

    async def ask(self, method: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(method, *arguments, **named)

    async def refusal(self, command: str, state: dict[str, Any]) -> tuple[int, Any]:
        with pytest.raises(requests.HTTPError) as refused:
            await self.send(command, state)
        return refused.value.response.status_code, refused.value.response.json()

    async def shown(self, collection_id: int) -> dict[int, Any]:
        """Read a collection back: each image's score, or what it has for one."""
        found = await asyncio.to_thread(
            self.sdk.entities_collection.get_items, collection_id, "entities_ai_search_collection"
        )
        return {image.id: image.ai_search_meta for image in found}

    async def collections(self, project_id: int) -> list[tuple[int, str]]:
        found = await asyncio.to_thread(
            self.sdk.entities_collection.get_list, project_id, with_meta=True, collection_type="aiSearch"
        )
        return [(one.id, one.ai_search_key) for one in found]


def painted(colour: str, number: int) -> bytes:
    """A picture of one colour, with a patch that makes it one of its own."""
    picture = Image.new("RGB", (48, 48), colour)
    picture.paste((40 * number, 40 * number, 40 * number), (0, 0, 8, 8))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def colours(world: World) -> int:
    """A project with four red, four green and four blue pictures, in this order."""
    project_id = world.project("colours")
    contents = [painted(colour, number) for colour in COLOURS for number in range(OF_A_COLOUR)]
    world.add(world.dataset(project_id, "all"), contents)
    return project_id


@pytest.fixture
async def served(
    emulator: Emulator, sly: Any, colours: int, prompt: None, tmp_path: Path
) -> AsyncIterator[Served]:
    """A daemon that has embedded the project of colours."""
    async with Served(emulator, tmp_path) as daemon:
        await daemon.until_stored(colours, len(COLOURS) * OF_A_COLOUR)
        await daemon.settled()
        yield daemon


@pytest.fixture
def anna(world: World, colours: int, as_user: AsUser, served: Served) -> Person:
    """Somebody who may read the project."""
    token = world.user("anna")
    world.grant(token, colours)
    return Person(as_user(token), served.task)


@pytest.fixture
def stranger(world: World, as_user: AsUser, served: Served) -> Person:
    """Somebody who may read nothing."""
    return Person(as_user(world.user("stranger")), served.task)


def of(colour: str, world: World, project_id: int) -> list[int]:
    start = COLOURS.index(colour) * OF_A_COLOUR
    return world.image_ids(project_id)[start : start + OF_A_COLOUR]


async def check_scored(anna: Person, project_id: int, answer: Any, expected: Sequence[int]) -> None:
    """Check that a search left the one collection, of exactly these images, with the scores it answered."""
    scores = {item["image_id"]: {"score": pytest.approx(item["score"])} for item in answer["items"]}
    assert sorted(scores) == sorted(expected)
    assert await anna.shown(answer["collection_id"]) == scores
    key = key_of(project_id, anna.sdk.token)
    assert await anna.collections(project_id) == [(answer["collection_id"], key)]


async def test_each_form_of_a_search_leaves_its_collection_with_scores(
    anna: Person, world: World, colours: int
) -> None:
    red, green, blue = (of(colour, world, colours) for colour in COLOURS)
    snake = {"project_id": colours, "limit": 4}
    camel = {"projectId": colours, "limit": 4, "uniqueItems": 4}
    forms: list[tuple[dict[str, Any], Sequence[int]]] = [
        ({**snake, "prompt": "red"}, red),
        ({**snake, "prompt": ["green"], "image_ids": None}, green),
        ({**snake, "prompt": "red, blue", "limit": 8}, red + blue),
        ({**snake, "by_image_ids": blue[:1], "limit": 3}, blue[1:]),
        ({**snake, "image_ids": red[:1], "limit": 3}, red[1:]),
        ({**snake, "prompt": "red", "image_ids": red[:1], "limit": 3}, red[1:]),
        ({**snake, "by_image_ids": red[:1], "image_ids": [*red[:2], *green[:2]]}, [red[1], *green[:2]]),
        ({**camel, "prompt": "green"}, green),
        ({**camel, "imageIds": green[:1], "limit": 3}, green[1:]),
        ({**camel, "prompt": "red", "restrictedImageIds": blue}, blue),
    ]
    for state, expected in forms:
        answer = await anna.send("search", state)
        await check_scored(anna, colours, answer, expected)
        assert answer.get("collectionId") == (answer["collection_id"] if "projectId" in state else None)


async def test_each_form_of_a_diverse_request_leaves_its_collection_without_scores(
    anna: Person, world: World, colours: int
) -> None:
    red = of("red", world, colours)
    for state in (
        {"project_id": colours, "sample_size": 3},
        {"project_id": colours, "limit": 3, "method": "kmeans"},
        {"project_id": colours, "sample_size": 3, "sampling_method": "centroids", "num_clusters": 3},
        {"project_id": colours, "sample_size": 3, "sampling_method": "random", "image_ids": red},
        {"projectId": colours, "limit": 100, "uniqueItems": 3, "method": "random"},
        {
            **{"projectId": colours, "limit": 100, "uniqueItems": 3, "method": "centroids"},
            **{"clusteringMethod": "kmeans", "numberOfClusters": 3},
        },
    ):
        answer = await anna.send("diverse", state)
        assert await anna.shown(answer["collection_id"]) == {
            item["image_id"]: None for item in answer["items"]
        }
        assert len(answer["items"]) == 3
        assert {item["image_id"] for item in answer["items"]} <= set(
            state.get("image_ids") or world.image_ids(colours)
        )
        key = key_of(colours, anna.sdk.token)
        assert await anna.collections(colours) == [(answer["collection_id"], key)]


async def test_a_diverse_selection_of_three_has_one_of_each_colour(
    anna: Person, world: World, colours: int
) -> None:
    answer = await anna.send("diverse", {"project_id": colours, "sample_size": 3})
    chosen = {item["image_id"] for item in answer["items"]}
    assert [len(chosen & set(of(colour, world, colours))) for colour in COLOURS] == [1, 1, 1]


async def test_the_platforms_own_search_box_gets_the_right_collections(
    anna: Person, world: World, colours: int
) -> None:
    red, green, _ = (of(colour, world, colours) for colour in COLOURS)
    (dataset_id,) = world.dataset_ids(colours)
    search = anna.sdk.project.perform_ai_search
    by_prompt = await anna.ask(search, colours, prompt="red", limit=4)
    assert sorted(await anna.shown(by_prompt)) == red
    by_image = await anna.ask(search, colours, image_id=red[0], limit=3, dataset_id=dataset_id)
    assert sorted(await anna.shown(by_image)) == red[1:]
    scoped = await anna.ask(search, colours, prompt="red", limit=4, image_id_scope=green[:2])
    assert sorted(await anna.shown(scoped)) == green[:2]
    strict = await anna.ask(search, colours, image_id=red[0], threshold=0.9)
    assert sorted(await anna.shown(strict)) == red[1:]
    diverse = await anna.ask(
        search, colours, method="centroids", clustering_method="kmeans", num_clusters=3, limit=3
    )
    assert await anna.shown(diverse) == dict.fromkeys(await anna.shown(diverse))
    assert len(await anna.shown(diverse)) == 3
    assert await anna.collections(colours) == [(diverse, key_of(colours, anna.sdk.token))]


async def test_embeddings_are_made_again_when_forced_and_shown_so(
    anna: Person, served: Served, world: World, colours: int
) -> None:
    ids = world.image_ids(colours)
    await served.rested()
    before = {one: world.images[one].embeddings_updated_at for one in ids}
    assert await anna.send("embeddings", {"project_id": colours, "team_id": 1}) == {
        "message": f"[Project: {colours}] Nothing to update. Skipping."
    }
    answer = await anna.send("embeddings", {"projectId": colours, "imageIds": ids[:3], "force": True})
    assert answer == {"message": f"[Project: {colours}] Embeddings creation started."}
    await served.until(lambda: served.encoded == len(ids) + 3)
    await served.settled()
    now = {one: world.images[one].embeddings_updated_at for one in ids}
    assert [one for one in ids if now[one] != before[one]] == ids[:3]
    assert world.projects[colours].embeddings_in_progress is False
    assert world.projects[colours].custom_data == {}


async def test_the_platform_can_ask_for_all_embeddings_of_a_project(
    anna: Person, served: Served, world: World
) -> None:
    silent = world.project("added while nobody looked", images=3)
    world.grant(anna.sdk.token, silent)
    await anna.ask(anna.sdk.project.calculate_embeddings, silent)
    await served.until_stored(silent, 3)
    await served.settled()
    assert all(world.images[one].embeddings_updated_at for one in world.image_ids(silent))
    assert await anna.ask(anna.sdk.project.get_embeddings_in_progress, silent) is False
    assert await anna.ask(anna.sdk.project.get_embeddings_updated_at, silent)


async def test_vectors_and_plans_are_answered(anna: Person, world: World, colours: int) -> None:
    ids = world.image_ids(colours)
    answer = await anna.send("embeddings", {"image_ids": ids[:2], "return_vectors": True})
    assert answer["image_ids"] == ids[:2]
    assert len({len(vector) for vector in answer["vectors"]}) == 1
    plan = await anna.send("embeddings", {"projectId": colours, "dry_run": True, "force": True})
    assert plan["plans"][0]["counts"]["encode"] == len(ids)


async def test_the_state_of_a_task_is_told_in_both_forms(
    anna: Person, served: Served, world: World, colours: int
) -> None:
    idle = world.project("never looked at", images=1, enabled=False)
    world.grant(anna.sdk.token, idle)
    await served.rested()
    for name in ("project_id", "projectId"):
        assert (await anna.send("task_status", {name: idle}))["status"] == "no_task"
        answer = await anna.send("task_status", {name: colours})
        assert (answer["status"], answer["is_running"]) == ("completed", False)
        assert (await anna.send("processing_progress", {name: colours}))["progress"] == {
            **{"total": 12, "current": 12, "status": "completed", "project_id": colours}
        }
        assert await anna.send("embeddings_up_to_date", {name: colours}) is True
        assert await anna.send("projections_up_to_date", {name: colours}) is True
    assert list((await anna.send("processing_progress", {}))["progress"]) == [str(colours)]
    served.emulator.faults.add(Fault("images.list", "status", times=None, status=500))
    await anna.send("embeddings", {"project_id": colours, "force": True})
    await served.until(lambda: served.parts.controller.progress()[colours].status == "failed")
    served.emulator.faults.clear()
    assert (await anna.send("task_status", {"project_id": colours}))["status"] == "failed"
    await served.until(lambda: world.projects[colours].embeddings_in_progress is False)


async def test_maps_and_clusters_are_answered_in_both_forms(anna: Person, world: World, colours: int) -> None:
    ids = world.image_ids(colours)
    for wish in (
        {"project_id": colours, "image_ids": ids, "num_clusters": 3},
        {"projectId": colours, "imageIds": ids, "numberOfClusters": 3, "clusteringMethod": "kmeans"},
    ):
        images, points = await anna.send("projections", wish)
        assert [image["id"] for image in images] == ids
        assert [len(point) for point in points] == [2] * len(ids)
        clusters = await anna.send("clusters", wish)
        labels = {item["image_id"]: item["cluster"] for item in clusters["items"]}
        assert [len({labels[one] for one in of(colour, world, colours)}) for colour in COLOURS] == [1, 1, 1]
        assert len(set(labels.values())) == 3


async def test_without_rights_every_route_answers_as_if_there_were_no_such_project(
    stranger: Person, served: Served, world: World, colours: int
) -> None:
    encoded = served.encoded
    for command, fields in ROUTES:
        seen = []
        for number in (colours, NOWHERE):
            named = {"project_ids": [number]} if command == "events" else {"project_id": number}
            status, answer = await stranger.refusal(command, {**named, **fields})
            seen.append((status, str(answer).replace(str(number), "N")))
        assert seen[0] == seen[1], command
        assert seen[0][0] == 404, command
    for number in (colours, NOWHERE):
        assert await stranger.send("embeddings_up_to_date", {"project_id": number}) is None
        answer = await stranger.send("check_background_task_status", {"task_id": number})
        assert answer["status"] == "not_found"
        status, _ = await stranger.refusal(f"stop-embeddings-update/{number}", {})
        assert status == 404
    assert (await stranger.send("processing_progress", {}))["progress"] == {}
    await served.settled()
    assert world.collections == {}
    assert served.encoded == encoded


async def test_the_search_box_is_closed_to_who_may_not_read(
    stranger: Person, world: World, colours: int
) -> None:
    with pytest.raises(requests.HTTPError):
        await stranger.ask(stranger.sdk.project.perform_ai_search, colours, prompt="red")
    assert world.collections == {}


async def test_a_disabled_project_is_neither_searched_nor_embedded(
    anna: Person, served: Served, world: World, colours: int
) -> None:
    world.set_ai_search(colours, False)
    await served.survey()
    world.add(world.dataset_ids(colours)[0], count=2)
    disabled = {"message": f"[Project: {colours}] AI Search is disabled. Skipping."}
    for command, fields in (("search", {"prompt": "red"}), ("diverse", {"limit": 2}), ("embeddings", {})):
        assert await anna.send(command, {"project_id": colours, **fields}) == disabled
    assert await anna.ask(anna.sdk.project.perform_ai_search, colours, prompt="red") is None
    await served.settled()
    assert (world.collections, served.encoded) == ({}, 12)


async def test_the_free_plan_has_no_search_and_leaves_the_project_enabled(
    anna: Person, world: World, colours: int
) -> None:
    team_id = world.projects[colours].team_id
    world.set_plan(team_id, "free")
    for command, fields in (("search", {"prompt": "red"}), ("diverse", {"limit": 2}), ("embeddings", {})):
        assert await anna.refusal(command, {"project_id": colours, **fields}) == (
            403,
            {"message": f"Team {team_id} with 'free' plan cannot use AI features."},
        )
    assert world.collections == {}
    assert await anna.ask(anna.sdk.project.is_embeddings_enabled, colours) is True


async def amid_a_sync(anna: Person, served: Served, project_id: int) -> None:
    """Have a project synced slowly, and wait until it is at it and shown to be."""
    served.emulator.faults.add(Fault("imgproxy", "latency", times=None, seconds=0.1))
    served.world.grant(anna.sdk.token, project_id)
    await anna.ask(anna.sdk.project.calculate_embeddings, project_id)
    await served.until_stored(project_id, 64)
    await served.until(lambda: served.world.projects[project_id].embeddings_in_progress)
    assert (await anna.send("task_status", {"project_id": project_id}))["status"] == "running"


async def test_cancelling_stops_between_batches_and_keeps_and_shows_what_is_written(
    anna: Person, served: Served, world: World
) -> None:
    large = world.project("large", images=400)
    await amid_a_sync(anna, served, large)
    answer = await anna.send("cancel_embeddings", {"project_id": large})
    assert answer == {"message": f"[Project: {large}] Embeddings task has been cancelled."}
    assert (await anna.send("task_status", {"project_id": large}))["status"] == "cancelled"
    kept = await served.stored(large)
    assert 64 <= kept < 400
    await served.settled()
    assert world.projects[large].embeddings_in_progress is False
    assert world.projects[large].custom_data == {}
    shown = [one for one in world.image_ids(large) if world.images[one].embeddings_updated_at]
    assert len(shown) == kept == await served.stored(large)
    assert await anna.send("cancel_embeddings", {"projectId": large}) == {
        "message": f"[Project: {large}] No running embeddings task found."
    }


async def test_what_was_cancelled_rests_until_something_changes_or_everything_is_looked_at(
    anna: Person, served: Served, world: World
) -> None:
    large = world.project("large", images=400)
    await amid_a_sync(anna, served, large)
    await anna.send("cancel_embeddings", {"project_id": large})
    kept = await served.stored(large)
    await served.survey()
    await served.survey()
    assert await served.stored(large) == kept

    served.emulator.faults.clear()
    (added,) = world.add(world.dataset_ids(large)[0])
    await served.until(lambda: world.images[added].embeddings_updated_at)
    served.parts.surveys.want_sweep()
    await served.until_stored(large, 401)


async def test_a_sync_cancelled_at_its_start_is_not_shown_to_go_on(
    anna: Person, served: Served, world: World
) -> None:
    served.emulator.faults.add(Fault("imgproxy", "latency", times=None, seconds=1.0))
    slow = world.project("slow", images=20)
    world.grant(anna.sdk.token, slow)
    await anna.ask(anna.sdk.project.calculate_embeddings, slow)
    await served.until(lambda: served.emulator.counters.calls["imgproxy"] > 12)
    await anna.send("cancel_embeddings", {"project_id": slow})
    await served.settled()
    assert world.projects[slow].embeddings_in_progress is False
