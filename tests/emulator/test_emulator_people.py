"""The emulator of the platform, asked by the real SDK: the instance, its people, what happened."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from platform_emulator import Emulator, World
from platform_emulator.fixtures import Api, AsUser

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def test_the_sdk_learns_the_version_of_the_instance(api: Api, world: World) -> None:
    assert api.instance_version == world.version


def test_a_user_is_told_who_it_is(as_user: AsUser, world: World) -> None:
    assert as_user(world.user("anna")).user.get_my_info().login == "anna"


def test_the_access_token_of_the_instance_yields_an_api_token(as_user: AsUser, world: World) -> None:
    answer = as_user(None).post("instance.admin-info", {"accessToken": world.access_token}).json()
    assert answer["apiToken"] == world.admin_token


def test_a_wrong_access_token_yields_nothing(as_user: AsUser) -> None:
    with pytest.raises(requests.HTTPError) as refusal:
        as_user(None).post("instance.admin-info", {"accessToken": "guessed"})
    assert refusal.value.response.status_code == 403


def test_an_internal_address_leads_to_the_same_methods(
    as_user: AsUser, emulator: Emulator, world: World, project: int
) -> None:
    api = as_user(world.admin_token, api_server_address=f"{emulator.address}/public/api")
    api.server_address = "http://outside.invalid"
    assert api.project.get_info_by_id(project).name == "seven"


def test_a_team_shows_its_plan(api: Api, world: World) -> None:
    (team,) = api.team.get_list()
    assert api.team.get_info_by_id(team.id).usage is None
    world.set_plan(team.id, "free")
    assert api.team.get_info_by_id(team.id).usage.plan == "free"


def test_workspaces_are_listed(api: Api, world: World) -> None:
    (workspace,) = api.workspace.get_list(1)
    assert api.workspace.get_info_by_id(workspace.id).id == world.workspace_id


def test_activity_names_what_was_done_to_which_image(api: Api, world: World, project: int) -> None:
    first, second, *_ = world.image_ids(project)
    world.label([first])
    world.disable([second])
    world.restore([second])
    new = world.add(world.dataset_ids(project)[0])
    happened = [(one["action"], one["imageId"]) for one in api.team.get_activity(1) if one["imageId"]]
    assert happened == [
        ("create_image", new[0]),
        ("restore_image", second),
        ("disable_image", second),
        ("create_figure", first),
    ]


def test_activity_is_paged_by_number(api: Api, world: World, project: int) -> None:
    world.rules.per_page = 3
    world.label(world.image_ids(project))
    assert len(api.team.get_activity(1, filter_actions=["create_figure"])) == 7


def test_activity_since_a_date_begins_there(api: Api, world: World, project: int) -> None:
    first, second, *_ = world.image_ids(project)
    world.label([first])
    mark = api.team.get_activity(1)[0]["date"]
    world.label([second])
    ids = [one["imageId"] for one in api.team.get_activity(1, start_date=mark)]
    assert ids == [second, first]


def test_the_world_is_worked_over_http(emulator: Emulator, world: World) -> None:
    def operate(operation: str, **arguments: Any) -> Any:
        url = f"{emulator.address}/emulator/{operation}"
        return requests.post(url, json=arguments, timeout=5).json()["result"]

    dataset = operate("dataset", project_id=operate("project", name="by hand"), name="images")
    assert operate("add", dataset_id=dataset, count=3) == list(world.images)
    assert requests.post(f"{emulator.address}/emulator/caller", json={}, timeout=5).status_code == 404


def test_faults_and_counters_are_reached_over_http(api: Api, emulator: Emulator, project: int) -> None:
    url = f"{emulator.address}/emulator"
    requests.post(
        f"{url}/faults", json={"match": "projects.info", "kind": "status", "times": None}, timeout=5
    )
    with pytest.raises(requests.exceptions.RetryError):
        api.project.get_info_by_id(project)
    requests.delete(f"{url}/faults", timeout=5)
    assert api.project.get_info_by_id(project).id == project
    assert requests.get(f"{url}/counters", timeout=5).json()["callers"]["projects.info by admin"] == 2
