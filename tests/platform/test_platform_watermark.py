"""What moved since a watermark, where many images share its very time and where few do."""

from __future__ import annotations

import pytest
from platform_emulator import Emulator, World

from daemon.platform.client import Client
from daemon.platform.listing import changed_since, whole_project
from daemon.platform.watermark import FEW, Watermark

MANY = 3 * FEW


@pytest.fixture
def imported(world: World) -> int:
    """A project of many images that were written at the same time."""
    return world.project("imported", images=MANY)


async def watermark(client: Client, project_id: int) -> Watermark:
    """Return the watermark after a whole listing, written down and read again."""
    mark = Watermark()
    async for page in whole_project(client, project_id):
        mark = mark.past(page)
    return Watermark.read(str(mark))


async def changed(client: Client, project_id: int, mark: Watermark) -> list[int]:
    return [image.id async for page in changed_since(client, project_id, mark) for image in page]


async def test_nothing_is_listed_where_nothing_moved(
    client: Client, emulator: Emulator, imported: int
) -> None:
    mark = await watermark(client, imported)
    emulator.counters.clear()
    assert await changed(client, imported, mark) == []
    assert (emulator.counters.calls["images.list"], emulator.counters.rows["images.list"]) == (2, 0)


async def test_what_moved_is_listed_once_and_in_order(client: Client, world: World, imported: int) -> None:
    mark = await watermark(client, imported)
    known = world.image_ids(imported)[5:7]
    same_time, later = world.add(world.dataset_ids(imported)[0], count=2, logged=False)
    world.images[same_time].updated_at = world.images[known[0]].updated_at
    world.label([*known, later])
    assert await changed(client, imported, mark) == [*known, same_time, later]


async def test_a_few_of_one_time_are_listed_again_in_one_call(
    client: Client, emulator: Emulator, world: World, imported: int
) -> None:
    latest = world.image_ids(imported)[:FEW]
    world.label(latest)
    mark = await watermark(client, imported)
    emulator.counters.clear()
    assert await changed(client, imported, mark) == latest
    assert emulator.counters.calls["images.list"] == 1


async def test_a_server_that_lists_by_token_alone_tells_what_moved_too(
    client: Client, world: World, imported: int
) -> None:
    mark = await watermark(client, imported)
    world.rules.keyset_allowed = False
    assert await changed(client, imported, mark) == world.image_ids(imported)


async def test_a_watermark_grows_with_what_is_listed_past_it(
    client: Client, world: World, imported: int
) -> None:
    mark = await watermark(client, imported)
    (later,) = world.add(world.dataset_ids(imported)[0], logged=False)
    world.images[later].updated_at = world.images[world.image_ids(imported)[0]].updated_at
    async for page in changed_since(client, imported, mark):
        mark = mark.past(page)
    assert await changed(client, imported, Watermark.read(str(mark))) == []


def test_of_two_watermarks_the_text_that_is_less_covers_more() -> None:
    time, later = "2021-01-22T19:37:50.158Z", "2021-01-22T19:37:50.159Z"
    marks = [Watermark(time, 1, 500), Watermark(time, MANY, 9), Watermark(time, MANY, 10), Watermark(later)]
    assert sorted(map(str, reversed(marks))) == list(map(str, marks))
    assert marks[1].later == later
