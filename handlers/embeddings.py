"""Asking for embeddings, and calling the asking off."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np
import orjson
from aiohttp import web

from handlers.answers import json_bytes, reply
from handlers.errors import BadRequest, NotYet
from handlers.parts import Call
from handlers.projects import find_project, holders, prefix
from handlers.requests import EmbeddingsRequest, OneProject
from state.errors import Invisible
from state.model import Embedding, Plan, Project, Start, TaskStatus, Vectors, Within

Wanted = Mapping[Project, Collection[int] | None]
"""Which images of each project; ``None`` for all."""

OUTCOMES = {
    Start.STARTED: "Embeddings creation started.",
    Start.RUNNING: "Embeddings creation is already in progress. Skipping.",
    Start.NOTHING: "Nothing to update. Skipping.",
}


async def create_embeddings(call: Call, wish: EmbeddingsRequest) -> web.Response:
    """Start a sync; or say what it would do; or wait for it and return the vectors."""
    wanted = await _wanted(call, wish)
    enabled = {project: ids for project, ids in wanted.items() if project.enabled}
    if not enabled:
        return reply({"message": " ".join(map(disabled_message, wanted))})
    if wish.dry_run:
        plans = [await call.ports.syncs.plan(each.id, ids, wish.force) for each, ids in enabled.items()]
        return reply({"plans": list(map(_plan, plans))})
    if wish.return_vectors:
        with call.parts.waiting.entered():
            return await _made_vectors(call, enabled, wish.force)
    messages = [
        f"{prefix(project)} {OUTCOMES[await call.ports.syncs.start(project.id, ids, wish.force)]}"
        for project, ids in enabled.items()
    ]
    return reply({"message": " ".join(messages)})


async def cancel_embeddings(call: Call, wish: OneProject) -> web.Response:
    """Stop a sync between two batches; what is written stays."""
    project = await find_project(call, wish.project_id)
    stopped = await call.ports.syncs.cancel(project.id)
    outcome = "Embeddings task has been cancelled." if stopped else "No running embeddings task found."
    return reply({"message": f"{prefix(project)} {outcome}"})


def disabled_message(project: Project) -> str:
    """Say that the project does not want AI Search."""
    return f"{prefix(project)} AI Search is disabled. Skipping."


async def _wanted(call: Call, wish: EmbeddingsRequest) -> Wanted:
    """Return the projects meant; without a number they are found from the images."""
    ids = wish.image_ids or None
    if wish.project_id is not None:
        return {await find_project(call, wish.project_id): ids}
    found: dict[Project, Collection[int] | None] = {}
    for number, held in (await holders(call, frozenset(ids or ()))).items():
        with suppress(Invisible):
            found[await find_project(call, number)] = held
    if not found:
        raise Invisible("none of these images can be seen")
    return found


async def _made_vectors(call: Call, wanted: Wanted, force: bool) -> web.Response:
    """Sync, and return the vectors of what was asked for, by project and id.

    :raises BadRequest: when there are more than may be returned
    :raises NotYet: when a sync did not come to its end
    """
    await _check_size(call, wanted)
    found: list[Embedding] = []
    for project, ids in wanted.items():
        if await call.ports.syncs.start(project.id, ids, force) is not Start.NOTHING:
            await _finished(call, project)
        found += await _embeddings(call, project, ids)
    body = await call.parts.light.run(
        _vectors_json, [each.image.id for each in found], [each.vector for each in found]
    )
    return json_bytes(body)


async def _check_size(call: Call, wanted: Wanted) -> None:
    most = call.limits.returned_vectors
    asked = [
        await call.ports.source.count(project.id) if ids is None else len(frozenset(ids))
        for project, ids in wanted.items()
    ]
    if sum(asked) > most:
        raise BadRequest("return_vectors", f"returns the vectors of at most {most} images, not {sum(asked)}")


async def _finished(call: Call, project: Project) -> None:
    status = await call.ports.syncs.wait(project.id)
    if status is not TaskStatus.COMPLETED:
        raise NotYet("generator", f"{prefix(project)} The embeddings are not complete: {status}.")


async def _embeddings(call: Call, project: Project, ids: Collection[int] | None) -> list[Embedding]:
    store = call.ports.store
    collection = (await store.pointers()).get(project.id)
    if collection is None:
        return []
    if ids is None:
        matrix = await call.ports.matrices.matrix(collection, Within(project.id))
        ids = matrix.ids[: call.limits.returned_vectors].tolist()
    return [e for e in await store.embeddings(collection, ids) if e.image.project_id == project.id]


def _vectors_json(ids: Sequence[int], vectors: Sequence[Vectors]) -> bytes:
    """Write row by row, so that a thread lets go of the interpreter in between."""
    rows = b",".join(
        orjson.dumps(np.ascontiguousarray(row), option=orjson.OPT_SERIALIZE_NUMPY) for row in vectors
    )
    return b'{"image_ids":' + orjson.dumps(ids) + b',"vectors":[' + rows + b"]}"


def _plan(plan: Plan) -> dict[str, object]:
    return {
        "project_id": plan.project_id,
        "counts": {str(action): count for action, count in plan.counts.items()},
        "changes": {
            str(action): [{"image_id": image_id, "reason": reason} for image_id, reason in sample]
            for action, sample in plan.samples.items()
        },
        "quarantined": plan.quarantined,
        "held": plan.held,
    }
