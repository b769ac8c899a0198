"""Faults on command, as the real SDK suffers them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from platform_emulator import Emulator, Fault, World
from platform_emulator.fixtures import Api, AsUser

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def test_too_many_requests_are_tried_again_when_the_platform_says(
    as_user: AsUser, emulator: Emulator, world: World, project: int
) -> None:
    emulator.faults.add(Fault("projects.info", "status", status=429, retry_after=1))
    started = time.monotonic()
    assert as_user(world.admin_token, tries=2).project.get_info_by_id(project).name == "seven"
    assert time.monotonic() - started >= 1
    assert emulator.counters.calls["projects.info"] == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault("images.*", "status", times=2, status=500),
        Fault("images.*", "html", times=2, status=502),
        Fault("images.*", "reset", times=2),
        Fault("images.*", "cut", times=2),
    ],
    ids=lambda fault: fault.kind,
)
def test_faults_that_pass_are_survived_by_retries(
    as_user: AsUser, emulator: Emulator, world: World, project: int, fault: Fault
) -> None:
    emulator.faults.add(fault)
    assert len(as_user(world.admin_token, tries=3).image.get_list(project_id=project)) == 7
    assert emulator.counters.calls["images.list"] == 3


@pytest.mark.parametrize("kind", ["truncated", "html"])
def test_a_good_status_over_a_bad_body_is_not_tried_again(
    as_user: AsUser, emulator: Emulator, world: World, project: int, kind: Any
) -> None:
    emulator.faults.add(Fault("images.list", kind, status=200))
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        as_user(world.admin_token, tries=3).image.get_list(project_id=project)
    assert emulator.counters.calls["images.list"] == 1


def test_an_answer_can_be_late(api: Api, emulator: Emulator, project: int) -> None:
    emulator.faults.add(Fault("projects.info", "latency", seconds=0.3))
    started = time.monotonic()
    api.project.get_info_by_id(project)
    assert time.monotonic() - started >= 0.3


def test_a_listing_can_end_early(api: Api, emulator: Emulator, world: World, project: int) -> None:
    world.rules.per_page = 4
    emulator.faults.add(Fault("images.list", "early_end", skip=1, keep=0))
    with pytest.raises(RuntimeError, match="some items are missed"):
        api.image.get_list(project_id=project)


def test_a_listing_can_be_empty_and_say_so(api: Api, emulator: Emulator, project: int) -> None:
    emulator.faults.add(Fault("images.list", "empty"))
    assert api.image.get_list(project_id=project) == []
    assert len(api.image.get_list(project_id=project)) == 7


def test_a_listing_can_change_between_its_pages(
    api: Api, emulator: Emulator, world: World, project: int
) -> None:
    world.rules.per_page = 3
    ids = world.image_ids(project)
    emulator.faults.add(Fault("images.list", "call", skip=1, action=lambda: world.delete(ids[:1])))
    with pytest.raises(RuntimeError, match="some items are missed"):
        api.image.get_list(project_id=project)


def test_a_fault_strikes_as_often_as_its_seed_says(world: World) -> None:
    def struck(seed: int) -> list[bool]:
        with Emulator(World(), seed=seed) as emulator:
            emulator.faults.add(Fault("instance.version", "status", times=None, probability=0.5))
            url = f"{emulator.address}/public/api/v3/instance.version"
            return [requests.post(url, json={}, timeout=5).ok for _ in range(20)]

    assert struck(1) == struck(1)
    assert 0 < sum(struck(1)) < 20


def test_a_picture_can_be_away_too(api: Api, emulator: Emulator, world: World, project: int) -> None:
    image = api.image.get_info_by_id(world.image_ids(project)[0])
    emulator.faults.add(Fault("storage", "status", status=503))
    assert requests.get(image.full_storage_url, timeout=5).status_code == 503
    assert requests.get(image.full_storage_url, timeout=5).ok
