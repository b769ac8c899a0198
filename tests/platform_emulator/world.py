"""What happens on the platform: everything people do there, as plain methods for a test to call."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import Any, Concatenate, ParamSpec, TypeVar

from .clock import Clock
from .model import Dataset, Event, Image, Project, State, Team, User, Workspace
from .pictures import Content, Painted, Uploaded, content_of
from .tables import Tables

P = ParamSpec("P")
R = TypeVar("R")


def alone(
    method: Callable[Concatenate[World, P], R],
) -> Callable[Concatenate[World, P], R]:
    """Let one thread at a time change the world."""

    @functools.wraps(method)
    def locked(self: World, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked


class World(Tables):
    """A platform with one team, one workspace and an administrator, for a start.

    Whatever changes images in bulk gives all of them one `updated_at`, as a database does. Every public
    method of this class can be called over HTTP too: ``POST /emulator/<name>`` with its arguments as JSON.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._seeds = count(1_000_000_000)
        self.admin_token = self.user("admin", admin=True)
        self.workspace_id = self.workspace(self.team("first team"))

    # People and places

    @alone
    def user(self, login: str, admin: bool = False) -> str:
        """Make a user; return the token."""
        token = hashlib.sha512(f"token of {login}".encode()).hexdigest()
        user = User(self.next_id("user"), login, token, admin, self.clock.stamp())
        self.users[token] = user
        return token

    @alone
    def grant(self, token: str, project_id: int, write: bool = False) -> None:
        """Let a user read a project, or change it too."""
        self.users[token].rights[project_id] = write

    @alone
    def revoke(self, token: str, project_id: int) -> None:
        """Take a user's rights to a project away."""
        self.users[token].rights.pop(project_id, None)

    @alone
    def forget_user(self, token: str) -> None:
        """Make a token unknown."""
        del self.users[token]

    @alone
    def team(self, name: str, plan: str | None = None) -> int:
        team = Team(self.next_id("team"), name, self.clock.stamp(), plan)
        self.teams[team.id] = team
        return team.id

    @alone
    def set_plan(self, team_id: int, plan: str | None) -> None:
        self.teams[team_id].plan = plan

    @alone
    def workspace(self, team_id: int, name: str = "first workspace") -> int:
        workspace = Workspace(self.next_id("workspace"), name, team_id, self.clock.stamp())
        self.workspaces[workspace.id] = workspace
        return workspace.id

    # Projects and datasets

    @alone
    def project(
        self, name: str, images: int = 0, enabled: bool | None = True, workspace_id: int | None = None
    ) -> int:
        """Make a project; with `images`, it has a dataset of so many that were there all along."""
        place = self.workspaces[workspace_id or self.workspace_id]
        now = self.clock.stamp()
        made = Project(self.next_id("project"), name, place.id, place.team_id, now, now, enabled)
        self.projects[made.id] = made
        self._log("create_project", made)
        if images:
            self.add(self.dataset(made.id, "images"), count=images, logged=False)
        return made.id

    @alone
    def delete_project(self, project_id: int) -> None:
        project = self.projects[project_id]
        project.archived = True
        project.updated_at = self.clock.stamp()
        self._log("disable_project", project)

    @alone
    def restore_project(self, project_id: int) -> None:
        project = self.projects[project_id]
        project.archived = False
        project.updated_at = self.clock.stamp()
        self._log("restore_project", project)

    @alone
    def set_ai_search(self, project_id: int, enabled: bool | None) -> None:
        self.projects[project_id].embeddings_enabled = enabled

    @alone
    def set_custom_data(self, project_id: int, data: dict[str, Any]) -> None:
        project = self.projects[project_id]
        project.custom_data, project.updated_at = data, self.clock.stamp()

    @alone
    def clone(self, project_id: int, name: str) -> int:
        """Copy a project with its datasets; the copies have ids of their own and the same bytes."""
        source = self.projects[project_id]
        made = self.project(name, enabled=source.embeddings_enabled, workspace_id=source.workspace_id)
        twins: dict[int | None, int | None] = {None: None}
        for one in [one for one in self.datasets.values() if one.project_id == project_id]:
            twins[one.id] = self.dataset(made, one.name, twins[one.parent_id])
        now = self.clock.stamp()
        for image in self.by_id(project_id):
            dataset_id = twins[image.dataset_id]
            assert dataset_id is not None
            self._put(image.name, self.datasets[dataset_id], image.content, now, image.link)
        self.members_changed([made])
        return made

    @alone
    def dataset(self, project_id: int, name: str, parent_id: int | None = None) -> int:
        now = self.clock.stamp()
        dataset = Dataset(self.next_id("dataset"), name, project_id, parent_id, now, now)
        self.datasets[dataset.id] = dataset
        return dataset.id

    # Images

    @alone
    def add(
        self,
        dataset_id: int,
        contents: Iterable[int | bytes] | None = None,
        count: int = 1,
        names: Iterable[str] | None = None,
        logged: bool = True,
    ) -> list[int]:
        """Add images of given contents (seeds, or bytes), or of `count` new ones; return their ids."""
        dataset, now = self.datasets[dataset_id], self.clock.stamp()
        made = [
            self._put(name, dataset, content, now)
            for content, name in zip(self._contents(contents, count), names or iter(str, 0), strict=False)
        ]
        self._appeared(made, dataset.project_id, logged)
        return [image.id for image in made]

    @alone
    def add_links(
        self, dataset_id: int, contents: Iterable[int | bytes] | None = None, count: int = 1
    ) -> list[int]:
        """Add images without a hash; their links lead to ``/remote/`` on this server."""
        dataset, now = self.datasets[dataset_id], self.clock.stamp()
        made = [
            self._put("", dataset, content, now, link="/remote/")
            for content in self._contents(contents, count)
        ]
        self._appeared(made, dataset.project_id)
        return [image.id for image in made]

    @alone
    def replace(
        self, image_ids: Collection[int], contents: Iterable[int | bytes] | None = None, noticed: bool = True
    ) -> None:
        """Give images other bytes; unless `noticed`, which a link's are not, `updated_at` stays."""
        for image_id, content in zip(image_ids, self._contents(contents, len(image_ids)), strict=True):
            self.images[image_id].content = content
        if noticed:
            self._touch(image_ids, "update_image")

    @alone
    def rename(self, image_id: int, name: str) -> None:
        self.images[image_id].name = name
        self._touch([image_id], "update_image")

    @alone
    def label(self, image_ids: Collection[int]) -> None:
        """Draw a figure on each: `updated_at` moves, the bytes do not."""
        for image_id in image_ids:
            self.images[image_id].labels += 1
        self._touch(image_ids, "create_figure")

    @alone
    def disable(self, image_ids: Collection[int]) -> None:
        self._set_state(image_ids, State.DISABLED, "disable_image")

    @alone
    def restore(self, image_ids: Collection[int]) -> None:
        self._set_state(image_ids, State.LIVE, "restore_image")

    @alone
    def delete(self, image_ids: Collection[int]) -> None:
        self._set_state(image_ids, State.DELETED, "disable_image")

    @alone
    def move(self, image_ids: Collection[int], dataset_id: int) -> None:
        """Move images to a dataset of any project; they keep their ids."""
        dataset = self.datasets[dataset_id]
        for image_id in image_ids:
            image = self.images[image_id]
            del self.projects[image.project_id].images[image_id]
            self.members_changed([image.project_id])
            image.project_id, image.dataset_id = dataset.project_id, dataset_id
            self.projects[dataset.project_id].images[image_id] = image
        self.members_changed([dataset.project_id])
        self._touch(image_ids, "update_image")

    @alone
    def copy(self, image_ids: Collection[int], dataset_id: int) -> list[int]:
        """Copy images, as the SDK's `copy_batch` does: new ids, the same bytes."""
        dataset, now = self.datasets[dataset_id], self.clock.stamp()
        sources = [self.images[image_id] for image_id in image_ids]
        made = [self._put(one.name, dataset, one.content, now, one.link) for one in sources]
        self._appeared(made, dataset.project_id)
        return [image.id for image in made]

    @alone
    def clear_embeddings_updated_at(self, image_ids: Collection[int]) -> None:
        for image_id in image_ids:
            self.images[image_id].embeddings_updated_at = None

    # Applications

    @alone
    def register_app(self, url: str, task_id: int | None = None) -> int:
        """Let ``tasks.request.direct`` reach `url`; return the task's id."""
        task_id = task_id or self.next_id("task")
        self.apps[task_id] = url.rstrip("/")
        return task_id

    @alone
    def register_service(self, slug: str, url: str) -> str:
        """Let ``/net/<token>`` reach `url`; return the token."""
        token = self.service_token(slug)
        self.services[token] = url.rstrip("/")
        return token

    @alone
    def register_ai_search(self, url: str) -> None:
        """Name the service that answers the platform's own search box."""
        self.ai_search = url.rstrip("/")

    # How it is done

    def _contents(self, given: Iterable[int | bytes] | None, count: int) -> Iterable[Content]:
        if given is None:
            return (Painted(next(self._seeds)) for _ in range(count))
        return map(self._kept, given)

    def _kept(self, given: int | bytes) -> Content:
        content = content_of(given)
        if isinstance(content, Uploaded):
            self.uploads[content.key] = content
        return content

    def _put(self, name: str, dataset: Dataset, content: Content, now: int, link: str | None = None) -> Image:
        image_id = self.next_id("image")
        file = f"{image_id}.{content.extension}"
        if link == "/remote/":
            link += file
        image = Image(image_id, name or file, dataset.project_id, dataset.id, content, now, now, link)
        self.images[image_id] = self.projects[dataset.project_id].images[image_id] = image
        return image

    def _appeared(self, images: list[Image], project_id: int, logged: bool = True) -> None:
        self.members_changed([project_id])
        if logged:
            for image in images:
                self._log("create_image", self.projects[project_id], image)

    def _set_state(self, image_ids: Collection[int], state: State, action: str) -> None:
        for image_id in image_ids:
            self.images[image_id].state = state
        self.members_changed({self.images[image_id].project_id for image_id in image_ids})
        self._touch(image_ids, action)

    def _touch(self, image_ids: Collection[int], action: str) -> None:
        now = self.clock.stamp()
        for image_id in image_ids:
            image = self.images[image_id]
            image.updated_at = now
            self._log(action, self.projects[image.project_id], image)

    def _log(self, action: str, project: Project, image: Image | None = None) -> None:
        admin = self.users[self.admin_token]
        date = image.updated_at if image else project.updated_at
        self.events.append(Event(project.team_id, action, date, admin, project, image))
