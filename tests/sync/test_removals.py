from __future__ import annotations

import asyncio

import pytest
from sync_pictures import picture
from sync_world import World

from daemon.removals import PATIENCE
from state.model import FULL

DAY = 24 * 3600.0

ON_A_PLATFORM = pytest.mark.parametrize("source", ["platform"], indirect=True)


@pytest.fixture
async def images(world: World) -> list[int]:
    """Sixty pictures that are embedded."""
    images = world.source.add_many(map(picture, range(60)))
    await world.sweep()
    return images


async def test_a_deleted_image_leaves_the_store(world: World, images: list[int]) -> None:
    world.source.delete(images[7])
    await world.sweep(6)
    assert world.stored() == world.wanted()


async def test_a_deleted_image_that_is_announced_leaves_the_store(world: World, images: list[int]) -> None:
    world.source.delete(images[7])
    await world.look(images[7])
    await asyncio.sleep(6)
    assert world.stored() == world.wanted()


@pytest.mark.parametrize("fault", ["partial", "unavailable", "empty"])
@pytest.mark.parametrize("project_size", [1, 5])
async def test_a_listing_that_was_not_whole_removes_nothing(
    world: World, fault: str, project_size: int
) -> None:
    world.source.add_many(map(picture, range(project_size)))
    await world.sweep()
    world.source.faults.append(fault)
    await world.sweep(120)
    assert len(world.stored()) == project_size


@pytest.mark.parametrize("fault", ["partial", "unavailable", "empty"])
async def test_an_answer_about_some_images_that_was_not_whole_removes_nothing(
    world: World, images: list[int], fault: str
) -> None:
    world.source.faults.append(fault)
    await world.look(*images[:5])
    await asyncio.sleep(120)
    assert len(world.stored()) == 60


async def test_an_image_that_is_back_at_the_second_look_is_kept(world: World, images: list[int]) -> None:
    world.encoder.seconds = 20.0
    world.source.add(picture(99), 2)
    file = world.source.files[images[7]]
    world.source.delete(images[7])
    await world.look_at_all_of(2, 1)
    world.source.files[images[7]] = file
    await asyncio.sleep(60)
    assert len(world.stored()) == 60


async def test_removals_wait_for_projects_that_might_reuse_the_vectors(
    world: World, images: list[int]
) -> None:
    world.encoder.seconds = 20.0
    world.source.add(picture(99), 2)
    world.source.delete(images[7])
    await world.look_at_all_of(2, 1)
    await asyncio.sleep(18)
    assert len(world.stored()) == 60
    await asyncio.sleep(2)
    assert world.stored() == world.wanted()


async def test_removals_do_not_wait_longer_than_their_patience(world: World, images: list[int]) -> None:
    world.encoder.seconds = 1000.0
    world.source.add(picture(99), 2)
    world.source.delete(images[7])
    await world.look_at_all_of(2, 1)
    await asyncio.sleep(PATIENCE - 1)
    assert len(world.stored()) == 60
    await asyncio.sleep(1)
    assert world.stored() == world.wanted()


async def test_the_copies_of_a_picture_outlive_it(world: World, images: list[int]) -> None:
    copy = world.source.copy(images[0], 2, "copy.png")
    world.source.delete(images[0])
    await world.sweep(6)
    assert copy in world.stored(2)
    assert world.stored() == world.wanted()
    assert world.encoded == 60


