"""What every source promises, asked of each of them.

A place is a source together with the means to change what it shows; another source joins by a place
of its own in ``PLACES``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import pytest

from daemon.folder import source as folder_source
from daemon.folder.source import FolderSource
from daemon.pictures import content_hash
from state.errors import Inconsistent, Rejected, Unavailable
from state.journal import SqliteJournal
from state.model import FULL, ImageRef, Project, Scope
from state.ports import Source

UNKNOWN = 2**47 + 1


class Place(Protocol):
    """A source, and a hand that changes what is there."""

    source: Source

    def write(self, project: str, name: str, data: bytes) -> None: ...
    def remove(self, project: str, name: str) -> None: ...
    def go_away(self) -> None: ...
    def come_back(self) -> None: ...
    async def restart(self) -> None: ...
    async def close(self) -> None: ...


class FolderPlace:
    """A directory with its journal."""

    def __init__(self, directory: Path) -> None:
        self.root, self.journal_path = directory / "root", directory / "journal.sqlite"
        self.root.mkdir()

    @classmethod
    async def open(cls, directory: Path) -> FolderPlace:
        place = cls(directory)
        await place._start()
        return place

    async def _start(self) -> None:
        self.journal = SqliteJournal(self.journal_path)
        self.source = FolderSource(self.root, self.journal, max_bytes=1_000, settle=0.0)
        await self.source.open()

    async def restart(self) -> None:
        await self.close()
        await self._start()

    async def close(self) -> None:
        await self.source.close()
        await self.journal.close()

    def write(self, project: str, name: str, data: bytes) -> None:
        path = self.root / project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, project: str, name: str) -> None:
        (self.root / project / name).unlink()

    def go_away(self) -> None:
        self.root.rename(self.root.with_name("elsewhere"))

    def come_back(self) -> None:
        self.root.with_name("elsewhere").rename(self.root)


PLACES = {"folder": FolderPlace.open}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = await PLACES[request.param](tmp_path)
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        place.write("cats", name, f"cats {name}".encode())
    place.write("dogs", "d.jpg", b"dogs d.jpg")
    yield place
    await place.close()
    await asyncio.get_running_loop().shutdown_default_executor()


async def named(place: Place, name: str) -> Project:
    return next(project for project in await place.source.survey() if project.name == name)


async def listed(place: Place, name: str, scope: Scope = FULL) -> dict[str, ImageRef]:
    """List a project's images by name, checking what holds of every listing."""
    project = await named(place, name)
    images = [image async for page in place.source.images(project.id, scope) for image in page]
    ids = [image.id for image in images]
    assert ids == sorted(set(ids))
    assert all(image.project_id == project.id for image in images)
    return {image.name: image for image in images}


async def unbounded(size: int) -> None:
    """There is room for everything."""


def only(*images: ImageRef) -> Scope:
    return Scope(ids=frozenset(image.id for image in images))


async def test_a_survey_lists_every_project(place: Place) -> None:
    projects = await place.source.survey()
    assert {project.name for project in projects} == {"cats", "dogs"}
    assert all(project.enabled for project in projects)
    assert all(scope.full or scope.ids or scope.since for scope in projects.values())


async def test_a_project_is_found_by_number_and_by_name_and_no_other_is(place: Place) -> None:
    cats = await named(place, "cats")
    assert await place.source.project(cats.id) == cats
    assert await place.source.project("cats") == cats
    for unknown in (UNKNOWN, -1, "birds", "", "\udcff", "\ud800", "cats/sub", ".."):
        assert await place.source.project(unknown) is None


async def test_a_whole_listing_names_every_image_with_the_hash_of_its_bytes(place: Place) -> None:
    images = await listed(place, "cats")
    assert set(images) == {"a.jpg", "b.jpg", "c.jpg"}
    assert images["a.jpg"].content in (None, content_hash(b"cats a.jpg"))
    assert images["a.jpg"].dataset_id == images["b.jpg"].dataset_id != images["c.jpg"].dataset_id


async def test_the_count_is_that_of_the_listing(place: Place) -> None:
    await listed(place, "cats")
    assert await place.source.count((await named(place, "cats")).id) == 3
    assert await place.source.count(UNKNOWN) == 0


async def test_a_listing_of_some_images_holds_no_others(place: Place) -> None:
    cats, dogs = await listed(place, "cats"), await listed(place, "dogs")
    asked = Scope(ids=frozenset({cats["a.jpg"].id, dogs["d.jpg"].id, UNKNOWN}))
    assert set(await listed(place, "cats", asked)) == {"a.jpg"}
    assert set(await listed(place, "dogs", asked)) == {"d.jpg"}
    assert await listed(place, "cats", Scope(ids=frozenset({UNKNOWN}))) == {}


async def test_images_are_mapped_to_their_projects(place: Place) -> None:
    cats, dogs = await listed(place, "cats"), await listed(place, "dogs")
    ids = {image.id for image in (*cats.values(), *dogs.values())}
    assert await place.source.projects_of([*ids, UNKNOWN]) == {
        cats["a.jpg"].project_id: {image.id for image in cats.values()},
        dogs["d.jpg"].project_id: {dogs["d.jpg"].id},
    }
    assert await place.source.projects_of([]) == {}


