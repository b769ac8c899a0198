"""What lives on the platform. Times are stamps of its clock, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .pictures import Content


class Refused(Exception):
    """The platform says no, with a status and a reason."""

    def __init__(self, status: int, error: str, **details: Any) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.details = details


class State(StrEnum):
    LIVE = "live"
    DISABLED = "disabled"
    DELETED = "deleted"


@dataclass(slots=True)
class User:
    """Somebody with a token; `rights` maps projects to whether they may be changed, too."""

    id: int
    login: str
    token: str
    admin: bool
    created_at: int
    rights: dict[int, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Team:
    id: int
    name: str
    created_at: int
    plan: str | None


@dataclass(slots=True)
class Workspace:
    id: int
    name: str
    team_id: int
    created_at: int


@dataclass(slots=True)
class Image:
    id: int
    name: str
    project_id: int
    dataset_id: int
    content: Content
    created_at: int
    updated_at: int
    link: str | None = None
    labels: int = 0
    embeddings_updated_at: int | None = None
    state: State = State.LIVE


@dataclass(slots=True)
class Dataset:
    id: int
    name: str
    project_id: int
    parent_id: int | None
    created_at: int
    updated_at: int


@dataclass(slots=True)
class Project:
    id: int
    name: str
    workspace_id: int
    team_id: int
    created_at: int
    updated_at: int
    embeddings_enabled: bool | None
    embeddings_in_progress: bool = False
    embeddings_updated_at: int | None = None
    error_message: str | None = None
    custom_data: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    images: dict[int, Image] = field(default_factory=dict)
    archived: bool = False


@dataclass(slots=True)
class Collection:
    """A collection of images; `items` maps each to its ``meta``."""

    id: int
    name: str
    project_id: int
    type: str
    meta: dict[str, Any]
    created_at: int
    updated_at: int
    description: str | None = None
    items: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a team's activity."""

    team_id: int
    action: str
    date: int
    user: User
    project: Project
    image: Image | None = None
