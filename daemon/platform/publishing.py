"""Answers left on the platform, as collections of entities that its search box reads.

A caller has one such collection per project, found by a key; whoever looks it up takes the first of
that key. So the new one is made whole, and then every other of the key goes: the one of the last answer,
and what a crash or a lost reply left.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

import structlog

from daemon.platform.client import Client, fields_of, number_of
from state.errors import EmbedsyncError, Inconsistent, Invisible, Rejected
from state.model import Hit

NAMES = {"search": "AI Search Collection: {}", "diverse": "Diverse Collection: {}"}

TYPE = "aiSearch"

ITEMS_AT_ONCE = 1_000

LISTINGS = 3
"""How often collections are listed while others add to them, before it is given up."""

CLEANING_SECONDS = 10.0
"""How long the removal of a collection that did not become whole may take."""

log = structlog.get_logger()


class Collections:
    """Leaves answers, each with its caller's token; those of one key one after the other."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(self, kind: str, project_id: int, token: str, items: Sequence[Hit]) -> int | None:
        """Leave `items` in this order in place of the caller's last answer about the project.

        :param kind: ``search``, whose items carry their scores, or ``diverse``
        :returns: the collection's id; ``None`` where the caller may read the project and not leave anything
        :raises Invisible: when the caller may not see the project any more
        """
        key = key_of(project_id, token)
        caller = self._client.on_behalf_of(token)
        async with self._locks.setdefault(key, asyncio.Lock()):
            try:
                collection_id = await _make(caller, kind, project_id, key)
            except (Invisible, Rejected) as problem:
                await _of_key(caller, project_id, key)
                log.warning("collection.refused", project_id=project_id, problem=str(problem))
                return None
            whole = False
            try:
                for start in range(0, len(items), ITEMS_AT_ONCE):
                    await _add(caller, kind, collection_id, items[start : start + ITEMS_AT_ONCE])
                whole = True
            finally:
                if not whole:
                    await _clean(caller, collection_id)
            for other in await _of_key(caller, project_id, key):
                if other != collection_id:
                    await _remove(caller, other)
            return collection_id


def key_of(project_id: int, token: str) -> str:
    """Return the key under which the platform looks for a caller's answer about a project."""
    whose = json.dumps({"project_id": project_id, "user_token": token}, sort_keys=True)
    return hashlib.md5(whose.encode(), usedforsecurity=False).hexdigest()


async def _make(caller: Client, kind: str, project_id: int, key: str) -> int:
    """Make an empty collection.

    :raises Invisible, Rejected: when the server refuses, even with none of that key left
    """
    body = {
        "projectId": project_id,
        "name": NAMES[kind].format(key),
        "type": TYPE,
        "meta": {"aiSearchKey": key},
    }
    try:
        made = await caller.post("entities-collections.add", body)
    except Rejected:
        # This server has no two of one name or key: the old one has to go first after all.
        others = await _of_key(caller, project_id, key)
        if not others:
            raise
        for other in others:
            await _remove(caller, other)
        made = await caller.post("entities-collections.add", body)
    return number_of(fields_of(made, "id")["id"])


async def _add(caller: Client, kind: str, collection_id: int, hits: Sequence[Hit]) -> None:
    """Add images, but those that are gone.

    :raises Inconsistent: when images are said to be missing that were not added
    """
    left = hits
    while left:
        body = {"collectionId": collection_id, **_items(kind, left)}
        answer = fields_of(await caller.post("entities-collections.items.bulk.add", body))
        missing = set(answer.get("missing") or ())
        if not missing:
            return
        # Some servers add the rest then, and some add nothing.
        settled = missing | {item["entityId"] for item in answer.get("items") or ()}
        rest = [hit for hit in left if hit.image.id not in settled]
        if len(rest) == len(left):
            raise Inconsistent("other images are missing than were added")
        left = rest


def _items(kind: str, hits: Sequence[Hit]) -> dict[str, Any]:
    if kind == "search":
        scored = [{"entityId": hit.image.id, "meta": {"score": float(hit.score)}} for hit in hits]
        return {"entityItems": scored}
    return {"entityIds": [hit.image.id for hit in hits]}


async def _of_key(caller: Client, project_id: int, key: str) -> list[int]:
    """List the project's collections of that key.

    :raises Inconsistent: when the listing never adds up
    """
    body = {
        "projectId": project_id,
        "filter": [],
        "type": TYPE,
        "extraFields": ["meta"],
        "sort": "id",
        "sort_order": "asc",
    }
    problem = Inconsistent("never listed")
    for _ in range(LISTINGS):
        try:
            rows = [row async for page in caller.pages("entities-collections.list", body) for row in page]
        except Inconsistent as error:
            problem = error
            continue
        return [number_of(row.get("id")) for row in rows if _key_of(row) == key]
    raise problem


def _key_of(row: Mapping[str, Any]) -> object:
    meta = row.get("meta")
    return meta.get("aiSearchKey") if isinstance(meta, Mapping) else None


async def _remove(caller: Client, collection_id: int) -> None:
    with suppress(Invisible):
        await caller.post("entities-collections.remove", {"id": collection_id, "hardDelete": True})


async def _clean(caller: Client, collection_id: int) -> None:
    """Remove what did not become whole; if that fails, the next answer's turn does it."""
    with suppress(EmbedsyncError, TimeoutError):
        async with asyncio.timeout(CLEANING_SECONDS):
            await _remove(caller, collection_id)
