"""``/diverse`` and ``/clusters``: a few images that stand for many, and how they group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
from aiohttp import web

from handlers.answers import json_bytes, reply
from handlers.clustering import Clusters, cluster
from handlers.embeddings import disabled_message
from handlers.parts import Call
from handlers.projects import collection_of, find_project
from handlers.publishing import publish
from handlers.requests import ClustersRequest, DiverseRequest, ProjectionsRequest
from handlers.selection import Selection, select
from state.model import Hit, Matrix, StoredImage, Vectors, Within

NO_VECTORS = {"message": "No vectors found."}


async def choose_diverse(call: Call, wish: DiverseRequest) -> web.Response:
    """Choose images that differ from each other and stand for the rest."""
    project = await find_project(call, wish.project_id)
    if not project.enabled:
        return reply({"message": disabled_message(project)})
    collection = await collection_of(call, project)
    scope = frozenset(wish.image_ids or ()) or None
    within = Within(project.id, wish.dataset_id if scope is None else None, scope)
    matrix = await call.ports.matrices.matrix(collection, within)
    if not len(matrix.ids):
        return reply(NO_VECTORS)
    selected = frozenset(wish.selected_image_ids or ())
    strangers = await _outside(call, collection, project.id, selected, matrix)
    picks = await call.parts.heavy.run(_select, matrix, selected, strangers, wish)
    images = await images_of(call, collection, matrix.ids[picks.rows].tolist())
    if not images:
        return reply({"message": "No diverse images found."})
    hits = [Hit(image, 0.0) for image in images]
    return reply(
        {
            **await publish(call, "diverse", project.id, hits),
            "items": await call.parts.light.sized(len(images), _items, images),
            "method": wish.chosen_method,
            "coverage": picks.coverage,
        }
    )


async def find_clusters(call: Call, wish: ClustersRequest) -> web.Response:
    """Group images by likeness."""
    found = await vectors_of(call, wish)
    if isinstance(found, web.Response):
        return found
    _, matrix = found
    clusters = await call.parts.heavy.run(
        cluster, matrix.vectors, wish.clustering_method, wish.num_clusters, seed=0
    )
    return json_bytes(await call.parts.light.run(_clusters_json, matrix, clusters))


async def vectors_of(
    call: Call, wish: ClustersRequest | ProjectionsRequest
) -> tuple[str, Matrix] | web.Response:
    """Return the vectors a request is about and their collection, or what to answer where there are none."""
    project = await find_project(call, wish.project_id)
    if not project.enabled:
        return reply({"message": disabled_message(project)})
    collection = await collection_of(call, project)
    within = Within(project.id, ids=frozenset(wish.image_ids or ()) or None)
    matrix = await call.ports.matrices.matrix(collection, within)
    return (collection, matrix) if len(matrix.ids) else reply(NO_VECTORS)


async def images_of(call: Call, collection: str, ids: Sequence[int]) -> list[StoredImage]:
    """Return the proofs of `ids` in that order; what was removed meanwhile is left out."""
    found = {image.id: image for image in await call.ports.store.images(collection, ids)}
    return [found[image_id] for image_id in ids if image_id in found]


async def _outside(
    call: Call, collection: str, project_id: int, selected: frozenset[int], matrix: Matrix
) -> Sequence[Vectors]:
    """Return the vectors of what is selected already but not in the scope."""
    missing = selected.difference(matrix.ids[np.isin(matrix.ids, list(selected))].tolist())
    found = await call.ports.store.embeddings(collection, missing) if missing else []
    return [each.vector for each in found if each.image.project_id == project_id]


def _select(
    matrix: Matrix, selected: frozenset[int], strangers: Sequence[Vectors], wish: DiverseRequest
) -> Selection:
    vectors = np.concatenate([matrix.vectors, np.stack(strangers)]) if strangers else matrix.vectors
    members = np.flatnonzero(np.isin(matrix.ids, list(selected)))
    return select(
        vectors,
        wish.sample_size,
        wish.chosen_method,
        seed=wish.seed,
        clustering=wish.clustering_method,
        num_clusters=wish.num_clusters,
        selected=np.concatenate([members, np.arange(len(matrix.ids), len(vectors))]),
    )


def _items(images: Sequence[StoredImage]) -> list[dict[str, object]]:
    return [
        {"image_id": image.id, "dataset_id": image.dataset_id, "name": image.name, "path": image.path}
        for image in images
    ]


def _clusters_json(matrix: Matrix, clusters: Clusters) -> bytes:
    labelled = zip(matrix.ids.tolist(), clusters.labels.tolist(), strict=True)
    middles = matrix.ids[clusters.representatives].tolist()
    return orjson.dumps(
        {
            "items": [{"image_id": image_id, "cluster": label} for image_id, label in labelled],
            "clusters": [
                {"cluster": label, "size": size, "representative_image_id": middle}
                for label, (size, middle) in enumerate(zip(clusters.sizes.tolist(), middles, strict=True))
            ],
        }
    )
