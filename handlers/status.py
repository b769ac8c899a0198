"""How syncs and projects stand: the questions old clients poll, and ``/status`` that answers them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from aiohttp import web

from handlers.answers import reply
from handlers.auth import recognise
from handlers.parts import Call
from handlers.projects import find_project, number_of, visible
from handlers.requests import MaybeProject, OneProject, TaskRequest
from state.errors import EmbedsyncError, Invisible
from state.model import Progress, ProjectStatus, TaskStatus

MESSAGES = {
    TaskStatus.NO_TASK: "No task found.",
    TaskStatus.RUNNING: "Task is currently running.",
    TaskStatus.COMPLETED: "Task completed successfully.",
    TaskStatus.CANCELLED: "Task was cancelled.",
    TaskStatus.FAILED: "Task failed.",
}

PROGRESS_STATUS = {
    TaskStatus.RUNNING: "processing",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.CANCELLED: "error",
    TaskStatus.FAILED: "error",
}


async def task_status(call: Call, wish: OneProject) -> web.Response:
    """Say what the project's latest sync does."""
    project = await find_project(call, wish.project_id)
    status = _task(call, project.id)
    return reply(
        {
            "message": f"[Project: {project.id}] {MESSAGES[status]}",
            "status": status,
            "is_running": status is TaskStatus.RUNNING,
        }
    )


async def processing_progress(call: Call, wish: MaybeProject) -> web.Response:
    """Say how far a sync is; without a project, all of those the caller may see."""
    progress = call.ports.syncs.progress()
    if wish.project_id is None:
        await recognise(call.caller, call.ports.platform)
        shown = {number: one for number, each in progress.items() if (one := _progress(each)) is not None}
        seen = await visible(call, shown)
        return reply(
            {
                "message": "Project ID is not specified. Returning progress for all projects.",
                "progress": {str(number): one for number, one in shown.items() if number in seen},
            }
        )
    project = await find_project(call, wish.project_id)
    one = _progress(progress.get(project.id))
    if one is None:
        return reply({"message": f"No processing progress found for project {project.id}", "progress": None})
    return reply({"progress": one})


async def up_to_date(call: Call, wish: OneProject) -> web.Response:
    """Say whether every image is fresh; so is every map then, as maps are made from the vectors."""
    try:
        project = await find_project(call, wish.project_id)
    except Invisible:
        return reply(None)
    return reply(await call.ports.syncs.up_to_date(project.id))


async def check_task(call: Call, wish: TaskRequest) -> web.Response:
    """Say whether a project's sync runs."""
    try:
        project_id = (await find_project(call, wish.task_id)).id
    except Invisible:
        return reply(_background(wish.task_id, "not_found", "Processing task not found"))
    match _task(call, project_id):
        case TaskStatus.RUNNING:
            return reply(_background(project_id, "in_progress", "Task is still running"))
        case TaskStatus.FAILED:
            return reply(_background(project_id, "error", "Task failed"))
        case _:
            return reply(_background(project_id, "not_found", "Processing task not found"))


async def stop_update(call: Call, wish: OneProject) -> web.Response:
    """Stop a project's sync; it is no failure if there is none."""
    project = await find_project(call, wish.project_id)
    try:
        stopped = await call.ports.syncs.cancel(project.id)
    except EmbedsyncError:
        return reply(_stopped(project.id, True, False, "The update could not be stopped."), 400)
    message = "The update is stopped." if stopped else "The project is not being updated."
    return reply(_stopped(project.id, stopped, True, message))


async def project_status(call: Call, wish: MaybeProject) -> web.Response:
    """Say where each project stands, the stalest first."""
    number = None if wish.project_id is None else await number_of(call, wish.project_id)
    statuses = await call.ports.syncs.status(number)
    if number is not None and not statuses:
        raise Invisible("nothing is known of this project")
    progress = call.ports.syncs.progress()
    ordered = sorted(statuses, key=lambda status: (-status.oldest_stale_seconds, status.project.id))
    states = [_state(status, progress.get(status.project.id)) for status in ordered]
    return reply({"encoder": asdict(call.ports.syncs.at_work()), "projects": states})


def _task(call: Call, project_id: int) -> TaskStatus:
    progress = call.ports.syncs.progress().get(project_id)
    return TaskStatus.NO_TASK if progress is None else progress.status


def _progress(progress: Progress | None) -> Mapping[str, object] | None:
    if progress is None or progress.status is TaskStatus.NO_TASK:
        return None
    return {
        "total": progress.total,
        "current": progress.current,
        "status": PROGRESS_STATUS[progress.status],
        "project_id": progress.project_id,
    }


def _background(task: int | str, status: str, message: str) -> Mapping[str, str]:
    return {"status": status, "message": f"[Project: {task}] {message}"}


def _stopped(project_id: int, current: bool, success: bool, message: str) -> Mapping[str, object]:
    return {
        "project_id": project_id,
        "is_current_task": current,
        "success": success,
        "message": message,
        "details": {},
    }


def _state(status: ProjectStatus, progress: Progress | None) -> Mapping[str, object]:
    done = (status.fresh, status.fresh + status.stale)
    current, total = done if progress is None else (progress.current, progress.total)
    return {
        "project_id": status.project.id,
        "name": status.project.name,
        "enabled": status.project.enabled,
        "gone": status.gone,
        "fresh": status.fresh,
        "stale": status.stale,
        "oldest_stale_seconds": status.oldest_stale_seconds,
        "quarantined": status.quarantined,
        "held_removals": status.held_removals,
        "task": status.task,
        "waiting_seconds": status.waiting_seconds,
        "waiting_for": _waiting_for(status),
        "encoder": {
            "id": status.encoder_id,
            "at_work": status.encoder_at_work,
            "current": current,
            "total": total,
            "remaining_seconds": progress and progress.remaining_seconds,
        },
    }


def _waiting_for(status: ProjectStatus) -> str | None:
    """Say what the project waits for; where that may be a person, what the person can do."""
    reasons = [status.waiting_for] if status.waiting_for else []
    if status.held_removals:
        reasons.append(
            f"a second proof that {status.held_removals} images are gone, or a person's word:"
            f' POST /removals/confirm or /removals/cancel with {{"project_id": {status.project.id}}}'
        )
    return "; ".join(reasons) or None
