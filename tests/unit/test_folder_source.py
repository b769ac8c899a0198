"""The folder as a source: what only a folder can get wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.folder import listing, looking, source
from daemon.folder.scan import Folder
from daemon.folder.source import FolderSource
from daemon.pictures import content_hash
from state.errors import Inconsistent, Rejected, Unavailable
from state.journal import SqliteJournal
from state.model import FULL, ImageRef, Project, Scope

WITHIN = 2.0
"""Seconds in which a change must have become news."""


async def unbounded(size: int) -> None:
    """There is room for everything."""


class World:
    """A folder, its source, and what may happen while the source waits for files to rest."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.root = directory, directory / "root"
        self.root.mkdir()
        self.naps = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def start(self) -> World:
        self.journal = SqliteJournal(self.directory / "journal.sqlite")
        self.source = FolderSource(self.root, self.journal, max_bytes=10_000, settle=0.25, sleep=self.nap)
        await self.source.open()
        return self

    async def stop(self) -> None:
        await self.source.close()
        await self.journal.close()

    async def restart(self, lose_journal: bool = False) -> None:
        await self.stop()
        if lose_journal:
            (self.directory / "journal.sqlite").unlink()
        await self.start()

    async def nap(self, seconds: float) -> None:
        self.naps += 1
        self.meanwhile()
        await asyncio.sleep(0)

    def write(self, name: str | bytes, data: bytes = b"picture") -> Path:
        path = self.root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    async def project(self, name: str) -> Project:
        return next(project for project in await self.source.survey() if project.name == name)

    async def listed(self, name: str = "p", scope: Scope = FULL) -> dict[str, ImageRef]:
        return await self.images((await self.project(name)).id, scope)

    async def images(self, project_id: int, scope: Scope = FULL) -> dict[str, ImageRef]:
        return {image.path: image async for page in self.source.images(project_id, scope) for image in page}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = await World(tmp_path).start()
    yield world
    await world.stop()
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Which files were read to be hashed."""
    paths: list[bytes] = []
    content = Folder.content

    def counting(folder: Folder, path: bytes, stamp: listing.Stamp) -> str:
        paths.append(path)
        return content(folder, path, stamp)

    monkeypatch.setattr(Folder, "content", counting)
    return paths


def ids(images: Collection[ImageRef]) -> Scope:
    return Scope(ids=frozenset(image.id for image in images))


def fail_for(path: bytes, call: Callable[..., object], number: int) -> Callable[..., object]:
    def failing(where: bytes, *args: object, **named: object) -> object:
        if where == path:
            raise OSError(number, os.strerror(number), where)
        return call(where, *args, **named)

    return failing


async def test_no_byte_is_read_again_while_the_stamps_are_the_same(world: World, hashed: list[bytes]) -> None:
    world.write("p/a.jpg")
    world.write("p/b.jpg", b"other")
    before = await world.listed()
    assert sorted(hashed) == [b"p/a.jpg", b"p/b.jpg"]
    await world.restart()
    assert await world.listed() == before
    assert len(hashed) == 2
    world.write("p/b.jpg", b"another")
    await world.listed()
    assert hashed[2:] == [b"p/b.jpg"]


async def test_touching_a_file_reads_it_but_changes_nothing(world: World, hashed: list[bytes]) -> None:
    path = world.write("p/a.jpg")
    before = await world.listed()
    os.utime(path, (1, 1))
    assert await world.listed() == before
    assert len(hashed) == 2


async def test_a_lost_journal_gives_the_same_ids_again(world: World) -> None:
    world.write("p/d/a.jpg")
    before = await world.listed()
    await world.restart(lose_journal=True)
    assert await world.listed() == before


async def test_a_lost_journal_does_not_make_images_look_gone(world: World) -> None:
    world.write("p/a.jpg")
    world.write("p/b.jpg")
    before = await world.listed()
    await world.restart(lose_journal=True)
    assert await world.listed(scope=ids([before["p/a.jpg"]])) == {"p/a.jpg": before["p/a.jpg"]}


async def test_a_look_at_images_known_to_be_gone_costs_no_walk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("p/a.jpg").unlink()
    gone = world.write("p/b.jpg")
    before = await world.listed()
    gone.unlink()
    await world.listed()
    monkeypatch.setattr(Folder, "walk_project", lambda *_: pytest.fail("a walk"))
    assert await world.listed(scope=ids(before.values())) == {}


async def test_a_file_being_written_waits_and_is_never_listed_with_half_its_bytes(world: World) -> None:
    path = world.write("p/a.jpg", b"half")

    def go_on() -> None:
        with path.open("ab") as file:
            file.write(b" and more")

    world.meanwhile = go_on
    assert await world.listed() == {}
    assert await world.listed() == {}
    world.meanwhile = lambda: None
    images = await world.listed()
    assert images["p/a.jpg"].content == content_hash(path.read_bytes())


async def test_a_file_that_changes_while_it_is_hashed_waits_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("p/a.jpg", b"half")
    content = Folder.content

    def slow(folder: Folder, name: bytes, stamp: listing.Stamp) -> str:
        digest = content(folder, name, stamp)
        path.write_bytes(b"half and more")
        return digest

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "content", slow)
        assert await world.listed() == {}
    assert (await world.listed())["p/a.jpg"].content == content_hash(b"half and more")


async def test_a_listed_file_being_rewritten_stays_listed_as_it_was(world: World) -> None:
    path = world.write("p/a.jpg", b"old")
    before = await world.listed()
    path.write_bytes(b"new, half")
    world.meanwhile = lambda: path.write_bytes(path.read_bytes() + b".")
    assert await world.listed() == before


async def test_a_file_that_vanishes_while_it_settles_does_no_harm(world: World) -> None:
    path = world.write("p/a.jpg")
    world.write("p/b.jpg")
    world.meanwhile = lambda: path.unlink(missing_ok=True)
    assert set(await world.listed()) == {"p/b.jpg"}


async def test_files_wait_together_and_not_one_after_the_other(world: World) -> None:
    for number in range(20):
        world.write(f"p/{number}/a.jpg")
    await world.listed()
    assert world.naps == 1
    await world.source.look([f"p/new{number}".encode() for number in range(20)])
    for number in range(20):
        world.write(f"p/new{number}/a.jpg")
    await world.source.look([f"p/new{number}".encode() for number in range(20)])
    assert world.naps == 2


async def test_a_file_moved_during_the_walk_is_found_by_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = world.write("p/late/a.jpg")
    (world.root / "p/early").mkdir()
    before = await world.listed()
    children = Folder._children

    def move(folder: Folder, directory: bytes) -> object:
        yield from sorted(children(folder, directory))
        if directory == b"p/late":
            moving.rename(world.root / "p/early/a.jpg")

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "_children", move)
        await world.listed()
    after = await world.listed()
    assert set(after) == {"p/early/a.jpg"}
    assert after["p/early/a.jpg"].content == before["p/late/a.jpg"].content


@pytest.mark.parametrize(("call", "path"), [("scandir", b"/p"), ("lstat", b"/p/a.jpg")])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
async def test_a_project_whose_own_folder_cannot_be_read_waits_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str, path: bytes, number: int
) -> None:
    world.write("p/a.jpg")
    world.write("p/d/b.jpg")
    before = await world.listed()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail_for(os.fsencode(world.root) + path, getattr(os, call), number))
        with pytest.raises(Unavailable):
            await world.listed()
    assert await world.source.count((await world.project("p")).id) == 2
    assert await world.listed() == before


class Locked:
    """A folder that may not be read while `locked`, as a superuser never sees one."""

    def __init__(self, world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locked = True
        self._path = os.fsencode(world.root / path)
        self._calls = {name: getattr(os, name) for name in ("scandir", "lstat")}
        for name in self._calls:
            monkeypatch.setattr(os, name, partial(self._call, name))

    def _call(self, name: str, where: bytes, *more: object, **named: object) -> object:
        below = isinstance(where, bytes) and where.startswith(self._path + b"/")
        if self.locked and (where == self._path if name == "scandir" else below):
            raise PermissionError(errno.EACCES, "Permission denied", where)
        return self._calls[name](where, *more, **named)


async def test_a_folder_that_may_not_be_read_keeps_what_is_listed_and_delays_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("p/a.jpg", "p/d/b.jpg", "p/d/e/c.jpg", "p/f/g.jpg"):
        world.write(name)
    before = await world.listed()
    project = await world.project("p")
    assert world.source.problem(project.id) is None
    locked = Locked(world, "p/d", monkeypatch)
    world.write("p/new.jpg")
    (world.root / "p/f/g.jpg").unlink()
    after = await world.listed()
    assert set(after) == {"p/a.jpg", "p/d/b.jpg", "p/d/e/c.jpg", "p/new.jpg"}
    assert world.source.problem(project.id) == f"{world.root}/p/d: Permission denied"
    some = [before["p/d/b.jpg"], before["p/a.jpg"], before["p/f/g.jpg"]]
    assert set(await world.listed(scope=ids(some))) == {"p/d/b.jpg", "p/a.jpg"}
    with pytest.raises(Unavailable, match="Permission denied"):
        await world.source.fetch(before["p/d/b.jpg"], unbounded)
    locked.locked = False
    (world.root / "p/d/b.jpg").unlink()
    assert set(await world.listed()) == {"p/a.jpg", "p/d/e/c.jpg", "p/new.jpg"}
    assert world.source.problem(project.id) is None


async def test_a_link_into_a_folder_that_may_not_be_read_is_unknown_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("p/d/a.jpg", "p/f/b.jpg"):
        world.write(name)
    link = world.root / "p/f/link.jpg"
    link.symlink_to("../d/a.jpg")
    assert set(await world.listed()) == {"p/d/a.jpg", "p/f/b.jpg", "p/f/link.jpg"}
    Locked(world, "p/d", monkeypatch)
    monkeypatch.setattr(os, "stat", fail_for(os.fsencode(link), os.stat, errno.EACCES))
    (world.root / "p/f/b.jpg").unlink()
    world.write("p/f/new.jpg")
    assert set(await world.listed()) == {"p/d/a.jpg", "p/f/new.jpg", "p/f/link.jpg"}


async def test_that_the_root_s_own_files_cannot_be_looked_at_is_said_each_time_it_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("loose.jpg")
    default = await world.project("default")
    before = await world.images(default.id)
    with capture_logs() as logs:
        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(os, "lstat", fail_for(os.fsencode(path), os.lstat, errno.EIO))
                with pytest.raises(Unavailable):
                    await world.images(default.id)
            assert await world.images(default.id) == before
    assert [event["event"] for event in logs] == ["folder.unknown"] * 2


async def test_news_of_a_folder_that_may_not_be_read_ends_no_watch_and_forgets_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("p/d/a.jpg")
    before = await world.listed()
    Locked(world, "p/d", monkeypatch)
    assert await world.source.look([b"p/d", b"p/d/a.jpg", b"p/d/b.jpg"]) == {}
    assert await world.listed() == before


async def test_beside_a_folder_that_could_never_be_read_images_that_go_are_known_to_be_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Locked(world, "p/d", monkeypatch)
    world.write("p/d/b.jpg")
    path = world.write("p/a.jpg")
    before = await world.listed()
    assert set(before) == {"p/a.jpg"}
    path.unlink()
    assert await world.listed() == {}
    assert await world.listed(scope=ids(before.values())) == {}


async def test_with_a_lost_journal_what_lies_in_a_folder_that_may_not_be_read_is_not_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("p/d/b.jpg")
    world.write("p/a.jpg")
    before = await world.listed()
    await world.restart(lose_journal=True)
    locked = Locked(world, "p/d", monkeypatch)
    assert set(await world.listed()) == {"p/a.jpg"}
    with pytest.raises(Unavailable, match="Permission denied"):
        await world.listed(scope=ids(before.values()))
    locked.locked = False
    assert await world.listed(scope=ids(before.values())) == before


async def test_with_a_lost_journal_a_file_being_written_is_not_gone(world: World) -> None:
    path = world.write("p/a.jpg")
    before = await world.listed()
    await world.restart(lose_journal=True)
    world.meanwhile = lambda: path.write_bytes(path.read_bytes() + b".")
    with pytest.raises(Unavailable, match="still being written"):
        await world.listed(scope=ids(before.values()))


def mounted(monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
    """Have what lies at and below a path be on a device of its own."""
    monkeypatch.setattr(
        Folder, "_device", lambda _, where: 2 if (where + b"/").startswith(path + b"/") else 1
    )


async def test_a_project_folder_that_is_only_not_mounted_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("p/a.jpg")
    with monkeypatch.context() as patched:
        mounted(patched, b"p")
        before = await world.listed()
    path.rename(world.root / "set_aside")
    for _ in range(2):
        await world.restart()
        with pytest.raises(Unavailable, match="not mounted"):
            await world.listed()
    (world.root / "set_aside").rename(path)
    assert await world.listed() == before


async def test_a_dataset_folder_that_is_only_not_mounted_loses_nothing_and_delays_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("p/disk/a.jpg")
    world.write("p/b.jpg")
    with monkeypatch.context() as patched:
        mounted(patched, b"p/disk")
        before = await world.listed()
    path.rename(world.root / "set_aside")
    world.write("p/c.jpg")
    for _ in range(2):
        await world.restart()
        assert set(await world.listed()) == {"p/disk/a.jpg", "p/b.jpg", "p/c.jpg"}
        problem = world.source.problem((await world.project("p")).id)
        assert problem == f"{world.root}/p/disk: empty, and not mounted any more"
    await world.source.look([b"p/disk/a.jpg", b"p/disk"])
    assert (await world.listed(scope=ids(before.values()))) == before
    (world.root / "p/disk").rmdir()
    assert set(await world.listed()) == {"p/b.jpg", "p/c.jpg"}


async def test_a_dataset_folder_that_was_emptied_where_it_is_mounted_is_empty(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("p/disk/a.jpg")
    mounted(monkeypatch, b"p/disk")
    await world.listed()
    path.unlink()
    assert await world.listed() == {}


async def test_a_folder_that_was_a_mount_once_and_holds_pictures_itself_now_may_be_emptied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("p/disk/a.jpg")
    with monkeypatch.context() as patched:
        mounted(patched, b"p/disk")
        await world.listed()
    await world.listed()
    path.unlink()
    assert await world.listed() == {}


async def test_a_root_lost_in_the_middle_of_a_walk_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("p/a.jpg")
    world.write("p/d/b.jpg")
    before = await world.listed()
    project = await world.project("p")
    children = Folder._children

    def lose(folder: Folder, directory: bytes) -> object:
        if directory == b"p":
            world.root.rename(world.root.with_name("lost"))
        yield from children(folder, directory)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "_children", lose)
        with pytest.raises(Unavailable):
            await world.images(project.id)
    assert await world.source.count(project.id) == 2
    world.root.with_name("lost").rename(world.root)
    assert await world.listed() == before


async def test_an_emptied_root_contradicts_itself(world: World) -> None:
    path = world.write("p/a.jpg")
    project = await world.project("p")
    image = (await world.listed())["p/a.jpg"]
    path.unlink()
    path.parent.rmdir()
    for scope in (FULL, ids([image])):
        with pytest.raises(Inconsistent):
            await world.images(project.id, scope)
    with pytest.raises(Inconsistent):
        await world.source.survey()
    with pytest.raises(Inconsistent):
        await world.source.look([b"p/a.jpg"])
    assert await world.source.count(project.id) == 1


async def test_while_the_root_is_away_its_projects_are_still_known(world: World) -> None:
    world.write("p/a.jpg")
    project = await world.project("p")
    await world.listed()
    world.root.rename(world.root.with_name("away"))
    assert await world.source.project("p") == project
    assert await world.source.project(project.id) == project
    with pytest.raises(Unavailable):
        await world.images(project.id)


async def test_a_renamed_project_is_another_one_with_the_same_contents(world: World) -> None:
    world.write("p/a.jpg")
    old = await world.project("p")
    before = await world.listed()
    (world.root / "p").rename(world.root / "q")
    assert await world.source.project("p") is None
    with pytest.raises(Inconsistent):
        await world.images(old.id)
    after = await world.listed("q")
    assert after["q/a.jpg"].id != before["p/a.jpg"].id
    assert after["q/a.jpg"].content == before["p/a.jpg"].content
    assert {project.name for project in await world.source.survey()} == {"q"}


async def test_datasets_are_folders_within_the_project(world: World) -> None:
    for name in ("p/a.jpg", "p/d/a.jpg", "p/d/b.jpg", "p/d/e/a.jpg", "q/d/a.jpg"):
        world.write(name)
    images = {**await world.listed("p"), **await world.listed("q")}
    datasets = {path: image.dataset_id for path, image in images.items()}
    assert datasets["p/d/a.jpg"] == datasets["p/d/b.jpg"]
    assert len(set(datasets.values())) == 4


async def test_default_holds_the_pictures_of_the_root_and_of_a_folder_called_so(world: World) -> None:
    world.write("p/x.jpg")
    loose = world.write("a.jpg")
    world.write("default/a.jpg")
    images = await world.listed("default")
    assert set(images) == {"a.jpg", "default/a.jpg"}
    assert len({image.dataset_id for image in images.values()}) == 2
    loose.unlink()
    assert set(await world.listed("default")) == {"default/a.jpg"}


async def test_the_last_picture_of_the_root_can_go(world: World) -> None:
    world.write("p/x.jpg")
    loose = world.write("a.jpg")
    project = await world.project("default")
    assert await world.source.project("default") == project
    await world.listed("default")
    loose.unlink()
    assert project in await world.source.survey()
    assert await world.images(project.id) == {}
    assert project not in await world.source.survey()


async def test_of_two_files_with_one_id_the_first_stays_and_both_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_id = listing.path_id
    alike = {b"p/a.jpg", b"p/b.jpg"}
    monkeypatch.setattr(listing, "path_id", lambda path: 7 if path in alike else path_id(path))
    first = world.write("p/a.jpg", b"a")
    await world.listed()
    world.write("p/b.jpg", b"b")
    with capture_logs() as log:
        assert set(await world.listed()) == {"p/a.jpg"}
    (event,) = [event for event in log if event["event"] == "folder.id_collision"]
    assert (event["path"], event["other"]) == ("p/b.jpg", "p/a.jpg")
    first.unlink()
    await world.listed()
    images = await world.listed()
    assert images["p/b.jpg"].content == content_hash(b"b")
    assert len(images) == 1


async def test_names_that_are_no_text_are_listed_fetched_and_found_by_how_they_are_shown(
    world: World,
) -> None:
    world.write(b"\xff\n/\xfe \xf0\x9f\x98\x80\n.jpg", b"odd")
    world.write(b"\\xff/a.jpg", b"backslash")
    odd = next(one for one in await world.source.survey() if one.name == "\\xff\n")
    (image,) = (await world.images(odd.id)).values()
    assert (image.name, image.path) == ("\\xfe 😀\n.jpg", "\\xff\n/\\xfe 😀\n.jpg")
    assert (await world.source.fetch(image, unbounded)).data == b"odd"
    assert await world.source.project("\\xff\n") == odd
    backslash = await world.source.project("\\xff")
    assert backslash is not None
    assert set(await world.images(backslash.id)) == {"\\xff/a.jpg"}


async def test_bytes_that_changed_under_the_same_stamp_are_found_out_by_fetching(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("p/a.jpg")
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "content", lambda *_: "of a moment when the file could not be read")
        image = (await world.listed())["p/a.jpg"]
    with pytest.raises(Inconsistent):
        await world.source.fetch(image, unbounded)
    again = (await world.listed(scope=ids([image])))["p/a.jpg"]
    assert (await world.source.fetch(again, unbounded)).content == content_hash(b"picture")


async def test_a_file_nobody_may_read_is_rejected_and_tried_again_when_that_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.write("p/a.jpg")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail_for(os.fsencode(path), os.open, errno.EACCES))
        image = (await world.listed())["p/a.jpg"]
        with pytest.raises(Rejected):
            await world.source.fetch(image, unbounded)
    path.chmod(0o600)
    again = (await world.listed())["p/a.jpg"]
    assert again.content != image.content
    assert (await world.source.fetch(again, unbounded)).data == b"picture"


async def test_a_folder_with_very_many_files_is_read_and_listed_in_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "STAMPS_AT_ONCE", 10)
    monkeypatch.setattr(looking, "SETTLING_AT_ONCE", 20)
    monkeypatch.setattr(source, "PAGE", 14)
    most = 0
    stamps = listing.stamps

    def watched_stamps(db: object, entries: list[listing.Entry]) -> object:
        nonlocal most
        most = max(most, len(entries))
        return stamps(db, entries)

    monkeypatch.setattr(listing, "stamps", watched_stamps)
    for number in range(200):
        world.write(f"p/{number}.jpg", b"")
    project = await world.project("p")
    sizes = [len(page) async for page in world.source.images(project.id, FULL)]
    assert (sum(sizes), max(sizes), most) == (200, 14, 10)
    assert world.naps == 10


async def test_many_images_are_mapped_to_their_projects_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("p/a.jpg")
    known = (await world.listed())["p/a.jpg"]
    stamp = listing.Stamp(1, 2, 3, 4)
    paths = [f"p/{number}.jpg".encode() for number in range(30_000)]
    entries = await asyncio.to_thread(lambda: [(listing.Entry(path, stamp), "hash") for path in paths])
    await world.journal.run(listing.record, entries)
    asked = [entry.id for entry, _ in entries]
    started = time.process_time()
    found = await world.source.projects_of(asked)
    assert time.process_time() - started < 2
    assert len(found[known.project_id]) == 30_000


async def test_looking_below_a_path_does_not_read_the_whole_table(world: World) -> None:
    statements: list[str] = []
    await world.journal.run(lambda db: db.set_trace_callback(statements.append))
    await world.journal.run(listing.paths_under, listing.BEFORE_ALL, 10, tops=[b"p", b"q"])
    await world.journal.run(lambda db: db.set_trace_callback(None))
    asked = [one for one in statements if one.startswith("SELECT")]
    assert len(asked) == 2
    for statement in asked:
        ((*_, plan),) = await world.journal.run(
            lambda db, statement: db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall(), statement
        )
        assert "folder_files_by_path (path>? AND path<?)" in plan


async def test_closing_does_not_wait_for_files_that_are_not_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, hashing, loop = [], asyncio.Event(), asyncio.get_running_loop()

    def slow(folder: Folder, path: bytes, stamp: listing.Stamp) -> str:
        begun.append(path)
        loop.call_soon_threadsafe(hashing.set)
        time.sleep(0.05)
        return "hash"

    monkeypatch.setattr(Folder, "content", slow)
    for number in range(100):
        world.write(f"p/{number}.jpg")
    project = await world.project("p")
    listed = asyncio.create_task(world.images(project.id))
    await asyncio.wait_for(hashing.wait(), 5)
    listed.cancel()
    await asyncio.wait([listed])
    await world.source.close()
    assert len(begun) < 20


class Watch:
    """News of the folder as they come."""

    def __init__(self, world: World, changes: AsyncIterator[Mapping[int, Scope]]) -> None:
        self._world, self.changes = world, changes

    async def until(self, wanted: set[str]) -> set[str]:
        """Return what the listing holds once it is `wanted`, or what it held when the time was over."""
        names: set[str] = set()
        try:
            async with asyncio.timeout(WITHIN):
                while (names := await self.names()) != wanted:
                    await anext(self.changes)
        except TimeoutError:
            pass
        return names

    async def names(self) -> set[str]:
        rows = await self._world.journal.run(
            lambda db: db.execute("SELECT path, content FROM folder_files").fetchall()
        )
        return {f"{os.fsdecode(path)} {content[:6]}" for path, content in rows}


def named(path: str, data: bytes = b"picture") -> str:
    return f"{path} {content_hash(data)[:6]}"


@pytest.fixture
async def watch(world: World) -> AsyncIterator[Watch]:
    world.write("p/a.jpg")
    await world.source.look([b"p"])
    async with aclosing(world.source.changes()) as changes:
        await anext(changes)
        yield Watch(world, changes)


async def test_files_that_come_change_and_go_are_news_within_two_seconds(world: World, watch: Watch) -> None:
    here = named("p/a.jpg")
    world.write("p/new.jpg", b"1")
    assert await watch.until(wanted := {here, named("p/new.jpg", b"1")}) == wanted
    world.write("p/new.jpg", b"2")
    assert await watch.until(wanted := {here, named("p/new.jpg", b"2")}) == wanted
    (world.root / "p/new.jpg").rename(world.root / "p/renamed.jpg")
    assert await watch.until(wanted := {here, named("p/renamed.jpg", b"2")}) == wanted
    (world.root / "p/renamed.jpg").unlink()
    assert await watch.until({here}) == {here}


async def test_folders_moved_in_renamed_and_moved_out_are_news_within_two_seconds(
    world: World, watch: Watch
) -> None:
    here = named("p/a.jpg")
    outside = world.directory / "outside"
    (outside / "d").mkdir(parents=True)
    (outside / "d/x.jpg").write_bytes(b"x")
    (outside / "y.jpg").write_bytes(b"y")
    outside.rename(world.root / "q")
    assert await watch.until(wanted := {here, named("q/d/x.jpg", b"x"), named("q/y.jpg", b"y")}) == wanted
    (world.root / "q").rename(world.root / "r.jpg")
    wanted = {here, named("r.jpg/d/x.jpg", b"x"), named("r.jpg/y.jpg", b"y")}
    assert await watch.until(wanted) == wanted
    (world.root / "r.jpg").rename(world.root / "s")
    (world.root / "s").rename(outside)
    assert named("s/y.jpg", b"y") not in await watch.until({here})


async def test_a_file_still_being_written_is_news_once_it_rests(world: World, watch: Watch) -> None:
    path = world.write("p/slow.jpg", b"half")
    left = 3

    def go_on() -> None:
        nonlocal left
        if left:
            left -= 1
            with path.open("ab") as file:
                file.write(b"+")

    world.meanwhile = go_on
    wanted = {named("p/a.jpg"), named("p/slow.jpg", b"half+++")}
    assert await watch.until(wanted) == wanted


async def test_files_that_are_no_pictures_are_no_news(world: World, watch: Watch) -> None:
    world.write("p/notes.txt")
    world.write("p/.hidden.jpg")
    world.write("p/.trash/a.jpg")
    world.write("p/b.jpg")
    wanted = {named("p/a.jpg"), named("p/b.jpg")}
    assert await watch.until(wanted) == wanted


async def test_a_name_that_is_no_text_does_not_end_the_watch(world: World, watch: Watch) -> None:
    project = await world.project("p")
    here, odd, new = named("p/a.jpg"), named("p/\udcff.jpg", b"odd"), named("p/b.jpg")
    world.write(b"p/\xff.jpg", b"odd")
    for wanted in ({here, odd}, {here, odd, new}):
        async with asyncio.timeout(5):
            while await watch.names() != wanted:
                marks = await anext(watch.changes)
                if marks.get(project.id) == FULL:
                    await world.listed()
        world.write("p/b.jpg")


async def test_another_directory_in_the_place_of_the_root_is_watched_instead(
    world: World, watch: Watch
) -> None:
    world.root.rename(world.root.with_name("before"))
    world.root.mkdir()
    world.write("p/a.jpg", b"replaced")
    project = await world.project("p")
    async with asyncio.timeout(WITHIN):
        while (await anext(watch.changes)).get(project.id) != FULL:
            pass
    await world.listed()
    world.write("p/b.jpg")
    wanted = {named("p/a.jpg", b"replaced"), named("p/b.jpg")}
    assert await watch.until(wanted) == wanted