@ON_A_PLATFORM
class TestWhenMuchVanishesAtOnce:
    async def test_it_is_held(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        await world.sweep(55)
        assert len(world.stored()) == 60
        assert await world.held() == 55

    async def test_it_goes_when_a_listing_a_minute_later_says_the_same(
        self, world: World, images: list[int]
    ) -> None:
        world.source.delete(*images[:55])
        await world.sweep(70)
        assert world.stored() == world.wanted()
        assert await world.held() == 0

    async def test_waiting_for_that_listing_costs_no_other(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        before = world.source.calls["full"]
        await world.sweep(70)
        assert world.source.calls["full"] == before + len(world.source.projects) + 1

    async def test_a_restart_does_not_forget_it(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        await world.sweep()
        await asyncio.sleep(61)
        await world.stop()
        await world.start()
        await asyncio.sleep(6)
        assert world.stored() == world.wanted()

    async def test_a_clock_that_is_set_back_does_not_delay_it(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        await world.sweep()
        world.ahead -= 10 * DAY
        await asyncio.sleep(200)
        assert world.stored() == world.wanted()

    async def test_it_is_let_go_when_it_comes_back(self, world: World, images: list[int]) -> None:
        files = {image: world.source.files[image] for image in images[:55]}
        world.source.delete(*files)
        await world.sweep()
        world.source.files.update(files)
        await asyncio.sleep(120)
        assert len(world.stored()) == 60
        assert await world.held() == 0
        assert world.encoded == 60

    async def test_it_stays_when_a_person_says_so(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        await world.sweep()
        assert await world.daemon.controller.cancel_removals(1, None) == 55
        for _ in range(3):
            await world.sweep(120)
        assert len(world.stored()) == 60

    async def test_it_is_forgotten_with_its_project(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        await world.sweep()
        world.source.hidden.add(1)
        await world.sweep(DAY)
        await world.sweep()
        assert world.stored() == {}
        assert await world.held() == 0

    async def test_it_goes_at_once_when_a_person_says_so(self, world: World, images: list[int]) -> None:
        world.source.delete(*images[:55])
        await world.sweep()
        assert await world.daemon.controller.confirm_removals(1, images[:50]) == 50
        await asyncio.sleep(6)
        assert len(world.stored()) == 10
        assert await world.held() == 5


@pytest.mark.parametrize("source", ["folder"], indirect=True)
async def test_files_that_are_gone_under_a_readable_root_are_not_held(
    world: World, images: list[int]
) -> None:
    world.source.delete(*images)
    await world.sweep()
    assert world.stored() == {}


class TestWhenAProjectIsGone:
    @pytest.fixture(autouse=True)
    async def _gone(self, world: World, images: list[int]) -> None:
        world.source.add(picture(99), 2)
        await world.sweep()
        world.source.hidden.add(1)
        await self._survey(world)

    async def _survey(self, world: World) -> None:
        world.daemon.surveys.want()
        await asyncio.sleep(1)

    async def test_it_is_kept_for_a_day_however_many_surveys_lack_it(self, world: World) -> None:
        for _ in range(5):
            await asyncio.sleep(DAY / 6)
            await self._survey(world)
        assert len(world.stored()) == 60

    async def test_after_a_day_the_second_survey_removes_it(self, world: World) -> None:
        await asyncio.sleep(DAY)
        assert len(world.stored()) == 60
        await self._survey(world)
        assert world.stored() == {}
        assert len(world.stored(2)) == 1

    async def test_after_a_restart_too(self, world: World) -> None:
        await world.stop()
        await asyncio.sleep(DAY)
        await world.start()
        await asyncio.sleep(1)
        assert world.stored() == {}

    async def test_it_costs_nothing_when_it_comes_back(self, world: World) -> None:
        await asyncio.sleep(DAY)
        world.source.hidden.clear()
        await self._survey(world)
        world.source.hidden.add(1)
        await self._survey(world)
        assert len(world.stored()) == 60
        assert world.encoded == 61

    async def test_a_source_without_any_project_proves_nothing(self, world: World) -> None:
        world.source.hidden |= {2, 3}
        for _ in range(3):
            await asyncio.sleep(DAY)
            await self._survey(world)
        assert len(world.stored()) == 60

    async def test_news_of_it_tells_at_once_that_it_came_or_went(self, world: World) -> None:
        for gone in (False, True):
            (world.source.hidden.add if gone else world.source.hidden.discard)(1)
            world.daemon.controller.mark(1, FULL)
            await asyncio.sleep(2)
            assert [one.gone for one in await world.daemon.controller.status(1)] == [gone]
