"""Projects and datasets of the emulator, asked for by the real SDK."""

from __future__ import annotations

import pytest
from platform_emulator import World
from platform_emulator.fixtures import Api

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


FLAGS = ["embeddingsEnabled", "embeddingsInProgress", "embeddingsUpdatedAt"]


def test_enabled_projects_are_listed_over_pages(api: Api, world: World) -> None:
    wanted = [world.project(str(number)) for number in range(5)]
    world.project("disabled", enabled=False)
    world.project("never asked", enabled=None)
    enabled = [{"field": "embeddingsEnabled", "operator": "=", "value": True}]
    answer = api.project.get_list_all(
        filters=enabled, sort="id", sort_order="asc", per_page=2, extra_fields=FLAGS
    )
    assert [one.id for one in answer["entities"]] == wanted
    assert {one.embeddings_enabled for one in answer["entities"]} == {True}


def test_the_projects_of_a_workspace_are_found_by_name(api: Api, world: World, project: int) -> None:
    world.project("another")
    assert len(api.project.get_list(world.workspace_id)) == 2
    assert api.project.get_info_by_name(world.workspace_id, "seven").id == project


def test_a_project_shows_the_three_flags_only_when_asked_for(api: Api, project: int) -> None:
    assert api.project.get_info_by_id(project).embeddings_enabled is None
    assert api.project.get_info_by_id(project, extra_fields=FLAGS).embeddings_enabled is True


def test_a_project_counts_its_images(api: Api, world: World, project: int) -> None:
    world.disable(world.image_ids(project)[:2])
    assert api.project.get_info_by_id(project).images_count == 5
    assert api.project.get_images_count(project) == 5


def test_ai_search_is_switched_on_and_off(api: Api, project: int) -> None:
    api.project.disable_embeddings(project)
    assert api.project.is_embeddings_enabled(project) is False
    api.project.enable_embeddings(project)
    assert api.project.is_embeddings_enabled(project) is True


def test_progress_is_shown_with_its_error(api: Api, world: World, project: int) -> None:
    api.project.set_embeddings_in_progress(project, True)
    assert api.project.get_embeddings_in_progress(project) is True
    api.project.set_embeddings_in_progress(project, False, "CLIP is away")
    assert api.project.get_embeddings_in_progress(project) is False
    assert world.projects[project].error_message == "CLIP is away"


def test_the_time_of_a_projects_embeddings_is_kept(api: Api, project: int) -> None:
    api.project.set_embeddings_updated_at(project, "2026-01-22T19:37:50.158123Z")
    assert api.project.get_embeddings_updated_at(project) == "2026-01-22T19:37:50.158Z"


def test_custom_data_is_replaced_as_a_whole(api: Api, world: World, project: int) -> None:
    world.set_custom_data(project, {"theirs": 1})
    api.project.update_custom_data(project, {"ours": 2}, silent=True)
    assert api.project.get_custom_data(project) == {"ours": 2}


def test_a_silent_change_leaves_the_time_of_the_project(api: Api, project: int) -> None:
    before = api.project.get_info_by_id(project).updated_at
    api.project.update_custom_data(project, {}, silent=True)
    assert api.project.get_info_by_id(project).updated_at == before
    api.project.update_custom_data(project, {})
    assert api.project.get_info_by_id(project).updated_at > before


def test_nested_datasets_are_listed_when_asked_for(api: Api, world: World) -> None:
    project = world.project("nested")
    top = world.dataset(project, "top")
    below = world.dataset(project, "below", top)
    world.add(below, count=2)
    assert [one.id for one in api.dataset.get_list(project)] == [top]
    assert [one.id for one in api.dataset.get_list(project, recursive=True)] == [top, below]
    assert [one.images_count for one in api.dataset.get_list(project, parent_id=top)] == [2]
    assert api.dataset.get_info_by_id(below).parent_id == top
