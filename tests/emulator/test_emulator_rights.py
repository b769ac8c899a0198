"""Who may see what, by the real SDK."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from platform_emulator import World
from platform_emulator.fixtures import Api, AsUser

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def test_an_unknown_token_is_refused(as_user: AsUser, world: World, project: int) -> None:
    with pytest.raises(requests.HTTPError) as refusal:
        as_user("guessed").project.get_info_by_id(project)
    assert refusal.value.response.status_code == world.rules.unknown_token_status


@pytest.mark.parametrize(
    "ask",
    [
        lambda api, project, image: api.project.get_info_by_id(project),
        lambda api, project, image: api.dataset.get_list(project),
        lambda api, project, image: api.image.get_list(project_id=project),
        lambda api, project, image: api.image.get_info_by_id(image),
        lambda api, project, image: api.image.download_np(image),
        lambda api, project, image: api.image.set_embeddings_updated_at([image]),
        lambda api, project, image: api.project.update_custom_data(project, {}),
        lambda api, project, image: api.project.set_embeddings_in_progress(project, True),
        lambda api, project, image: api.entities_collection.get_list(project),
        lambda api, project, image: api.entities_collection.create(project, "mine"),
        lambda api, project, image: api.team.get_activity(1),
    ],
)
def test_without_rights_nothing_is_seen_or_changed(
    as_user: AsUser, world: World, project: int, ask: Callable[[Api, int, int], object]
) -> None:
    with pytest.raises(requests.HTTPError) as refusal:
        ask(as_user(world.user("stranger")), project, world.image_ids(project)[0])
    assert refusal.value.response.status_code == 403


def test_a_user_sees_the_projects_it_was_granted(as_user: AsUser, world: World, project: int) -> None:
    token = world.user("anna")
    world.project("hidden")
    world.grant(token, project)
    anna = as_user(token)
    assert [one.id for one in anna.project.get_list_all()["entities"]] == [project]
    assert len(anna.image.get_list(project_id=project)) == 7
    with pytest.raises(requests.HTTPError):
        anna.project.update_custom_data(project, {})
    world.revoke(token, project)
    assert anna.project.get_list_all()["entities"] == []


def test_an_instance_may_hide_what_it_denies(as_user: AsUser, world: World, project: int) -> None:
    world.rules.denied_status = 404
    assert as_user(world.user("stranger")).project.get_info_by_id(project) is None
