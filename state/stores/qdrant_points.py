"""Points of a Qdrant server: proofs as payloads, and the filters that find them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from qdrant_client import models

from state.errors import Inconsistent
from state.model import StoredImage, Vectors, Within

SCHEMA = 1

IDS_PER_FILTER = 5000
"""So many ids to keep to in one filter: some 10 ms to write as gRPC, and few points to compare one by one."""

LARGEST_ID = 2**63 - 1

Payload = dict[str, Any]
_T = TypeVar("_T")

PROOF = [field.name for field in fields(StoredImage) if field.name != "id"]
"""What of a payload says what a point was made from; the rest serves the server's indexes."""

_of_image = attrgetter(*PROOF)
_of_payload = itemgetter(*PROOF)


def payload_of(image: StoredImage) -> Payload:
    """Return a proof as a payload; the project is there once more as a word, for indexes by tenant."""
    proof = dict(zip(PROOF, _of_image(image), strict=True))
    return {**proof, "project": str(image.project_id), "v": SCHEMA}


def images_of(points: Iterable[models.Record | models.ScoredPoint]) -> list[StoredImage]:
    """Return the proofs in the payloads of points.

    :raises Inconsistent: when one is none of ours
    """
    try:
        return [StoredImage(int(point.id), *_of_payload(point.payload or {})) for point in points]
    except (KeyError, ValueError) as error:
        raise Inconsistent(f"the collection holds a point that is not ours: {error!r}") from None


def is_ours(payload: Payload | None) -> bool:
    """Tell whether a payload was written by this version or an earlier one."""
    version = (payload or {}).get("v")
    return isinstance(version, int) and version <= SCHEMA and "content" in (payload or {})


def points_of(images: Sequence[StoredImage], rows: Vectors) -> list[models.PointStruct]:
    """Return points, each a vector and its proof."""
    return [
        models.PointStruct(id=image.id, vector=row, payload=payload_of(image))
        for image, row in zip(images, rows.tolist(), strict=True)
    ]


def storable(ids: Collection[int]) -> list[int]:
    """Return ids sorted and unique, without those no point can have."""
    return sorted({image_id for image_id in ids if 0 <= image_id <= LARGEST_ID})


def parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Split a sequence into parts of up to `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def matching(key: str, value: int | str) -> models.FieldCondition:
    """Return the condition that a field has this value."""
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def among(ids: Sequence[int]) -> models.HasIdCondition:
    """Return the condition that a point is one of these."""
    return models.HasIdCondition(has_id=list(ids))


def written_after(epoch: int) -> models.FieldCondition:
    """Return the condition that a point is of a later epoch."""
    return models.FieldCondition(key="epoch", range=models.Range(gt=epoch))


def in_project(project_id: int) -> models.FieldCondition:
    """Return the condition that a point is a project's, asked of the index by tenant."""
    return matching("project", str(project_id))


def of_project(project_id: int, *conditions: models.Condition) -> models.Filter:
    """Return the filter of a project's points."""
    return models.Filter(must=[in_project(project_id), *conditions])


def filters(within: Within) -> Iterator[models.Filter]:
    """Say what `within` is, in filters of up to :data:`IDS_PER_FILTER` ids, which no point matches twice."""
    narrowed = [] if within.dataset_id is None else [matching("dataset_id", within.dataset_id)]
    if within.ids is None:
        condition = of_project(within.project_id, *narrowed)
        if unwanted := storable(within.exclude):
            condition.must_not = [among(unwanted)]
        yield condition
        return
    for part in parts(storable(within.ids - within.exclude), IDS_PER_FILTER):
        yield of_project(within.project_id, *narrowed, among(part))
