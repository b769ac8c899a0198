"""Nearest neighbours on a Qdrant server, however many ids a question keeps to and however many it wants.

A question about few points is compared with each of them; one that keeps to many ids is asked in parts,
whose answers are merged. Large answers come as ids and scores, and only those that stay get their proofs:
understanding an answer holds up the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest

from qdrant_client import models

from state.model import Hit, Vectors, Within
from state.stores.qdrant_collections import OVERSAMPLING
from state.stores.qdrant_points import filters, images_of, parts
from state.stores.qdrant_reading import Reading
from state.stores.together import together

HITS_WITH_PROOFS = 1000
"""So many at most are answered in one piece, some 4 ms to understand."""

SCORES_PER_READ = 5000

Scored = tuple[float, int]
"""Minus the cosine, and an id: sorts best first, and equals by id."""


class Search:
    """Nearest-neighbour queries of a collection, by its name on the server.

    :param quantized: whether the server searches in a smaller copy, and the best are to be scored anew
    """

    def __init__(self, reading: Reading, quantized: bool) -> None:
        self._reading = reading
        self._quantization = (
            models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING) if quantized else None
        )

    async def query(
        self, name: str, queries: Vectors, within: Within, limit: int, exact: bool
    ) -> list[list[Hit]]:
        """Return the points of `within` nearest to each row of `queries`, best first."""
        exact = exact or within.ids is not None
        conditions = list(filters(within))
        if not len(queries) or not conditions or limit < 1:
            return [[] for _ in queries]
        rows = queries.tolist()
        if len(conditions) == 1 and len(rows) * limit <= HITS_WITH_PROOFS:
            requests = self._requests(rows, conditions[0], limit, exact, with_payload=True)
            return [_hits(answer.points) for answer in await self._reading.ask(name, requests)]
        return await self._with_proofs(name, await self._best(name, rows, conditions, limit, exact))

    async def _best(
        self,
        name: str,
        rows: Sequence[list[float]],
        conditions: Sequence[models.Filter],
        limit: int,
        exact: bool,
    ) -> list[list[Scored]]:
        """Ask for ids and scores, a bounded number at a time, and merge what the parts answer."""

        async def ask(some: Sequence[list[float]], condition: models.Filter) -> list[list[Scored]]:
            requests = self._requests(some, condition, limit, exact, with_payload=False)
            answers = await self._reading.ask(name, requests)
            return [[(-point.score, int(point.id)) for point in answer.points] for answer in answers]

        together_asked = max(1, SCORES_PER_READ // limit)
        best: list[list[Scored]] = []
        for some in parts(rows, together_asked):
            answers = await together(ask(some, condition) for condition in conditions)
            for of_one in zip(*answers, strict=True):
                best.append(nsmallest(limit, (scored for part in of_one for scored in part)))
        return best

    async def _with_proofs(self, name: str, best: Sequence[list[Scored]]) -> list[list[Hit]]:
        """Fetch the proofs; a point removed since it was found is no answer any more."""
        ids = {point_id for scored in best for _, point_id in scored}
        images = {image.id: image for image in await self._reading.images(name, ids)}
        return [
            [Hit(images[point_id], -score) for score, point_id in scored if point_id in images]
            for scored in best
        ]

    def _requests(
        self,
        rows: Sequence[list[float]],
        condition: models.Filter,
        limit: int,
        exact: bool,
        with_payload: bool,
    ) -> list[models.QueryRequest]:
        params = None
        if exact or self._quantization:
            params = models.SearchParams(exact=exact, quantization=self._quantization)
        return [
            models.QueryRequest(
                query=row, filter=condition, limit=limit, params=params, with_payload=with_payload
            )
            for row in rows
        ]


def _hits(points: Sequence[models.ScoredPoint]) -> list[Hit]:
    scores = (point.score for point in points)
    return [Hit(*pair) for pair in zip(images_of(points), scores, strict=True)]
