from __future__ import annotations

import asyncio
import gc
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from platform_emulator import Emulator, Fault, World
from platform_emulator.fixtures import Api, AsUser

from daemon.platform.client import Client
from daemon.platform.publishing import Collections, key_of
from state.errors import Inconsistent, Invisible, Unavailable, UnknownCaller
from state.model import Hit, StoredImage

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

ADD, FILL, LIST, REMOVE = (
    f"entities-collections.{method}" for method in ("add", "items.bulk.add", "list", "remove")
)


@pytest.fixture
def collections(client: Client) -> Collections:
    return Collections(client)


@pytest.fixture
def hers(as_user: AsUser, anna: str) -> Api:
    """The SDK with anna's token."""
    return as_user(anna)


def hits(ids: Sequence[int]) -> list[Hit]:
    """Return hits with scores that fall from 1."""
    images = [StoredImage(one, 0, 0, f"{one}.jpg", f"hash {one}") for one in ids]
    return [Hit(image, 1.0 - place / 10_000) for place, image in enumerate(images)]


async def names_and_keys(api: Api, project_id: int) -> list[tuple[int, str, str]]:
    found = await asyncio.to_thread(
        api.entities_collection.get_list, project_id, with_meta=True, collection_type="aiSearch"
    )
    return [(one.id, one.name, one.ai_search_key) for one in found]


async def scores(api: Api, collection_id: int) -> dict[int, Any]:
    found = await asyncio.to_thread(
        api.entities_collection.get_items, collection_id, "entities_ai_search_collection"
    )
    return {image.id: image.ai_search_meta for image in found}


