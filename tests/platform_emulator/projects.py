"""``projects.*`` and ``datasets.*``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import clock
from .listing import Body, Field, conditions, date, matching, number, numbered_page, ordered, plain
from .model import Dataset, Project, Refused, User
from .wants import flag, identifier
from .world import World

_FIELDS: dict[str, Field[Project]] = {
    "id": number("id"),
    "projectId": number("id"),
    "name": plain("name"),
    "title": plain("name"),
    "workspaceId": number("workspace_id"),
    "groupId": number("team_id"),
    "createdAt": date("created_at"),
    "updatedAt": date("updated_at"),
    "type": Field(lambda project: "images"),
    "embeddingsEnabled": plain("embeddings_enabled"),
    "embeddingsInProgress": plain("embeddings_in_progress"),
    "embeddingsUpdatedAt": date("embeddings_updated_at"),
}
_DATASET_FIELDS: dict[str, Field[Dataset]] = {
    "id": number("id"),
    "name": plain("name"),
    "projectId": number("project_id"),
    "parentId": number("parent_id"),
    "createdAt": date("created_at"),
    "updatedAt": date("updated_at"),
}


def shown(world: World, project: Project, extra: Iterable[str] = ()) -> dict[str, Any]:
    """Write a project as the platform does; the three flags only if they are in `extra`."""
    count, stamp = len(world.by_id(project.id)), project.embeddings_updated_at
    flags = {
        "embeddingsEnabled": project.embeddings_enabled,
        "embeddingsInProgress": project.embeddings_in_progress,
        "embeddingsUpdatedAt": None if stamp is None else clock.shown(stamp),
    }
    return {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "size": str(sum(image.content.size for image in world.by_id(project.id)[:1]) * count),
        "readme": "",
        "workspaceId": project.workspace_id,
        "teamId": project.team_id,
        "imagesCount": count,
        "itemsCount": count,
        "datasetsCount": sum(one.project_id == project.id for one in world.datasets.values()),
        "createdAt": clock.shown(project.created_at),
        "updatedAt": clock.shown(project.updated_at),
        "type": "images",
        "referenceImageUrl": None,
        "customData": project.custom_data,
        "backupArchive": {},
        "settings": {},
        "importSettings": {},
        "version": None,
        "createdBy": 21,
        **{name: value for name, value in flags.items() if name in extra},
    }


def list_(world: World, caller: User, body: Body) -> dict[str, Any]:
    if body.get("workspaceId") is None and body.get("groupId") is None:
        raise Refused(400, "Validation failed", message="workspaceId or groupId is required")
    fields = body.get("fields") or ()
    rows = [
        project
        for project in world.visible_projects(caller)
        if body.get("workspaceId") in {None, project.workspace_id}
        and body.get("groupId") in {None, project.team_id}
    ]
    answer = _page(world, rows, body, extra=fields)
    if fields:
        kept = {"id", "name", *fields}
        answer["entities"] = [
            {name: value for name, value in row.items() if name in kept} for row in answer["entities"]
        ]
    return answer


def list_all(world: World, caller: User, body: Body) -> dict[str, Any]:
    return _page(world, world.visible_projects(caller), body, extra=body.get("extraFields") or ())


def info(world: World, caller: User, body: Body) -> dict[str, Any]:
    project = world.readable(caller, identifier(body, "id"))
    return shown(world, project, body.get("extraFields") or ())


def edit(world: World, caller: User, body: Body) -> dict[str, Any]:
    """Change what the body names: custom data as a whole; unless `silent`, `updatedAt` moves."""
    project = world.readable(caller, identifier(body, "id"), write=True)
    if "customData" in body:
        if not isinstance(body["customData"], dict):
            raise Refused(400, "Validation failed", message="customData must be an object")
        project.custom_data = body["customData"]
    if "embeddingsEnabled" in body:
        project.embeddings_enabled = body["embeddingsEnabled"]
    if "embeddingsUpdatedAt" in body:
        stamp = body["embeddingsUpdatedAt"]
        project.embeddings_updated_at = None if stamp is None else clock.read(stamp)
    project.name = body.get("name", project.name)
    project.description = body.get("description", project.description)
    if not flag(body, "silent"):
        project.updated_at = world.clock.stamp()
    return shown(world, project)


def set_embeddings_in_progress(world: World, caller: User, body: Body) -> dict[str, Any]:
    project = world.readable(caller, identifier(body, "id"), write=True)
    project.embeddings_in_progress = flag(body, "embeddingsInProgress")
    project.error_message = body.get("errorMessage")
    return {"success": True}


def _page(world: World, rows: list[Project], body: Body, extra: Iterable[str]) -> dict[str, Any]:
    kept = matching(rows, conditions(body, _FIELDS), _FIELDS)
    page = numbered_page(ordered(kept, body, _FIELDS, already="id"), body, world.rules)
    return page.answer(lambda project: shown(world, project, extra))


def shown_dataset(world: World, dataset: Dataset) -> dict[str, Any]:
    project = world.projects[dataset.project_id]
    count = world.count_by_dataset(dataset.project_id)[dataset.id]
    return {
        "id": dataset.id,
        "name": dataset.name,
        "description": "",
        "size": "0",
        "projectId": dataset.project_id,
        "imagesCount": count,
        "itemsCount": count,
        "createdAt": clock.shown(dataset.created_at),
        "updatedAt": clock.shown(dataset.updated_at),
        "referenceImageUrl": None,
        "teamId": project.team_id,
        "workspaceId": project.workspace_id,
        "parentId": dataset.parent_id,
        "customData": {},
        "createdBy": 21,
    }


def datasets(world: World, caller: User, body: Body) -> dict[str, Any]:
    """List the datasets on top of a project, or all of them if `recursive`."""
    project = world.readable(caller, identifier(body, "projectId"))
    rows = [
        one
        for one in world.datasets.values()
        if one.project_id == project.id and (flag(body, "recursive") or one.parent_id is None)
    ]
    kept = matching(rows, conditions(body, _DATASET_FIELDS), _DATASET_FIELDS)
    page = numbered_page(ordered(kept, body, _DATASET_FIELDS, already="id"), body, world.rules)
    return page.answer(lambda dataset: shown_dataset(world, dataset))


def dataset_info(world: World, caller: User, body: Body) -> dict[str, Any]:
    return shown_dataset(world, world.readable_dataset(caller, identifier(body, "id")))
