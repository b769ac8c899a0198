"""``/projections``: images laid out in the plane, near what they are like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray

from handlers.answers import json_bytes
from handlers.diverse import vectors_of
from handlers.parts import Call
from handlers.projection import plane
from handlers.requests import ProjectionsRequest
from handlers.scoring import sample_rows
from state.model import Matrix, StoredImage


async def project_onto_map(call: Call, wish: ProjectionsRequest) -> web.Response:
    """Lay images out on a map; of very many a sample, and ``X-Sampled`` says of how many."""
    found = await vectors_of(call, wish)
    if isinstance(found, web.Response):
        return found
    collection, matrix = found
    ids, points = await call.parts.heavy.run(_lay_out, matrix, call.limits.projection_points)
    images = await call.ports.store.images(collection, ids.tolist())
    body = await call.parts.light.run(_json, images, ids, points)
    sampled = {"X-Sampled": f"{len(ids)} of {len(matrix.ids)}"} if len(ids) < len(matrix.ids) else None
    return json_bytes(body, headers=sampled)


def _lay_out(matrix: Matrix, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if len(matrix.ids) <= most:
        return matrix.ids, plane(matrix.vectors)
    rows = np.sort(sample_rows(matrix.ids, most))
    return matrix.ids[rows], plane(matrix.vectors[rows])


def _json(images: Sequence[StoredImage], ids: NDArray[np.int64], points: NDArray[np.float32]) -> bytes:
    """Write both lists in step; an image removed meanwhile is in neither."""
    places = dict(zip(ids.tolist(), points.tolist(), strict=True))
    known = [image for image in images if image.id in places]
    items = [
        {
            "id": image.id,
            "dataset_id": image.dataset_id,
            "full_url": image.path if "://" in image.path else None,
            "cas_url": None,
            "updated_at": image.updated_at or None,
            "score": None,
        }
        for image in known
    ]
    return orjson.dumps([items, [places[image.id] for image in known]])
