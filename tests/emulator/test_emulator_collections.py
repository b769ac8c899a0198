"""Entities collections, made and read by the real SDK."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from platform_emulator import World
from platform_emulator.fixtures import Api

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def search_collection(api: Api, project_id: int, name: str = "found", key: str = "k") -> Any:
    return api.entities_collection.create(project_id, name, type="aiSearch", ai_search_key=key)


def test_a_collection_keeps_images_with_their_scores(api: Api, world: World, project: int, sly: Any) -> None:
    first, second, *_ = world.image_ids(project)
    collection = search_collection(api, project)
    item = sly.api.entities_collection_api.CollectionItem
    items = [item(first, item.Meta(0.5)), item(second, item.Meta(0.9))]
    assert len(api.entities_collection.add_items(collection.id, items)) == 2
    found = api.entities_collection.get_items(collection.id, "entities_ai_search_collection")
    assert {image.id: image.ai_search_meta["score"] for image in found} == {first: 0.5, second: 0.9}
    above = api.entities_collection.get_items(
        collection.id, "entities_ai_search_collection", ai_search_threshold=0.7
    )
    assert [image.id for image in above] == [second]


def test_a_key_is_shown_only_to_who_asks_for_ai_search_with_meta(api: Api, project: int) -> None:
    collection = search_collection(api, project, key="abc")
    assert api.entities_collection.get_info_by_ai_search_key(project, "abc").id == collection.id
    assert api.entities_collection.get_info_by_ai_search_key(project, "other") is None
    (listed,) = api.entities_collection.get_list(project, collection_type="all", with_meta=True)
    assert listed.ai_search_key is None
    assert api.entities_collection.get_info_by_id(collection.id, with_meta=True).ai_search_key == "abc"


def test_a_removed_collection_is_gone(api: Api, project: int) -> None:
    soft, hard = (search_collection(api, project, name) for name in ("soft", "hard"))
    api.entities_collection.remove(soft.id)
    api.entities_collection.remove(hard.id, force=True)
    assert api.entities_collection.get_list(project, collection_type="all") == []
    assert api.entities_collection.get_info_by_id(soft.id) is None


def test_adding_a_missing_image_fails_and_adds_nothing(api: Api, world: World, project: int) -> None:
    first, gone, *_ = world.image_ids(project)
    world.delete([gone])
    collection = api.entities_collection.create(project, "mine")
    with pytest.raises(RuntimeError, match=str(gone)):
        api.entities_collection.add_items(collection.id, [first, gone])
    assert world.collections[collection.id].items == {}


def test_an_instance_may_add_the_rest(api: Api, world: World, project: int) -> None:
    world.rules.rest_is_added_when_some_are_missing = True
    first, *_ = world.image_ids(project)
    collection = api.entities_collection.create(project, "mine")
    with pytest.raises(RuntimeError):
        api.entities_collection.add_items(collection.id, [first, 999_999])
    found = api.entities_collection.get_items(collection.id, "entities_collection")
    assert [image.id for image in found] == [first]


def test_items_are_removed(api: Api, world: World, project: int) -> None:
    first, second, *_ = world.image_ids(project)
    collection = api.entities_collection.create(project, "mine")
    api.entities_collection.add_items(collection.id, [first, second])
    api.entities_collection.remove_items(collection.id, [first])
    assert list(world.collections[collection.id].items) == [second]


def test_two_collections_of_one_name_are_refused(api: Api, world: World, project: int) -> None:
    search_collection(api, project)
    with pytest.raises(requests.HTTPError, match="NONUNIQUE"):
        search_collection(api, project)
    world.rules.collection_names_are_unique = False
    assert search_collection(api, project).id
