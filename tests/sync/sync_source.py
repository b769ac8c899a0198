"""A source with pictures that come, change, move and go, in the manner of a folder or of a platform."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count

from sync_pictures import content_of

from state.errors import Inconsistent, Unavailable
from state.model import FULL, ImageRef, Picture, Project, Scope
from state.ports import Reserve


@dataclass(frozen=True)
class File:
    """One picture. A hash is withheld for a link: then only `updated_at` says that it changed."""

    id: int
    project_id: int
    dataset_id: int
    name: str
    data: bytes
    link: bool = False
    updated_at: str = ""

    @property
    def path(self) -> str:
        return f"{self.project_id}/{self.dataset_id}/{self.name}"

    @property
    def ref(self) -> ImageRef:
        content = None if self.link else content_of(self.data)
        return ImageRef(
            self.id, self.project_id, self.dataset_id, self.name, content, self.path, self.updated_at
        )


class FakeSource:
    """In the manner of a folder an image's id follows from its path; a platform's image keeps its id.

    :param proves_absence: whether it is a folder
    :ivar hidden: projects that have vanished
    :ivar faults: what befalls the next listings that are not empty, one each: before its last page one
        is found to be ``partial``, or the source to be ``unavailable``; or it is ``empty``
    :ivar unreachable: images whose picture cannot be had
    :ivar ages: how often each image was touched, for whoever wants to know whether it was
    :ivar calls: listings by kind, and other calls
    :ivar seen: the bytes of every picture that ever was there
    """

    identity = "fake"
    fallback_routes: frozenset[str] = frozenset()
    page_size = 2

    def __init__(self, proves_absence: bool = True) -> None:
        self.proves_absence = proves_absence
        self.delivers_whole = True
        self.projects = {number: Project(number, f"project {number}") for number in (1, 2, 3)}
        self.hidden: set[int] = set()
        self.files: dict[int, File] = {}
        self.faults: list[str] = []
        self.down = False
        self.unreachable: set[int] = set()
        self.ages: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self.seen: set[bytes] = set()
        self._ids: dict[str, int] = {}
        self._numbers = count(1)
        self._news: list[Mapping[int, Scope]] = []
        self._told = asyncio.Event()
        self._time = 0
        self._surveyed = 0

    # What people do to it.

    def add(
        self, data: bytes, project_id: int = 1, name: str = "", dataset: int = 0, link: bool = False
    ) -> int:
        """Put a picture there; a folder's file of that name is overwritten."""
        name = name or f"{next(self._numbers)}.png"
        return self._put(File(0, project_id, 10 * project_id + dataset, name, data, link))

    def add_many(self, pictures: Iterable[bytes], project_id: int = 1) -> list[int]:
        return [self.add(data, project_id) for data in pictures]

    def replace(self, image_id: int, data: bytes) -> int:
        return self._put(replace(self.files[image_id], data=data), image_id)

    def rename(self, image_id: int, name: str) -> int:
        return self._put(replace(self.files[image_id], name=name), image_id)

    def move(self, image_id: int, project_id: int, dataset: int = 0) -> int:
        there = 10 * project_id + dataset
        return self._put(replace(self.files[image_id], project_id=project_id, dataset_id=there), image_id)

    def copy(self, image_id: int, project_id: int, name: str) -> int:
        there = 10 * project_id
        return self._put(replace(self.files[image_id], project_id=project_id, dataset_id=there, name=name))

    def label(self, image_id: int) -> int:
        return self._put(self.files[image_id], image_id)

    def delete(self, *image_ids: int) -> None:
        for image_id in image_ids:
            del self.files[image_id]
            self.ages[image_id] += 1

    def announce(self, *image_ids: int, project_ids: Collection[int] = ()) -> None:
        """Send the news that these images changed, to the projects they are in and to others."""
        wanted = {self.files[one].project_id for one in image_ids if one in self.files} | {*project_ids}
        if image_ids:
            self._news.append({one: Scope(ids=frozenset(image_ids)) for one in wanted})
            self._told.set()

    def _put(self, file: File, was: int | None = None) -> int:
        if was is None or self.proves_absence:
            key = file.path if self.proves_absence else str(next(self._numbers))
            image_id = self._ids.setdefault(key, len(self._ids) + 1)
        else:
            image_id = was
        if was not in (None, image_id):
            self.delete(was)
        self._time += 1
        self.ages[image_id] += 1
        self.files[image_id] = replace(file, id=image_id, updated_at=f"{self._time:08}")
        self.seen.add(file.data)
        return image_id

    def visible(self) -> dict[int, File]:
        """The pictures of projects that are there."""
        return {one: file for one, file in self.files.items() if file.project_id not in self.hidden}

    # What the daemon asks of it.

    async def survey(self) -> Mapping[Project, Scope]:
        await self._answer("survey")
        scope = FULL if self.proves_absence else Scope(since=f"{self._surveyed:08}")
        self._surveyed = self._time
        return {one: scope for number, one in self.projects.items() if number not in self.hidden}

    async def project(self, ref: int | str) -> Project | None:
        await self._answer("project")
        number = ref if isinstance(ref, int) else int(ref.split()[-1])
        return None if number in self.hidden else self.projects.get(number)

    async def projects_of(self, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
        raise NotImplementedError

    async def count(self, project_id: int) -> int:
        return sum(file.project_id == project_id for file in self.files.values())

    async def images(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        kind = "full" if scope.full else "ids" if scope.ids else "since"
        await self._answer(kind)
        fault = self.faults.pop(0) if self.faults and self._of(project_id, scope) else ""
        if project_id in self.hidden or (fault == "empty" and self.proves_absence):
            raise Inconsistent("the project's folder is gone")
        if fault == "empty" and scope.full:
            return
        last, listed = -1, 0
        while page := self._page(project_id, scope, last):
            last = page[-1].id
            if fault and not self._page(project_id, scope, last):
                break
            yield [file.ref for file in page]
            listed += len(page)
            await self._answer("page")
        if fault == "unavailable":
            raise Unavailable("source", "connection reset")
        whole = len(self._of(project_id, scope))
        if fault or (listed != whole and not self.proves_absence):
            raise Inconsistent(f"{listed} images listed of {whole}")

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        await self._answer("fetch")
        if image.id in self.unreachable:
            raise Unavailable("source", "time-out")
        file = self.files.get(image.id)
        if file is None:
            raise Inconsistent("gone since it was listed")
        content = content_of(file.data)
        if self.proves_absence and content != image.content:
            raise Inconsistent("changed since it was listed")
        await reserve(len(file.data))
        return Picture(file.data, content, "fake")

    async def changes(self) -> AsyncIterator[Mapping[int, Scope]]:
        yield {}
        while True:
            while self._news:
                yield self._news.pop(0)
            self._told = asyncio.Event()
            await self._told.wait()

    async def close(self) -> None:
        pass

    async def _answer(self, kind: str) -> None:
        self.calls[kind] += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("source", "connection refused")

    def _of(self, project_id: int, scope: Scope) -> list[File]:
        return sorted(
            (
                file
                for file in self.files.values()
                if file.project_id == project_id
                and (
                    scope.full
                    or file.id in scope.ids
                    or (scope.since is not None and scope.since <= file.updated_at)
                )
            ),
            key=lambda file: file.id,
        )

    def _page(self, project_id: int, scope: Scope, last: int) -> list[File]:
        return [file for file in self._of(project_id, scope) if file.id > last][: self.page_size]
