"""What happens to images and projects, as the real SDK sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from platform_emulator import World
from platform_emulator.fixtures import Api

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def seen(api: Api, image_id: int) -> Any:
    return api.image.get_info_by_id(image_id)


def test_labelling_moves_the_time_and_leaves_the_hash(api: Api, world: World, project: int) -> None:
    image_id = world.image_ids(project)[0]
    before = seen(api, image_id)
    world.label([image_id])
    after = seen(api, image_id)
    assert after.updated_at > before.updated_at
    assert (after.hash, after.labels_count) == (before.hash, 1)


def test_replacing_moves_both(api: Api, world: World, project: int) -> None:
    image_id = world.image_ids(project)[0]
    before = seen(api, image_id)
    world.replace([image_id])
    after = seen(api, image_id)
    assert after.updated_at > before.updated_at
    assert after.hash != before.hash


def test_renaming_changes_the_name_only(api: Api, world: World, project: int) -> None:
    image_id = world.image_ids(project)[0]
    before = seen(api, image_id)
    world.rename(image_id, "other.png")
    assert (seen(api, image_id).name, seen(api, image_id).hash) == ("other.png", before.hash)


def test_a_restored_image_is_the_one_that_was_disabled(api: Api, world: World, project: int) -> None:
    image_id = world.image_ids(project)[0]
    before = seen(api, image_id)
    world.disable([image_id])
    assert seen(api, image_id) is None
    world.restore([image_id])
    assert seen(api, image_id).hash == before.hash


def test_a_moved_image_keeps_its_id_and_changes_its_place(api: Api, world: World, project: int) -> None:
    ids = world.image_ids(project)
    other = world.dataset(world.project("other"), "there")
    world.move(ids[:2], other)
    assert [image.id for image in api.image.get_list(other)] == ids[:2]
    assert [image.id for image in api.image.get_list(project_id=project)] == ids[2:]


def test_a_copied_image_has_a_new_id_and_the_same_hash(api: Api, world: World, project: int) -> None:
    image_id = world.image_ids(project)[0]
    (copy,) = world.copy([image_id], world.dataset(world.project("other"), "there"))
    assert copy != image_id
    assert seen(api, copy).hash == seen(api, image_id).hash


def test_a_clone_has_the_same_hashes_in_the_same_datasets(api: Api, world: World, project: int) -> None:
    below = world.dataset(project, "below", world.dataset_ids(project)[0])
    world.add(below, count=2)
    clone = world.clone(project, "twin")
    originals, twins = (api.image.get_list(project_id=one) for one in (project, clone))
    assert [image.hash for image in twins] == [image.hash for image in originals]
    assert not {image.id for image in twins} & {image.id for image in originals}
    assert [one.name for one in api.dataset.get_list(clone, recursive=True)] == ["images", "below"]


def test_a_deleted_project_is_gone_until_it_is_restored(api: Api, world: World, project: int) -> None:
    world.delete_project(project)
    assert api.project.get_info_by_id(project) is None
    assert api.project.get_list_all()["entities"] == []
    world.restore_project(project)
    assert api.project.get_info_by_id(project).images_count == 7


def test_the_platforms_clock_is_its_own(api: Api, world: World) -> None:
    world.clock.set(skew=-86_400)
    yesterday = api.project.get_info_by_id(world.project("yesterday")).created_at
    world.clock.set(skew=86_400)
    tomorrow = api.project.get_info_by_id(world.project("tomorrow")).created_at
    assert yesterday < datetime.now(UTC).isoformat() < tomorrow
