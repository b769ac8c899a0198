"""``/search``: by texts, by images, by both, and away from either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from aiohttp import web

from handlers.answers import reply
from handlers.copies import first_of_each, without_copies
from handlers.embeddings import disabled_message
from handlers.errors import BadRequest, NotYet
from handlers.parts import Call
from handlers.projects import collection_of, find_project
from handlers.publishing import publish
from handlers.requests import SearchRequest
from handlers.scoring import Fusion, Scoring, best_hits, fuse, fused_hits, scoring_for
from handlers.texts import EncodedText
from state.errors import Rejected, Unavailable
from state.model import Embedding, Hit, Progress, Project, Vectors, Within

Role = Literal["query", "scope"]


@dataclass(frozen=True, slots=True)
class Images:
    """What the image ids of a request are for.

    :param role: as what its ``image_ids`` were taken; ``None`` where there are none
    """

    query: frozenset[int]
    negative: frozenset[int]
    scope: frozenset[int] | None
    role: Role | None


@dataclass(frozen=True, slots=True)
class Queries:
    """What to look for, and what to stay away from."""

    texts: Sequence[EncodedText]
    images: Sequence[Embedding]
    negative_texts: Sequence[EncodedText]
    negative_images: Sequence[Embedding]

    @property
    def positives(self) -> list[Vectors]:
        """Vectors of what is wanted."""
        return [text.vector for text in self.texts] + [image.vector for image in self.images]

    @property
    def negatives(self) -> list[Vectors]:
        """Vectors of what is not wanted."""
        return [text.vector for text in self.negative_texts] + [
            image.vector for image in self.negative_images
        ]

    @property
    def ignored_words(self) -> list[str]:
        """Words of the texts that did not count, each once."""
        return list(
            dict.fromkeys(word for text in (*self.texts, *self.negative_texts) for word in text.ignored)
        )


async def search(call: Call, wish: SearchRequest) -> web.Response:
    """Find the images most like what is asked for."""
    project = await find_project(call, wish.project_id)
    if not project.enabled:
        return reply({"message": disabled_message(project)})
    collection = await collection_of(call, project)
    images = image_roles(wish, call.parts.search_image_ids)
    if not wish.prompt and not images.query:
        return reply({"message": "No queries provided."})
    queries = await _queries(call, project, collection, wish, images)
    if queries is None:
        return reply({"message": "No images found for the provided IDs."})
    within = Within(
        project.id,
        wish.dataset_id if images.scope is None else None,
        images.scope,
        frozenset() if wish.include_query else images.query | images.negative,
    )
    hits, scoring = await _nearest(call, collection, queries, within, wish)
    if not hits:
        return reply({"message": "No similar images found."})
    answer: dict[str, object] = {
        **await publish(call, "search", project.id, hits),
        "items": await call.parts.light.sized(len(hits), _items, hits),
        "scoring": scoring,
    }
    if images.role is not None:
        answer["image_ids"] = images.role
    if ignored := queries.ignored_words:
        answer["ignored_words"] = ignored
    return reply(answer)


def image_roles(wish: SearchRequest, beside_prompt: Role) -> Images:
    """Tell query images from the scope.

    ``image_ids`` are the scope beside ``by_image_ids``, the query when they come alone, and beside a
    prompt what the administrator says.
    """
    given = frozenset(wish.image_ids or ())
    query = frozenset(wish.by_image_ids or ())
    scope = frozenset(wish.restricted_image_ids or ()) or None
    role: Role | None = None
    if given:
        role = "scope" if query else beside_prompt if wish.prompt else "query"
    if role == "query":
        query = given
    elif role == "scope":
        scope = given if scope is None else given & scope
    return Images(query, frozenset(wish.negative_image_ids or ()), scope, role)


async def _queries(
    call: Call, project: Project, collection: str, wish: SearchRequest, images: Images
) -> Queries | None:
    """Return the vectors to search with; ``None`` when images are named and none is known.

    Images are looked up and never encoded: their vectors are stored already.
    """
    by_role = "image_ids" if images.role == "query" else "by_image_ids"
    positive = await _stored(call, project, collection, by_role, images.query)
    negative = await _stored(call, project, collection, "negative_image_ids", images.negative)
    if (images.query and not positive) or (images.negative and not negative):
        return None
    return Queries(
        await _texts(call, project, collection, "prompt", wish.prompt or ()),
        positive,
        await _texts(call, project, collection, "negative_prompt", wish.negative_prompt or ()),
        negative,
    )


async def _stored(
    call: Call, project: Project, collection: str, field: str, ids: frozenset[int]
) -> list[Embedding]:
    most = call.limits.query_images
    if len(ids) > most:
        raise BadRequest(
            field,
            f"at most {most} images to search by; the ids to search among are restricted_image_ids"
            " (or set SEARCH_IMAGE_IDS=scope)",
        )
    if not ids:
        return []
    found = await call.ports.store.embeddings(collection, ids)
    return [embedding for embedding in found if embedding.image.project_id == project.id]


async def _texts(
    call: Call, project: Project, collection: str, field: str, texts: Sequence[str]
) -> list[EncodedText]:
    try:
        return await call.parts.texts.encode(call.ports.encoder, collection, texts)
    except Rejected as error:
        raise BadRequest(field, str(error), 422) from error
    except Unavailable as error:
        if progress := call.ports.syncs.searched(project.id, collection):
            raise await _until_then(call, project, collection, progress) from error
        raise


async def _until_then(call: Call, project: Project, collection: str, progress: Progress) -> NotYet:
    """Say how far the encoder is that takes the project over."""
    at_work = call.ports.syncs.at_work().id
    ready = await call.ports.store.count(at_work, Within(project.id)) if at_work else 0
    total = await call.ports.source.count(project.id)
    left = progress.remaining_seconds
    return NotYet(
        "clip",
        f"Texts cannot be searched now: {collection}, which made the vectors of the images, cannot be asked"
        f" any more, and {at_work or 'another encoder'} is taking over. {ready} of {total} images are ready"
        + (f", about {left / 60:.0f} minutes are left." if left is not None and left >= 90 else "."),
        left,
    )


async def _nearest(
    call: Call, collection: str, queries: Queries, within: Within, wish: SearchRequest
) -> tuple[list[Hit], Scoring]:
    """Ask the engine once, and score its answer."""
    positives, negatives = queries.positives, queries.negatives
    scoring = scoring_for(
        wish.scoring,
        texts=bool(queries.texts or queries.negative_texts),
        images=bool(queries.images or queries.negative_images),
        negatives=bool(negatives),
    )
    light = call.parts.light
    if scoring == "cosine":
        answers = await _answers(call, collection, np.stack(positives), within, wish)
        hits = [hit for answer in answers for hit in answer]
        best = await light.sized(len(hits), best_hits, hits, len(hits), wish.threshold)
        return (first_of_each(best) if wish.unique_content else best)[: wish.limit], scoring
    fusion = await _fusion(call, collection, within.project_id, positives, negatives, scoring)
    [hits] = await _answers(call, collection, fusion.vector[np.newaxis], within, wish)
    scored = await light.sized(len(hits), fused_hits, fusion, hits, wish.limit, wish.threshold)
    return scored, fusion.scoring


async def _answers(
    call: Call, collection: str, queries: Vectors, within: Within, wish: SearchRequest
) -> list[list[Hit]]:
    async def ask(limit: int) -> list[list[Hit]]:
        return await call.ports.store.query(collection, queries, within, limit, wish.exact)

    if wish.unique_content:
        return await without_copies(ask, wish.limit, call.limits.search_limit)
    return await ask(wish.limit)


async def _fusion(
    call: Call,
    collection: str,
    project_id: int,
    positives: Sequence[Vectors],
    negatives: Sequence[Vectors],
    scoring: Scoring,
) -> Fusion:
    wanted = np.stack(positives)
    unwanted = np.stack(negatives) if negatives else wanted[:0]
    sample = wanted[:0]
    if scoring == "calibrated":
        sample = await call.parts.samples.sample(
            call.ports.matrices, call.parts.light, collection, project_id
        )
    return await call.parts.light.run(fuse, wanted, unwanted, sample, scoring)


def _items(hits: Sequence[Hit]) -> list[dict[str, object]]:
    return [
        {
            "image_id": hit.image.id,
            "score": hit.score,
            "dataset_id": hit.image.dataset_id,
            "name": hit.image.name,
            "path": hit.image.path,
        }
        for hit in hits
    ]
