"""``entities-collections.*``."""

from __future__ import annotations

from typing import Any

from . import clock
from .listing import Body, Field, conditions, matching, number, numbered_page, ordered, plain
from .model import Collection, Refused, State, User
from .wants import flag, identifier, identifiers, text
from .world import World

_FIELDS: dict[str, Field[Collection]] = {"id": number("id"), "name": plain("name")}


def _shown(world: World, collection: Collection, with_meta: bool) -> dict[str, Any]:
    row = {
        "id": collection.id,
        "name": collection.name,
        "teamId": world.projects[collection.project_id].team_id,
        "projectId": collection.project_id,
        "createdAt": clock.shown(collection.created_at),
        "updatedAt": clock.shown(collection.updated_at),
        "description": collection.description,
        "options": {},
        "type": collection.type,
    }
    return {**row, "meta": collection.meta} if with_meta else row


def _wants_meta(body: Body) -> bool:
    return "meta" in (body.get("extraFields") or ())


def _found(world: World, caller: User, body: Body, name: str) -> Collection:
    collection = world.collections.get(identifier(body, name))
    if collection is None or collection.removed:
        raise Refused(404, "Not found", message="Collection not found")
    world.readable(caller, collection.project_id)
    return collection


def add(world: World, caller: User, body: Body) -> dict[str, Any]:
    project = world.readable(caller, identifier(body, "projectId"))
    name, kind, meta = text(body, "name"), body.get("type", "default"), body.get("meta") or {}
    if kind not in {"default", "aiSearch"} or (kind == "aiSearch" and not meta.get("aiSearchKey")):
        raise Refused(400, "Validation failed", message="an aiSearch collection needs a key")
    for one in world.collections.values():
        if one.project_id != project.id or one.removed:
            continue
        same_name = world.rules.collection_names_are_unique and one.name == name
        same_key = world.rules.collection_keys_are_unique and kind == one.type == "aiSearch"
        if same_name or (same_key and one.meta == meta):
            raise Refused(
                400, "Name is not unique", type="NONUNIQUE", errors=[{"id": one.id, "name": one.name}]
            )
    now = world.clock.stamp()
    made = Collection(
        world.next_id("collection"), name, project.id, kind, meta, now, now, body.get("description")
    )
    world.collections[made.id] = made
    return _shown(world, made, with_meta=True)


def remove(world: World, caller: User, body: Body) -> dict[str, Any]:
    collection = _found(world, caller, body, "id")
    collection.removed = True
    if flag(body, "hardDelete"):
        del world.collections[collection.id]
    return {"success": True}


def list_(world: World, caller: User, body: Body) -> dict[str, Any]:
    project = world.readable(caller, identifier(body, "projectId"))
    kind = body.get("type", "default")
    rows = [
        one
        for one in world.collections.values()
        if one.project_id == project.id and not one.removed and kind in {one.type, "all"}
    ]
    kept = matching(rows, conditions(body, _FIELDS), _FIELDS)
    page = numbered_page(ordered(kept, body, _FIELDS, already="id"), body, world.rules)
    return page.answer(lambda one: _shown(world, one, _wants_meta(body) and kind == "aiSearch"))


def info(world: World, caller: User, body: Body) -> dict[str, Any]:
    return _shown(world, _found(world, caller, body, "id"), _wants_meta(body))


def add_items(world: World, caller: User, body: Body) -> dict[str, Any]:
    collection = _found(world, caller, body, "collectionId")
    items: dict[int, dict[str, Any] | None]
    if "entityItems" in body:
        items = {identifier(one, "entityId"): one.get("meta") for one in body["entityItems"]}
    else:
        items = dict.fromkeys(identifiers(body, "entityIds"))
    there = world.projects[collection.project_id].images
    missing = [one for one in items if one not in there or there[one].state is not State.LIVE]
    if missing and not world.rules.rest_is_added_when_some_are_missing:
        return {"items": [], "missing": missing}
    added = {image_id: meta for image_id, meta in items.items() if image_id not in missing}
    collection.items.update(added)
    collection.updated_at = world.clock.stamp()
    return {"items": [{"id": image_id, "entityId": image_id} for image_id in added], "missing": missing}


def remove_items(world: World, caller: User, body: Body) -> dict[str, Any]:
    collection = _found(world, caller, body, "collectionId")
    wanted = identifiers(body, "entityIds")
    gone = [image_id for image_id in wanted if image_id in collection.items]
    for image_id in gone:
        del collection.items[image_id]
    missing = [image_id for image_id in wanted if image_id not in gone]
    return {"items": [{"id": image_id, "entityId": image_id} for image_id in gone], "missing": missing}
