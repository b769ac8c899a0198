"""The platform's tables, who may see what in them, and the lists they are asked for most."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from threading import RLock

from .clock import Clock
from .model import Collection, Dataset, Event, Image, Project, Refused, State, Team, User, Workspace
from .pictures import Content

BUCKET = "emulated-public"


@dataclass
class Rules:
    """How this instance behaves where instances differ, or where nobody knows for sure."""

    denied_status: int = 403
    unknown_token_status: int = 401
    no_session_status: int = 404
    per_page: int = 500
    max_per_page: int = 1000
    keyset_allowed: bool = True
    links_have_previews: bool = False
    collection_names_are_unique: bool = True
    collection_keys_are_unique: bool = False
    rest_is_added_when_some_are_missing: bool = False


def scattered(image: Image) -> int:
    """The order that listings in token mode come in: any order but that of the ids."""
    return image.id * 2_654_435_761 % 2**32


class Tables:
    """All that the platform remembers. Whoever reads or writes it holds `lock`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.lock = RLock()
        self.clock = clock or Clock()
        self.rules = Rules()
        self.address = "http://platform.invalid"
        self.version = "6.15.4"
        self.access_token = "access-token-of-the-instance"
        self.users: dict[str, User] = {}
        self.teams: dict[int, Team] = {}
        self.workspaces: dict[int, Workspace] = {}
        self.projects: dict[int, Project] = {}
        self.datasets: dict[int, Dataset] = {}
        self.images: dict[int, Image] = {}
        self.collections: dict[int, Collection] = {}
        self.uploads: dict[str, Content] = {}
        self.events: list[Event] = []
        self.apps: dict[int, str] = {}
        self.services: dict[str, str] = {}
        self.starts: Counter[str] = Counter()
        self.ended_tasks: set[int] = set()
        self.ai_search: str | None = None
        self._ids = {
            "user": count(21),
            "team": count(1),
            "workspace": count(11),
            "project": count(101),
            "dataset": count(1001),
            "image": count(10_001),
            "collection": count(501),
            "task": count(901),
        }
        self._lists: dict[tuple[str, int], list[Image]] = {}
        self._counts: dict[int, Counter[int]] = {}

    def next_id(self, kind: str) -> int:
        return next(self._ids[kind])

    # Rights

    def caller(self, token: str | None) -> User:
        if token is None:
            raise Refused(400, "API token is missing")
        user = self.users.get(token)
        if user is None:
            raise Refused(self.rules.unknown_token_status, "Unauthorized")
        return user

    def sees(self, user: User, project: Project) -> bool:
        return not project.archived and (user.admin or project.id in user.rights)

    def visible_projects(self, user: User) -> list[Project]:
        return [project for project in self.projects.values() if self.sees(user, project)]

    def readable(self, user: User, project_id: int, write: bool = False) -> Project:
        """Return a project the user may read.

        :raises Refused: when it does not exist, or is not for this user
        """
        project = self.projects.get(project_id)
        if project is None or project.archived:
            raise Refused(404, "Not found", message=f"Project {project_id} not found")
        if not (user.admin or project_id in user.rights) or (write and not self.writes(user, project_id)):
            raise Refused(self.rules.denied_status, "Access denied")
        return project

    def writes(self, user: User, project_id: int) -> bool:
        return user.admin or user.rights.get(project_id, False)

    def readable_image(self, user: User, image_id: int) -> Image:
        image = self.images.get(image_id)
        if image is None or image.state is not State.LIVE:
            raise Refused(404, "Not found", message=f"Image {image_id} not found")
        self.readable(user, image.project_id)
        return image

    def readable_dataset(self, user: User, dataset_id: int) -> Dataset:
        dataset = self.datasets.get(dataset_id)
        if dataset is None:
            raise Refused(404, "Not found", message=f"Dataset {dataset_id} not found")
        self.readable(user, dataset.project_id)
        return dataset

    def readable_team(self, user: User, team_id: int) -> Team:
        team = self.teams.get(team_id)
        if team is None:
            raise Refused(404, "Not found", message=f"Team {team_id} not found")
        if not user.admin and team_id not in self.teams_of(user):
            raise Refused(self.rules.denied_status, "Access denied")
        return team

    def teams_of(self, user: User) -> set[int]:
        if user.admin:
            return set(self.teams)
        return {project.team_id for project in self.visible_projects(user)}

    # Lists of images, kept until the members of the project change

    def by_id(self, project_id: int) -> list[Image]:
        """List the live images of a project in order of id; do not change the list."""
        return self._listed("id", project_id)

    def image_ids(self, project_id: int) -> list[int]:
        """Return the ids of a project's live images, ascending."""
        with self.lock:
            return [image.id for image in self.by_id(project_id)]

    def dataset_ids(self, project_id: int) -> list[int]:
        """Return the ids of a project's datasets, ascending."""
        with self.lock:
            return [one.id for one in self.datasets.values() if one.project_id == project_id]

    def in_any_order(self, project_id: int) -> list[Image]:
        """List the live images of a project in the order of token mode; do not change the list."""
        return self._listed("scattered", project_id)

    def _listed(self, order: str, project_id: int) -> list[Image]:
        listed = self._lists.get((order, project_id))
        if listed is None:
            images = self.projects[project_id].images.values()
            live = (image for image in images if image.state is State.LIVE)
            listed = sorted(live, key=attrgetter("id") if order == "id" else scattered)
            self._lists[order, project_id] = listed
        return listed

    def count_by_dataset(self, project_id: int) -> Counter[int]:
        if project_id not in self._counts:
            self._counts[project_id] = Counter(image.dataset_id for image in self.by_id(project_id))
        return self._counts[project_id]

    def members_changed(self, project_ids: Iterable[int]) -> None:
        for project_id in project_ids:
            self._lists.pop(("id", project_id), None)
            self._lists.pop(("scattered", project_id), None)
            self._counts.pop(project_id, None)

    def nested(self, dataset_id: int) -> set[int]:
        """Return a dataset and all the datasets in it."""
        found, last = {dataset_id}, {dataset_id}
        while last:
            last = {one.id for one in self.datasets.values() if one.parent_id in last} - found
            found |= last
        return found

    # Addresses

    def storage_path(self, content: Content) -> str:
        return f"/{BUCKET}/images/original/{content.key}.{content.extension}"

    def link_of(self, image: Image) -> str | None:
        """Return an image's link; those that start with a slash lead back to this server."""
        if image.link is None:
            return None
        return f"{self.address}{image.link}" if image.link.startswith("/") else image.link

    def url_of(self, image: Image) -> str:
        return self.link_of(image) or f"{self.address}{self.storage_path(image.content)}"

    def service_token(self, slug: str) -> str:
        return hashlib.sha256(f"session {self.starts[slug]} of {slug}".encode()).hexdigest()[:32]
