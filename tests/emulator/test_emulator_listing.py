"""Listings of images, by every way the real SDK has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import requests
from platform_emulator import Emulator, World
from platform_emulator.fixtures import Api

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def keyset(api: Api, project_id: int, per_page: int) -> list[int]:
    """List a project by ``id > last`` as the daemon does."""
    found: list[int] = []
    while True:
        last = found[-1] if found else 0
        wanted = [{"field": "id", "operator": "gt", "value": last}]
        body = {"projectId": project_id, "filter": wanted, "sort": "id", "sort_order": "asc"}
        page = api.post("images.list", {**body, "per_page": per_page}).json()
        found += [row["id"] for row in page["entities"]]
        if len(page["entities"]) == page["total"]:
            return found


@pytest.mark.parametrize("per_page", [1, 3, 7, 500])
def test_every_way_of_paging_lists_the_same_images(
    api: Api, world: World, project: int, per_page: int
) -> None:
    world.rules.per_page = per_page
    wanted = world.image_ids(project)
    tokens = list(api.image.get_list_generator(project_id=project, batch_size=per_page))
    assert [image.id for image in api.image.get_list(project_id=project)] == wanted
    assert sorted(image.id for page in tokens for image in page) == wanted
    assert keyset(api, project, per_page) == wanted


def test_token_mode_does_not_sort(api: Api, world: World, project: int) -> None:
    pages = api.image.get_list_generator(project_id=project, batch_size=3, sort="id")
    listed = [image.id for page in pages for image in page]
    assert listed != sorted(listed)


def test_the_async_listing_of_a_dataset_is_whole(api: Api, world: World, project: int) -> None:
    async def listed() -> list[int]:
        pages = api.image.get_list_generator_async(world.dataset_ids(project)[0], per_page=3)
        found = [image.id async for page in pages for image in page]
        await api.async_httpx_client.aclose()
        return found

    assert asyncio.run(listed()) == world.image_ids(project)


def test_a_page_is_no_larger_than_the_platform_allows(api: Api, world: World, project: int) -> None:
    world.rules.max_per_page = 4
    page = api.post("images.list", {"projectId": project, "per_page": 50_000}).json()
    assert (page["perPage"], len(page["entities"]), page["pagesCount"], page["total"]) == (4, 4, 2, 7)


def test_a_project_is_listed_with_its_nested_datasets_and_a_dataset_without(api: Api, world: World) -> None:
    project = world.project("nested")
    top = world.dataset(project, "top")
    outer, inner = world.add(top), world.add(world.dataset(project, "below", top))
    assert [one.id for one in api.image.get_list(project_id=project)] == outer + inner
    assert [one.id for one in api.image.get_list(top)] == outer
    assert [one.id for one in api.image.get_list(top, recursive=True)] == outer + inner


@pytest.mark.parametrize(
    ("operator", "value", "wanted"),
    [
        ("=", 2, [2]),
        ("eq", 2, [2]),
        ("!=", 2, [0, 1, 3, 4, 5, 6]),
        ("not", 2, [0, 1, 3, 4, 5, 6]),
        ("in", [1, 4], [1, 4]),
        ("gt", 4, [5, 6]),
        ("gte", 4, [4, 5, 6]),
        ("lt", 2, [0, 1]),
        ("<=", 2, [0, 1, 2]),
    ],
)
def test_images_are_filtered_by_id(
    api: Api, world: World, project: int, operator: str, value: Any, wanted: list[int]
) -> None:
    ids = world.image_ids(project)
    given = [ids[one] for one in value] if isinstance(value, list) else ids[value]
    filters = [{"field": "id", "operator": operator, "value": given}]
    listed = api.image.get_list(project_id=project, filters=filters)
    assert [image.id for image in listed] == [ids[one] for one in wanted]


def test_images_changed_since_a_watermark_are_found(api: Api, world: World, project: int) -> None:
    mark = max(image.updated_at for image in api.image.get_list(project_id=project))
    changed = world.image_ids(project)[2:4]
    world.label(changed)
    since = [{"field": "updatedAt", "operator": "gt", "value": mark}]
    assert [image.id for image in api.image.get_list(project_id=project, filters=since)] == changed


def test_images_without_embeddings_are_found(api: Api, world: World, project: int) -> None:
    first, *rest = world.image_ids(project)
    api.image.set_embeddings_updated_at([first])
    without = [{"field": "embeddingsUpdatedAt", "operator": "eq", "value": None}]
    assert [image.id for image in api.image.get_list(project_id=project, filters=without)] == rest
    done = [{"field": "embeddingsUpdatedAt", "operator": "not", "value": None}]
    assert [image.id for image in api.image.get_list(project_id=project, filters=done)] == [first]


def test_images_are_sorted_by_any_field_either_way(api: Api, world: World, project: int) -> None:
    first = world.image_ids(project)[0]
    world.label([first])
    listed = api.image.get_list(project_id=project, sort="updatedAt", sort_order="desc")
    assert listed[0].id == first
    assert len(listed) == 7


@pytest.mark.parametrize("wanted", [{"field": "colour"}, {"field": "id", "operator": "~", "value": 1}])
def test_a_filter_that_means_nothing_is_refused(api: Api, project: int, wanted: dict[str, Any]) -> None:
    with pytest.raises(requests.HTTPError) as refusal:
        api.image.get_list(project_id=project, filters=[wanted])
    assert refusal.value.response.status_code == 400


def test_a_server_may_refuse_to_compare_ids(api: Api, world: World, project: int) -> None:
    world.rules.keyset_allowed = False
    with pytest.raises(requests.HTTPError):
        keyset(api, project, per_page=3)
    assert len(api.image.get_list(project_id=project)) == 7


def test_embeddings_updated_at_is_an_extra_field(api: Api, world: World, project: int) -> None:
    ids = world.image_ids(project)
    api.image.set_embeddings_updated_at(ids, ["2026-01-22T19:37:50.158Z"] * 7)
    world.clear_embeddings_updated_at(ids[:1])
    listed = api.image.get_list(project_id=project, extra_fields=["embeddingsUpdatedAt"])
    assert [image.embeddings_updated_at for image in listed] == [None] + ["2026-01-22T19:37:50.158Z"] * 6
    assert api.image.get_list(project_id=project)[1].embeddings_updated_at is None


def test_only_the_fields_asked_for_are_listed(api: Api, project: int) -> None:
    row = api.post("images.list", {"projectId": project, "fields": ["id", "hash"]}).json()["entities"][0]
    assert set(row) == {"id", "hash"}


def test_disabled_and_deleted_images_are_listed_only_when_asked_for(
    api: Api, world: World, project: int
) -> None:
    ids = world.image_ids(project)
    world.disable(ids[:1])
    world.delete(ids[1:2])
    assert [image.id for image in api.image.get_list(project_id=project)] == ids[2:]
    mixed = api.post("images.list", {"projectId": project, "showDisabled": True}).json()
    assert [row["id"] for row in mixed["entities"]] == ids
    assert mixed["entities"][0].keys() == mixed["entities"][2].keys()


def test_a_project_of_100_000_images_is_listed_quickly(api: Api, world: World, emulator: Emulator) -> None:
    project = world.project("large", images=100_000)
    started = time.monotonic()
    last, count = 0, 0
    while count < 100_000:
        after = [{"field": "id", "operator": "gt", "value": last}]
        page = api.post("images.list", {"projectId": project, "filter": after, "per_page": 1000}).json()
        assert page["total"] == 100_000 - count
        last, count = page["entities"][-1]["id"], count + len(page["entities"])
    assert time.monotonic() - started < 20
    assert emulator.counters.calls["images.list"] == 100
    assert emulator.counters.rows["images.list"] == 100_000
