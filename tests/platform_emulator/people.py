"""``instance.*``, ``users.*``, ``teams.*``, ``workspaces.*`` and ``tasks.info``."""

from __future__ import annotations

from typing import Any

from . import clock
from .listing import Body, Field, conditions, date, matching, number, numbered_page, ordered, plain
from .model import Event, Refused, Team, User, Workspace
from .wants import identifier, text
from .world import World

_FIELDS: dict[str, Field[Any]] = {"id": number("id"), "name": plain("name")}
_EVENT_FIELDS: dict[str, Field[Event]] = {
    "date": date("date"),
    "type": plain("action"),
    "userId": Field(lambda event: event.user.id, int),
    "projectId": Field(lambda event: event.project.id, int),
}


def version(world: World, _: User | None, body: Body) -> dict[str, Any]:
    return {"version": world.version}


def admin_info(world: World, _: User | None, body: Body) -> dict[str, Any]:
    if body.get("accessToken") != world.access_token:
        raise Refused(world.rules.denied_status, "Access denied")
    admin = world.users[world.admin_token]
    return {"id": admin.id, "login": admin.login, "apiToken": admin.token}


def me(world: World, caller: User, body: Body) -> dict[str, Any]:
    return {
        "id": caller.id,
        "login": caller.login,
        "role": "admin" if caller.admin else "annotator",
        "roleId": 1 if caller.admin else 4,
        "name": caller.login,
        "email": f"{caller.login}@platform.invalid",
        "logins": 1,
        "disabled": False,
        "lastLogin": clock.shown(caller.created_at),
        "createdAt": clock.shown(caller.created_at),
        "updatedAt": clock.shown(caller.created_at),
    }


def _team(team: Team) -> dict[str, Any]:
    return {
        "id": team.id,
        "name": team.name,
        "description": "",
        "role": "admin",
        "createdAt": clock.shown(team.created_at),
        "updatedAt": clock.shown(team.created_at),
        "usage": None if team.plan is None else {"plan": team.plan},
    }


def team_info(world: World, caller: User, body: Body) -> dict[str, Any]:
    return _team(world.readable_team(caller, identifier(body, "id")))


def teams(world: World, caller: User, body: Body) -> dict[str, Any]:
    mine = world.teams_of(caller)
    kept = [team for team in world.teams.values() if team.id in mine]
    rows = matching(kept, conditions(body, _FIELDS), _FIELDS)
    return numbered_page(ordered(rows, body, _FIELDS, already="id"), body, world.rules).answer(_team)


def activity(world: World, caller: User, body: Body) -> dict[str, Any]:
    """List what happened in a team, the newest first."""
    team = world.readable_team(caller, identifier(body, "teamId"))
    happened = [event for event in reversed(world.events) if event.team_id == team.id]
    rows = matching(happened, conditions(body, _EVENT_FIELDS), _EVENT_FIELDS)
    return numbered_page(rows, body, world.rules).answer(lambda event: _event(world, event))


def _event(world: World, event: Event) -> dict[str, Any]:
    image = event.image
    return {
        "userId": event.user.id,
        "action": event.action,
        "date": clock.shown(event.date),
        "user": event.user.login,
        "projectId": event.project.id,
        "project": event.project.name,
        "datasetId": image.dataset_id if image else None,
        "dataset": world.datasets[image.dataset_id].name if image else None,
        "imageId": image.id if image else None,
        "image": image.name if image else None,
        "classId": None,
        "class": None,
        "figureId": None,
        "job": None,
        "jobId": None,
        "tag": None,
        "tagId": None,
        "meta": {},
    }


def _workspace(workspace: Workspace) -> dict[str, Any]:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "description": "",
        "teamId": workspace.team_id,
        "createdAt": clock.shown(workspace.created_at),
        "updatedAt": clock.shown(workspace.created_at),
    }


def workspaces(world: World, caller: User, body: Body) -> dict[str, Any]:
    team = world.readable_team(caller, identifier(body, "teamId"))
    kept = [one for one in world.workspaces.values() if one.team_id == team.id]
    rows = matching(kept, conditions(body, _FIELDS), _FIELDS)
    return numbered_page(ordered(rows, body, _FIELDS, already="id"), body, world.rules).answer(_workspace)


def workspace_info(world: World, caller: User, body: Body) -> dict[str, Any]:
    workspace = world.workspaces.get(identifier(body, "id"))
    if workspace is None:
        raise Refused(404, "Not found", message="Workspace not found")
    world.readable_team(caller, workspace.team_id)
    return _workspace(workspace)


def session_token(world: World, caller: User, body: Body) -> str:
    """Return the token, plain text, under which ``/net/`` leads to a service."""
    token = world.service_token(text(body, "slug"))
    if token not in world.services:
        if (status := world.rules.no_session_status) == 200:
            return ""
        raise Refused(status, "Not found", message="No session of this application is running")
    return token


def task_info(world: World, caller: User, body: Body) -> dict[str, Any]:
    task_id = identifier(body, "id")
    url = world.apps.get(task_id)
    if task_id in world.ended_tasks:
        return {"id": task_id, "type": "app", "status": "finished", "settings": {}, "meta": {}}
    if url is None:
        raise Refused(404, "Not found", message=f"Task {task_id} not found")
    token = world.register_service(f"task {task_id}", url)
    base = f"/net/{token}/"
    return {
        "id": task_id,
        "type": "app",
        "status": "started",
        "settings": {"message": {"appInfo": {"baseUrl": base}}},
        "meta": {"sessionToken": token},
    }
