"""``images.*``."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from . import clock
from .listing import (
    Body,
    Field,
    conditions,
    date,
    matching,
    narrowed,
    number,
    numbered_page,
    ordered,
    page_after,
    plain,
)
from .model import Collection, Image, Refused, State, User
from .tables import scattered
from .wants import flag, identifier, identifiers
from .world import World

_FIELDS: dict[str, Field[Image]] = {
    "id": number("id"),
    "name": plain("name"),
    "link": plain("link"),
    "datasetId": number("dataset_id"),
    "labelsCount": number("labels"),
    "createdAt": date("created_at"),
    "updatedAt": date("updated_at"),
    "embeddingsUpdatedAt": date("embeddings_updated_at"),
    "hash": Field(lambda image: None if image.link else image.content.hash),
    "mime": Field(lambda image: image.content.mime),
    "size": Field(lambda image: image.content.size, int),
    "width": Field(lambda image: image.content.width, int),
    "height": Field(lambda image: image.content.height, int),
}


def shown(world: World, image: Image, links_read: bool) -> dict[str, Any]:
    """Write an image as the platform does; a link's size is unknown unless `links_read`."""
    content, linked = image.content, image.link is not None
    known = links_read or not linked
    return {
        "id": image.id,
        "name": image.name,
        "link": world.link_of(image),
        "hash": None if linked else content.hash,
        "mime": content.mime if known else None,
        "size": str(content.size) if known else None,
        "width": content.width if known else None,
        "height": content.height if known else None,
        "labelsCount": image.labels,
        "projectId": image.project_id,
        "datasetId": image.dataset_id,
        "createdAt": clock.shown(image.created_at),
        "updatedAt": clock.shown(image.updated_at),
        "meta": {},
        "pathOriginal": image.link or world.storage_path(content),
        "fullStorageUrl": world.url_of(image),
        "tags": [],
        "createdBy": 21,
        "description": "",
        "parentId": None,
    }


def list_(world: World, caller: User, body: Body) -> dict[str, Any]:
    project_id, datasets = _place(world, caller, body)
    wanted = conditions(body, _FIELDS)
    if not world.rules.keyset_allowed and any(
        one.field == "id" and one.operator not in {"=", "in"} for one in wanted
    ):
        raise Refused(400, "Validation failed", message="id cannot be compared")
    collection, kept = _of_collection(world, project_id, body)
    by_token = body.get("pagination_mode") == "token"
    rows: Sequence[Image] = (world.in_any_order if by_token else world.by_id)(project_id)
    if flag(body, "showDisabled"):
        every = world.projects[project_id].images.values()
        rows = sorted(every, key=scattered if by_token else attrgetter("id"))
    if not by_token:
        rows, wanted = narrowed(rows, wanted)
    if datasets is not None:
        rows = [image for image in rows if image.dataset_id in datasets]
    if kept is not None:
        rows = [image for image in rows if image.id in kept]
    rows = matching(rows, wanted, _FIELDS)
    if by_token:
        page = page_after(rows, body, world.rules)
        more = {"after": page.after}
    else:
        page, more = numbered_page(ordered(rows, body, _FIELDS, already="id"), body, world.rules), {}
    return page.answer(lambda image: _row(world, image, body, collection), **more)


def info(world: World, caller: User, body: Body) -> dict[str, Any]:
    return _row(world, world.readable_image(caller, identifier(body, "id")), body, None)


def set_embeddings_updated_at(world: World, caller: User, body: Body) -> dict[str, Any]:
    """Note when images were embedded; those that are gone are passed over."""
    wanted = body.get("images")
    if not isinstance(wanted, list):
        raise Refused(400, "Validation failed", message="images is required")
    for one in wanted:
        image = world.images.get(identifier(one, "id"))
        if image is not None and image.state is State.LIVE:
            world.readable(caller, image.project_id, write=True)
            stamp = one.get("embeddingsUpdatedAt")
            image.embeddings_updated_at = None if stamp is None else clock.read(stamp)
    return {"success": True}


def of_dataset(world: World, caller: User, body: Body) -> list[Image]:
    """Return the images that ``images.bulk.download`` asks for; those that are not there are missing."""
    dataset = world.readable_dataset(caller, identifier(body, "datasetId"))
    found = (world.images.get(image_id) for image_id in identifiers(body, "imageIds"))
    return [one for one in found if one and one.dataset_id == dataset.id and one.state is State.LIVE]


def _place(world: World, caller: User, body: Body) -> tuple[int, set[int] | None]:
    """Return the project that is listed, and which of its datasets, if not all."""
    if body.get("datasetId") is None:
        return world.readable(caller, identifier(body, "projectId")).id, None
    dataset = world.readable_dataset(caller, identifier(body, "datasetId"))
    return dataset.project_id, world.nested(dataset.id) if flag(body, "recursive") else {dataset.id}


def _of_collection(world: World, project_id: int, body: Body) -> tuple[Collection | None, set[int] | None]:
    """Return the collection whose items are listed, and which of them, if any is named."""
    for one in body.get("filters") or []:
        if one.get("type") not in {"entities_collection", "entities_ai_search_collection"}:
            raise Refused(400, "Validation failed", message=f"cannot filter by {one.get('type')}")
        data = one.get("data", {})
        collection = world.collections.get(identifier(data, "collectionId"))
        if collection is None or collection.removed or collection.project_id != project_id:
            raise Refused(404, "Not found", message="Collection not found")
        return collection, _past_threshold(collection, data)
    return None, None


def _past_threshold(collection: Collection, data: Body) -> set[int]:
    bound = data.get("threshold")
    if bound is None:
        return set(collection.items)
    below = data.get("thresholdDirection") == "below"
    scores = {image_id: (meta or {}).get("score", 0.0) for image_id, meta in collection.items.items()}
    return {image_id for image_id, score in scores.items() if (score <= bound if below else score >= bound)}


def _row(world: World, image: Image, body: Body, collection: Collection | None) -> dict[str, Any]:
    row = shown(world, image, flag(body, "forceMetadataForLinks"))
    extra = body.get("extraFields") or ()
    if "embeddingsUpdatedAt" in extra:
        stamp = image.embeddings_updated_at
        row["embeddingsUpdatedAt"] = None if stamp is None else clock.shown(stamp)
    if collection is not None and collection.type == "aiSearch":
        row["aiSearchMeta"] = collection.items[image.id]
    fields = body.get("fields")
    return {name: row[name] for name in fields if name in row} if fields else row