def slowly_filling(emulator: Emulator) -> asyncio.Event:
    """Make the next filling of a collection take half a second; the event says when it begins."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    emulator.faults.add(Fault(FILL, "call", action=lambda: loop.call_soon_threadsafe(begun.set)))
    emulator.faults.add(Fault(FILL, "latency", seconds=0.5))
    return begun


def several_allowed(world: World) -> None:
    world.rules.collection_names_are_unique = False


def keys_unique(world: World) -> None:
    world.rules.collection_keys_are_unique = True


def names_unique(world: World) -> None:
    """Leave the rules as they are."""


SERVERS = pytest.mark.parametrize("rules", [several_allowed, names_unique, keys_unique])


async def test_a_search_is_left_with_its_scores(
    collections: Collections, hers: Api, world: World, anna: str, project: int
) -> None:
    wanted = hits(world.image_ids(project)[:3])
    made = await collections.publish("search", project, anna, wanted)
    whose = json.dumps({"project_id": project, "user_token": anna}, sort_keys=True)
    key = hashlib.md5(whose.encode()).hexdigest()
    assert await names_and_keys(hers, project) == [(made, f"AI Search Collection: {key}", key)]
    assert await scores(hers, made) == {hit.image.id: {"score": hit.score} for hit in wanted}
    assert list(world.collections[made].items) == [hit.image.id for hit in wanted]


async def test_a_diverse_selection_is_left_without_meta(
    collections: Collections, hers: Api, world: World, anna: str, project: int
) -> None:
    ids = world.image_ids(project)[:3]
    made = await collections.publish("diverse", project, anna, hits(ids))
    key = key_of(project, anna)
    assert await names_and_keys(hers, project) == [(made, f"Diverse Collection: {key}", key)]
    assert await scores(hers, made) == dict.fromkeys(ids)


@SERVERS
async def test_each_answer_takes_the_place_of_the_last(
    collections: Collections, hers: Api, world: World, anna: str, project: int, rules: Any
) -> None:
    rules(world)
    ids = world.image_ids(project)
    for kind, part in [("search", ids[:2]), ("search", ids[2:4]), ("diverse", ids[4:6]), ("search", ids)]:
        made = await collections.publish(kind, project, anna, hits(part))
        assert [number for number, _, _ in await names_and_keys(hers, project)] == [made]
        assert sorted(world.collections[made].items) == part
    assert list(world.collections) == [made]


async def test_the_new_one_is_whole_before_the_old_one_goes(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    world = emulator.world
    several_allowed(world)
    old = await collections.publish("search", project, anna, hits(world.image_ids(project)[:1]))
    there: list[list[int]] = []
    emulator.faults.add(
        Fault(REMOVE, "call", action=lambda: there.append([len(c.items) for c in world.collections.values()]))
    )
    new = await collections.publish("search", project, anna, hits(world.image_ids(project)))
    assert there == [[1, 7]]
    assert list(world.collections) == [new]
    assert new != old


@SERVERS
async def test_searches_of_one_caller_at_once_end_with_one_whole_collection(
    collections: Collections, hers: Api, world: World, anna: str, project: int, rules: Any
) -> None:
    rules(world)
    ids = world.image_ids(project)
    parts = [ids[:number] for number in range(1, 8)]
    made = await asyncio.gather(*(collections.publish("search", project, anna, hits(part)) for part in parts))
    [(left, _, _)] = await names_and_keys(hers, project)
    assert left in made
    assert sorted(world.collections[left].items) == parts[made.index(left)]


async def test_callers_and_projects_do_not_touch_each_others_collections(
    collections: Collections, world: World, anna: str, stranger: str, project: int
) -> None:
    other = world.project("other", images=2)
    for token in (anna, stranger):
        for number in (project, other):
            world.grant(token, number)
    asked = [(token, number) for token in (anna, stranger) for number in (project, other)]
    made = await asyncio.gather(
        *(
            collections.publish("search", number, token, hits(world.image_ids(number)))
            for token, number in asked
        )
    )
    assert sorted(world.collections) == sorted(made)
    assert len({key_of(number, token) for token, number in asked}) == 4


async def test_callers_do_not_wait_for_each_other(
    collections: Collections, emulator: Emulator, anna: str, stranger: str, project: int
) -> None:
    world = emulator.world
    world.grant(stranger, project)
    filling = slowly_filling(emulator)
    slow = asyncio.create_task(collections.publish("search", project, anna, hits(world.image_ids(project))))
    await filling.wait()
    await collections.publish("search", project, stranger, hits(world.image_ids(project)))
    assert not slow.done()
    await slow


@SERVERS
async def test_what_a_crash_left_is_cleaned_up(
    collections: Collections, hers: Api, world: World, anna: str, project: int, rules: Any
) -> None:
    key, ids = key_of(project, anna), world.image_ids(project)
    several_allowed(world)
    for name in (f"AI Search Collection: {key}", f"Diverse Collection: {key}", "of another version"):
        await asyncio.to_thread(
            hers.entities_collection.create, project, name, type="aiSearch", ai_search_key=key
        )
    world.rules.collection_names_are_unique = True
    rules(world)
    made = await collections.publish("search", project, anna, hits(ids))
    assert [number for number, _, _ in await names_and_keys(hers, project)] == [made]
    assert sorted(world.collections[made].items) == ids


async def test_collections_that_people_made_stay(
    collections: Collections, hers: Api, world: World, anna: str, project: int
) -> None:
    mine = await asyncio.to_thread(hers.entities_collection.create, project, "mine")
    other = await asyncio.to_thread(
        hers.entities_collection.create, project, "other", type="aiSearch", ai_search_key="another"
    )
    made = [await collections.publish("search", project, anna, hits(world.image_ids(project))) for _ in "12"]
    assert list(world.collections) == [mine.id, other.id, made[-1]]


async def test_a_large_answer_is_added_in_batches(
    collections: Collections, hers: Api, emulator: Emulator, anna: str
) -> None:
    world = emulator.world
    large = world.project("large", images=2_500)
    world.grant(anna, large)
    wanted = hits(world.image_ids(large)[::-1])
    made = await collections.publish("search", large, anna, wanted)
    assert emulator.counters.calls[FILL] == 3
    assert list(world.collections[made].items) == [hit.image.id for hit in wanted]
    assert await scores(hers, made) == {hit.image.id: {"score": hit.score} for hit in wanted}


@pytest.mark.parametrize("rest_is_added", [False, True])
@pytest.mark.parametrize("kind", ["search", "diverse"])
async def test_an_image_deleted_meanwhile_is_dropped_and_the_rest_kept(
    collections: Collections, emulator: Emulator, anna: str, project: int, kind: str, rest_is_added: bool
) -> None:
    world = emulator.world
    world.rules.rest_is_added_when_some_are_missing = rest_is_added
    ids = world.image_ids(project)
    world.delete(ids[1:3])
    made = await collections.publish(kind, project, anna, hits(ids))
    assert list(world.collections[made].items) == [ids[0], *ids[3:]]
    assert emulator.counters.calls[FILL] == (1 if rest_is_added else 2)


async def test_images_deleted_one_by_one_while_they_are_added_are_dropped(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    ids = emulator.world.image_ids(project)
    for place in range(3):
        emulator.faults.add(
            Fault(FILL, "call", skip=place, action=lambda gone=ids[place]: emulator.world.delete([gone]))
        )
    made = await collections.publish("search", project, anna, hits(ids))
    assert list(emulator.world.collections[made].items) == ids[3:]


async def test_when_every_image_is_gone_the_collection_is_empty(
    collections: Collections, world: World, anna: str, project: int
) -> None:
    ids = world.image_ids(project)
    world.delete(ids)
    made = await collections.publish("search", project, anna, hits(ids))
    assert world.collections[made].items == {}


@pytest.mark.parametrize("method", [ADD, FILL, LIST, REMOVE])
@pytest.mark.parametrize(
    "fault",
    [{"kind": "status", "status": 429}, {"kind": "status", "status": 500}, {"kind": "reset"}],
    ids=str,
)
async def test_a_server_in_trouble_is_unavailable_and_the_old_answer_stays(
    collections: Collections, emulator: Emulator, anna: str, project: int, method: str, fault: dict[str, Any]
) -> None:
    world = emulator.world
    several_allowed(world)
    ids = world.image_ids(project)
    old = await collections.publish("search", project, anna, hits(ids[:2]))
    emulator.faults.add(Fault(method, times=None, **fault))
    with pytest.raises(Unavailable):
        await collections.publish("search", project, anna, hits(ids))
    assert sorted(world.collections[old].items) == ids[:2]
    emulator.faults.clear()
    made = await collections.publish("search", project, anna, hits(ids))
    assert list(world.collections) == [made]


@pytest.mark.parametrize("method", [ADD, FILL, LIST, REMOVE])
@SERVERS
async def test_an_answer_lost_on_the_way_does_no_harm(
    collections: Collections, emulator: Emulator, anna: str, project: int, method: str, rules: Any
) -> None:
    world = emulator.world
    rules(world)
    ids = world.image_ids(project)
    await collections.publish("search", project, anna, hits(ids[:2]))
    emulator.faults.add(Fault(method, "truncated"))
    made = await collections.publish("search", project, anna, hits(ids))
    assert list(world.collections) == [made]
    assert sorted(world.collections[made].items) == ids


async def test_what_did_not_become_whole_is_taken_away(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    emulator.faults.add(Fault(FILL, "status", times=None))
    with pytest.raises(Unavailable):
        await collections.publish("search", project, anna, hits(emulator.world.image_ids(project)))
    assert emulator.world.collections == {}


async def test_a_publication_given_up_leaves_no_half_of_it(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    filling = slowly_filling(emulator)
    giving_up = asyncio.create_task(
        collections.publish("search", project, anna, hits(emulator.world.image_ids(project)))
    )
    await filling.wait()
    giving_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving_up
    assert emulator.world.collections == {}


async def test_a_listing_that_never_adds_up_is_said_to(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    ids = emulator.world.image_ids(project)
    await collections.publish("search", project, anna, hits(ids))
    emulator.faults.add(Fault(LIST, "early_end", times=2))
    several_allowed(emulator.world)
    made = await collections.publish("search", project, anna, hits(ids))
    assert list(emulator.world.collections) == [made]
    emulator.faults.add(Fault(LIST, "early_end", times=None))
    with pytest.raises(Inconsistent):
        await collections.publish("search", project, anna, hits(ids))


async def test_a_listing_of_many_pages_is_read_whole(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    world = emulator.world
    several_allowed(world)
    ids = world.image_ids(project)
    for _ in "12":
        await collections.publish("search", project, anna, hits(ids))
    tokens = [world.user(f"user {number}") for number in range(5)]
    for token in tokens:
        world.grant(token, project)
        await collections.publish("search", project, token, hits(ids[:1]))
    world.rules.per_page = world.rules.max_per_page = 2
    await collections.publish("search", project, tokens[-1], hits(ids))
    assert len(world.collections) == 6


async def test_who_may_no_longer_see_the_project_leaves_and_learns_nothing(
    collections: Collections, world: World, stranger: str, project: int
) -> None:
    for number in (project, 999_999):
        with pytest.raises(Invisible):
            await collections.publish("search", number, stranger, hits([1]))
    with pytest.raises(UnknownCaller):
        await collections.publish("search", project, "guessed", hits([1]))
    assert world.collections == {}


@pytest.mark.parametrize("status", [400, 403])
async def test_a_reader_who_may_leave_nothing_gets_no_collection(
    collections: Collections, emulator: Emulator, anna: str, project: int, status: int
) -> None:
    emulator.faults.add(Fault(ADD, "status", status=status, times=None))
    ids = emulator.world.image_ids(project)
    assert await collections.publish("search", project, anna, hits(ids)) is None


async def test_the_daemons_own_token_leaves_nothing(
    collections: Collections, emulator: Emulator, anna: str, project: int
) -> None:
    for kind in ("search", "diverse"):
        await collections.publish(kind, project, anna, hits(emulator.world.image_ids(project)))
    assert {login for _, login in emulator.counters.callers} == {"anna"}


async def test_nothing_is_kept_of_callers_who_wait_no_more(
    collections: Collections, world: World, anna: str, project: int
) -> None:
    await collections.publish("search", project, anna, hits(world.image_ids(project)))
    gc.collect()
    assert len(collections._locks) == 0
