"""What a person, or whoever saw a change, may tell the daemon: events, quarantine, held removals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict

from aiohttp import web

from handlers.answers import reply
from handlers.auth import OperatorsOnly, recognise
from handlers.parts import Call
from handlers.projects import find_projects, holders, may_see, number_of
from handlers.requests import EventsRequest, QuarantineRequest, RemovalsRequest, RetryRequest
from state.model import FULL, Scope


async def take_events(call: Call, wish: EventsRequest) -> web.Response:
    """Mark projects, or the images somebody saw change, to be looked at."""
    scopes: dict[int, Scope] = {}
    for project in await find_projects(call, wish.project_ids or ()):
        scopes[project.id] = FULL
    for number, ids in (await _holders(call, frozenset(wish.image_ids or ()))).items():
        if number not in scopes and await may_see(call, number):
            scopes[number] = Scope().merge(Scope(ids=frozenset(ids)))
    for number, scope in scopes.items():
        call.ports.syncs.mark(number, scope)
    return reply({"message": "They will be looked at.", "project_ids": sorted(scopes)}, 202)


async def list_quarantine(call: Call, wish: QuarantineRequest) -> web.Response:
    """List pictures set aside."""
    number = await _one_or_all(call, wish.project_id)
    items = await call.ports.syncs.quarantined(number, wish.limit)
    total = sum(status.quarantined for status in await call.ports.syncs.status(number))
    return reply({"total": max(total, len(items)), "items": [asdict(item) for item in items]})


async def retry_quarantine(call: Call, wish: RetryRequest) -> web.Response:
    """Try pictures again that were set aside."""
    number = await _one_or_all(call, wish.project_id)
    count = await call.ports.syncs.retry(number, wish.image_ids or None)
    return reply({"message": f"{count} pictures will be tried again.", "count": count})


async def confirm_removals(call: Call, wish: RemovalsRequest) -> web.Response:
    """Carry out held removals now; those that were cancelled only where their images are named."""
    number = await number_of(call, wish.project_id)
    count = await call.ports.syncs.confirm_removals(number, wish.image_ids)
    return reply({"message": f"[Project: {number}] {count} held removals confirmed.", "count": count})


async def cancel_removals(call: Call, wish: RemovalsRequest) -> web.Response:
    """Keep what held removals would take."""
    number = await number_of(call, wish.project_id)
    count = await call.ports.syncs.cancel_removals(number, wish.image_ids)
    return reply({"message": f"[Project: {number}] {count} held removals cancelled.", "count": count})


async def _one_or_all(call: Call, ref: int | str | None) -> int | None:
    if ref is not None:
        return await number_of(call, ref)
    if not call.caller.operator:
        await recognise(call.caller, call.ports.platform)
        raise OperatorsOnly("only an operator may ask about all projects")
    return None


async def _holders(call: Call, ids: Collection[int]) -> Mapping[int, Collection[int]]:
    """Return which project holds each image; one gone from the source still has its vector in ours.

    Users are answered from what they see alone: asking the platform about the project of a hidden image's
    vector would take time that an unknown image does not.
    """
    if not ids:
        return {}
    found: defaultdict[int, set[int]] = defaultdict(set)
    for number, held in (await holders(call, ids)).items():
        found[number] |= held
    missing = frozenset(ids).difference(*found.values())
    if not missing or not call.caller.operator:
        return found
    for collection in sorted(set((await call.ports.store.pointers()).values())):
        for image in await call.ports.store.images(collection, missing):
            found[image.project_id].add(image.id)
    return found