@pytest.mark.parametrize("whole", [True, False])
async def test_other_bytes_under_the_same_name_are_seen(place: Place, whole: bool) -> None:
    before = (await listed(place, "cats"))["a.jpg"]
    place.write("cats", "a.jpg", b"something else")
    after = (await listed(place, "cats", FULL if whole else only(before)))["a.jpg"]
    assert after.id == before.id
    assert (after.content, after.updated_at) != (before.content, before.updated_at)


@pytest.mark.parametrize("whole", [True, False])
async def test_an_image_that_is_gone_is_listed_no_more(place: Place, whole: bool) -> None:
    images = await listed(place, "cats")
    place.remove("cats", "a.jpg")
    scope = FULL if whole else only(*images.values())
    assert set(await listed(place, "cats", scope)) == {"b.jpg", "c.jpg"}


async def test_ids_are_the_same_after_a_restart(place: Place) -> None:
    before = await listed(place, "cats")
    await place.restart()
    assert await listed(place, "cats") == before


async def test_a_fetched_picture_is_what_was_listed(place: Place) -> None:
    image = (await listed(place, "cats"))["a.jpg"]
    picture = await place.source.fetch(image, unbounded)
    assert picture.data == b"cats a.jpg"
    assert picture.content == content_hash(picture.data)
    assert picture.route


async def test_a_picture_that_changed_since_it_was_listed_is_not_taken_for_it(place: Place) -> None:
    image = (await listed(place, "cats"))["a.jpg"]
    place.write("cats", "a.jpg", b"something else")
    if image.content is None:
        assert (await place.source.fetch(image, unbounded)).content == content_hash(b"something else")
        return
    with pytest.raises(Inconsistent):
        await place.source.fetch(image, unbounded)
    again = (await listed(place, "cats"))["a.jpg"]
    assert (await place.source.fetch(again, unbounded)).data == b"something else"


async def test_a_picture_that_is_gone_cannot_be_fetched(place: Place) -> None:
    image = (await listed(place, "cats"))["a.jpg"]
    place.remove("cats", "a.jpg")
    with pytest.raises(Inconsistent):
        await place.source.fetch(image, unbounded)


async def test_room_is_made_for_all_of_a_picture_before_it_is_read(place: Place) -> None:
    image = (await listed(place, "cats"))["a.jpg"]
    sizes = []

    async def change_meanwhile(size: int) -> None:
        sizes.append(size)
        place.write("cats", "a.jpg", b"cats B.jpg")

    with pytest.raises(Inconsistent):
        await place.source.fetch(image, change_meanwhile)
    assert max(sizes) == len(b"cats a.jpg")


async def test_a_picture_that_is_too_large_is_rejected(place: Place) -> None:
    place.write("cats", "large.jpg", b"x" * 1_001)
    with pytest.raises(Rejected, match="1000"):
        await place.source.fetch((await listed(place, "cats"))["large.jpg"], unbounded)


async def test_while_the_source_is_away_nothing_is_concluded(place: Place) -> None:
    before = await listed(place, "cats")
    cats = await named(place, "cats")
    place.go_away()
    with pytest.raises(Unavailable):
        await place.source.survey()
    for scope in (FULL, only(*before.values())):
        with pytest.raises((Unavailable, Inconsistent)):
            [page async for page in place.source.images(cats.id, scope)]
    with pytest.raises((Unavailable, Inconsistent)):
        await place.source.fetch(before["a.jpg"], unbounded)
    place.come_back()
    assert await listed(place, "cats") == before


async def test_a_project_that_is_unknown_is_not_taken_for_an_empty_one(place: Place) -> None:
    with pytest.raises(Inconsistent):
        [page async for page in place.source.images(UNKNOWN, FULL)]


async def test_images_that_stay_are_listed_once_whatever_comes_and_goes_meanwhile(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_source, "PAGE", 7)
    names = {f"{number}.jpg" for number in range(60)}
    for name in names:
        place.write("many", name, name.encode())
    project = await named(place, "many")
    stays = {name for name in names if int(name[:-4]) % 3}
    seen: list[str] = []
    number = 0
    async for page in place.source.images(project.id, FULL):
        seen += [image.name for image in page]
        for name in sorted(names - stays)[2 * number : 2 * number + 2]:
            place.remove("many", name)
            place.write("many", f"new {name}", b"new")
        number += 1
        async for _ in place.source.images(project.id, FULL):
            pass
    assert number > 5
    assert len(seen) == len(set(seen))
    assert stays <= set(seen)


async def news_of(changes: AsyncIterator[Mapping[int, Scope]], project_id: int) -> None:
    """Return when there is news of a project."""
    async for marks in changes:
        if project_id in marks:
            return


async def test_news_of_a_change_arrive_once_it_is_listened_for(place: Place) -> None:
    dogs = await named(place, "dogs")
    await listed(place, "dogs")
    async with aclosing(place.source.changes()) as changes, asyncio.timeout(10):
        await anext(changes)
        place.write("dogs", "new.jpg", b"new")
        await news_of(changes, dogs.id)
    assert set(await listed(place, "dogs")) == {"d.jpg", "new.jpg"}


async def test_listening_can_be_ended_and_begun_again(place: Place) -> None:
    for _ in range(2):
        async with aclosing(place.source.changes()) as changes, asyncio.timeout(10):
            await anext(changes)
