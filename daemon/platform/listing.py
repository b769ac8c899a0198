"""Listing images whole, in ascending order of id, whatever changes meanwhile.

By keyset: everything with an id above the last one, sorted. Pages by number would skip and double images
while a project changes. A server that does not sort or filter so is found out by the order of what it
answers; then its token mode is used, and the rows are sorted here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from itertools import pairwise
from typing import Any

from daemon.platform.client import Client, fields_of, number_of, rows_of
from daemon.platform.watermark import Watermark
from state.errors import Inconsistent, Rejected
from state.model import ImageRef

PER_PAGE = 1_000

IDS_AT_ONCE = 500
"""Images asked for by id in one call."""

Row = Mapping[str, Any]

Filter = Mapping[str, Any]


async def whole_project(client: Client, project_id: int) -> AsyncIterator[list[ImageRef]]:
    """List a project, nested datasets included, disabled images left out.

    :raises Inconsistent: after the last page, when rows are missing of what the server counts
    """
    try:
        listed, counted = 0, None
        async for page, left in _by_keyset(client, project_id, []):
            counted = left if counted is None else counted
            listed += len(page)
            yield page
        # Fewer than were counted at first is no contradiction, if the server agrees now.
        if counted is not None and listed < counted and listed < await count(client, project_id):
            raise Inconsistent(f"{listed} images of {counted} listed")
    except Rejected:
        async for page in _by_token(client, project_id, []):
            yield page


async def changed_since(client: Client, project_id: int, mark: Watermark) -> AsyncIterator[list[ImageRef]]:
    """List the images whose `updatedAt` is at or past a watermark, save those known to have that very time.

    Of known images nothing but a later time tells that they changed; so they, whose ids come first, are
    asked for by that, and the others by the watermark's own time.
    """
    try:
        if mark.known:
            async for page, _ in _by_keyset(client, project_id, [_at_or_past(mark.later)]):
                known = [image for image in page if image.id <= mark.known]
                if known:
                    yield known
                if len(known) < len(page):
                    break
        async for page, _ in _by_keyset(client, project_id, [_at_or_past(mark.time)], mark.known):
            yield page
    except Rejected:
        async for page in _by_token(client, project_id, [_at_or_past(mark.time)]):
            yield page


async def some_images(client: Client, project_id: int, ids: Collection[int]) -> AsyncIterator[list[ImageRef]]:
    """List those of these images that are in the project now.

    :raises Inconsistent: when the answer contradicts its own count
    """
    wanted = sorted(ids)
    for start in range(0, len(wanted), IDS_AT_ONCE):
        part = wanted[start : start + IDS_AT_ONCE]
        one_of = {"field": "id", "operator": "in", "value": part}
        answer = await _page(client, project_id, [one_of], IDS_AT_ONCE)
        rows = rows_of(answer)
        if len(rows) != number_of(answer.get("total", len(rows))):
            raise Inconsistent(f"{len(rows)} of {answer['total']} images answered")
        if images := sorted((_image(row, project_id) for row in rows), key=lambda image: image.id):
            yield images


async def count(client: Client, project_id: int) -> int:
    """Return how many images the server says a project has."""
    answer = await _page(client, project_id, [], 1)
    return number_of(answer.get("total", 0))


async def _by_keyset(
    client: Client, project_id: int, filters: list[Filter], last: int = 0
) -> AsyncIterator[tuple[list[ImageRef], int]]:
    """Yield pages above the id `last`, each with how many images the server counted from there on.

    :raises Rejected: when this server cannot list so
    """
    while True:
        above = {"field": "id", "operator": "gt", "value": last}
        answer = await _page(client, project_id, [*filters, above], PER_PAGE)
        rows = rows_of(answer)
        left = number_of(answer.get("total", len(rows)))
        images = [_image(row, project_id) for row in rows]
        if any(one.id >= other.id for one, other in pairwise(images)):
            raise Rejected("this server does not sort by id")
        if images and images[0].id <= last:
            raise Rejected("this server does not list from an id on")
        if images:
            yield images, left
            last = images[-1].id
        if left > len(rows) and not rows:
            raise Inconsistent(f"{left} more images are counted, and none is listed")
        if left <= len(rows):
            return


async def _by_token(client: Client, project_id: int, filters: list[Filter]) -> AsyncIterator[list[ImageRef]]:
    """Read a listing whose order the server chooses; all of it is held, then sorted."""
    body = {**_body(project_id, filters, PER_PAGE), "pagination_mode": "token"}
    images: list[ImageRef] = []
    after, total = None, 0
    while True:
        answer = await client.post("images.list", {**body, "after": after} if after else body)
        images += [_image(row, project_id) for row in rows_of(answer)]
        total = number_of(answer.get("total", total))
        after = answer.get("after")
        if not after or not rows_of(answer):
            break
    by_id = {image.id: image for image in images}
    if len(by_id) != len(images) or len(by_id) < total:
        raise Inconsistent(f"{len(by_id)} different images of {total} listed")
    ordered = sorted(by_id.values(), key=lambda image: image.id)
    for start in range(0, len(ordered), PER_PAGE):
        yield ordered[start : start + PER_PAGE]


async def _page(client: Client, project_id: int, filters: list[Filter], per_page: int) -> Row:
    answer = await client.post("images.list", _body(project_id, filters, per_page))
    return fields_of(answer, "entities", "total")


def _at_or_past(time: str) -> Filter:
    return {"field": "updatedAt", "operator": "gte", "value": time}


def _body(project_id: int, filters: list[Filter], per_page: int) -> dict[str, Any]:
    return {
        "projectId": project_id,
        "filter": filters,
        "sort": "id",
        "sort_order": "asc",
        "per_page": per_page,
        "recursive": True,
        "forceMetadataForLinks": False,
        "extraFields": ["embeddingsUpdatedAt"],
    }


def _image(row: Row, project_id: int) -> ImageRef:
    return ImageRef(
        id=number_of(row.get("id")),
        project_id=project_id,
        dataset_id=number_of(row.get("datasetId")),
        name=str(row.get("name") or row.get("title") or ""),
        content=row.get("hash") or None,
        path=str(row.get("fullStorageUrl") or row.get("link") or ""),
        updated_at=str(row.get("updatedAt") or ""),
        shown=row.get("embeddingsUpdatedAt") is not None,
    )
