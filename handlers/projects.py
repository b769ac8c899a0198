"""Which project a request means, whether the caller may see it, and what answers for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

from handlers.auth import permit, recognise
from handlers.errors import NoEmbeddings
from handlers.parts import Call
from state.errors import Invisible, NotInPlan
from state.model import Project

ASKED_AT_ONCE = 8
"""About how many projects the platform is asked at once, for one request."""


async def find_project(call: Call, ref: int | str) -> Project:
    """Return the project of that number or name, if the caller may see it.

    :raises Invisible: when there is none, or it is not the caller's to see
    """
    return (await find_projects(call, [ref]))[0]


async def find_projects(call: Call, refs: Iterable[int | str]) -> list[Project]:
    """Return the projects of those numbers or names, each once.

    :raises Invisible: when the caller may not see one of them
    """
    found: dict[int, Project] = {}
    for ref in refs:
        number = _number(ref)
        # The platform is asked first: whoever it does not know learns nothing from our source.
        if number is None:
            await recognise(call.caller, call.ports.platform)
        else:
            await permit(call.caller, call.ports.platform, number)
        project = await _look_up(call, ref)
        if project is None:
            raise Invisible("no such project")
        if project.id != number:
            await permit(call.caller, call.ports.platform, project.id)
        found[project.id] = project
    return list(found.values())


async def number_of(call: Call, ref: int | str) -> int:
    """Return a project's number; an operator may name one that is gone from the source.

    :raises Invisible: when the caller may not see it, or a name means nothing
    """
    number = _number(ref)
    if not call.caller.operator or number is None:
        return (await find_project(call, ref)).id
    project = await _look_up(call, ref)
    return number if project is None else project.id


async def holders(call: Call, image_ids: Collection[int]) -> Mapping[int, frozenset[int]]:
    """Map each project to those of the images it holds, as far as a caller of the platform may see them."""
    if call.caller.operator or call.ports.platform is None or call.caller.token is None:
        return await call.ports.source.projects_of(image_ids)
    return await call.ports.platform.projects_of(call.caller.token, image_ids)


async def may_see(call: Call, project_id: int) -> bool:
    """Tell whether the caller may see a project that exists.

    :raises UnknownCaller: when the caller's token is unknown
    """
    try:
        await permit(call.caller, call.ports.platform, project_id)
    except (Invisible, NotInPlan):
        return False
    return True


async def visible(call: Call, project_ids: Iterable[int]) -> frozenset[int]:
    """Return those of these projects that the caller may see.

    :raises UnknownCaller: when the caller's token is unknown
    """
    slots = asyncio.Semaphore(ASKED_AT_ONCE)

    async def seen(project_id: int) -> int | None:
        async with slots:
            return project_id if await may_see(call, project_id) else None

    asked = [asyncio.create_task(seen(project_id)) for project_id in project_ids]
    try:
        answers = await asyncio.gather(*asked)
    finally:
        for task in asked:
            task.cancel()
    return frozenset(number for number in answers if number is not None)


async def collection_of(call: Call, project: Project) -> str:
    """Return the collection that answers for the project.

    :raises NoEmbeddings: when there is none yet
    """
    collection = (await call.ports.store.pointers()).get(project.id)
    if collection is None:
        raise NoEmbeddings(
            f"{prefix(project)} Embeddings collection does not exist, nothing can be searched."
            " Create embeddings first."
        )
    call.ports.syncs.searched(project.id, collection)
    return collection


def prefix(project: Project) -> str:
    """Return how messages about a project start."""
    return f"[Project: {project.id}]"


async def _look_up(call: Call, ref: int | str) -> Project | None:
    """Find by name first: a folder may well be called 2024."""
    project = await call.ports.source.project(ref)
    if project is None and isinstance(ref, str) and (number := _number(ref)) is not None:
        project = await call.ports.source.project(number)
    return project


def _number(ref: int | str) -> int | None:
    if isinstance(ref, int):
        return ref
    return int(ref) if ref.isascii() and ref.isdigit() else None
