"""What is answered: the JSON of every answer, and the models that describe it in the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from state.model import Action, Reason, TaskStatus

Point = tuple[float, float]


def reply(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON; numpy's numbers and arrays are understood."""
    return json_bytes(orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY), status, headers)


def json_bytes(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON that is written already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


class Answer(BaseModel):
    """An answer; a field that is not listed is never sent."""

    model_config = ConfigDict(extra="forbid")


class Message(Answer):
    """What happened, in words."""

    message: str


class FieldProblem(Answer):
    """What is wrong with one field."""

    field: str
    problem: str


class Failure(Answer):
    """Why there is no answer."""

    message: str
    errors: list[FieldProblem] | None = None
    request_id: str | None = None
    status: Literal["error"] | None = None
    detail: str | None = None


class VectorsAnswer(Answer):
    """Vectors in the order of the ids."""

    image_ids: list[int]
    vectors: list[list[float]]


class PlannedImage(Answer):
    """An image a sync would touch."""

    image_id: int
    reason: Reason


class PlanAnswer(Answer):
    """What a sync of one project would do."""

    project_id: int
    counts: dict[Action, int]
    changes: dict[Action, list[PlannedImage]]
    quarantined: int
    held: int


class PlansAnswer(Answer):
    """What a sync would do, changing nothing."""

    plans: list[PlanAnswer]


class Item(Answer):
    """An image; ``path`` is the file's under a folder, and its address on a platform."""

    image_id: int
    dataset_id: int
    name: str
    path: str


class ScoredItem(Item):
    """An image and how well it matches."""

    score: float


class CollectionAnswer(Answer):
    """An answer that may also have been left on the platform as a collection."""

    collection_id: int | None
    camel_collection_id: int | None = Field(None, alias="collectionId")


class SearchAnswer(CollectionAnswer):
    """Images, best first.

    :ivar scoring: what the scores are
    :ivar image_ids: as what the request's ``image_ids`` were taken
    :ivar ignored_words: words the encoder does not know
    """

    items: list[ScoredItem]
    scoring: str
    image_ids: Literal["query", "scope"] | None = None
    ignored_words: list[str] | None = None


class DiverseAnswer(CollectionAnswer):
    """Images in the order of choice.

    :ivar coverage: largest cosine distance of any image to its nearest pick
    """

    items: list[Item]
    method: str
    coverage: float


class ClusteredItem(Answer):
    """An image and its cluster; -1 is in none."""

    image_id: int
    cluster: int


class Cluster(Answer):
    """A cluster, and the image in the middle of it."""

    cluster: int
    size: int
    representative_image_id: int


class ClustersAnswer(Answer):
    """Every image's cluster, and every cluster."""

    items: list[ClusteredItem]
    clusters: list[Cluster]


class MapItem(Answer):
    """An image on the map, in the shape old clients read."""

    id: int
    dataset_id: int
    full_url: str | None
    cas_url: str | None
    updated_at: str | None
    score: float | None


MapAnswer = tuple[list[MapItem], list[Point]]


class TaskAnswer(Answer):
    """How a project's latest sync stands."""

    message: str
    status: TaskStatus
    is_running: bool


class ProgressOfOne(Answer):
    """How far a sync is."""

    total: int
    current: int
    status: Literal["processing", "completed", "error"]
    project_id: int


class ProgressAnswer(Answer):
    """Progress of one project, or of all by number."""

    message: str | None = None
    progress: ProgressOfOne | dict[str, ProgressOfOne] | None


class BackgroundAnswer(Answer):
    """How a background task stands."""

    status: Literal["in_progress", "not_found", "error"]
    message: str


class StopAnswer(Answer):
    """What became of the wish to stop a project's sync."""

    project_id: int
    is_current_task: bool
    success: bool
    message: str
    details: dict[str, str]


class ProjectEncoder(Answer):
    """Which encoder answers for a project, and how far the one at work is with it.

    `remaining_seconds`: at the pace so far; `null` while that is unknown
    """

    id: str
    at_work: str
    current: int
    total: int
    remaining_seconds: float | None


class EncoderState(Answer):
    """An encoder there are vectors of."""

    id: str
    kind: str
    dimension: int
    at_work: bool
    pinned: bool
    projects: int
    images: int


class EncoderPlace(Answer):
    """Where an encoder is asked; `problem` is `null` when it works."""

    name: str
    encoder_id: str | None
    problem: str | None


class EncodersAnswer(Answer):
    """The encoders, the one at work first."""

    encoders: list[EncoderState]
    addresses: list[EncoderPlace]


class ProjectState(Answer):
    """Where a project stands."""

    project_id: int
    name: str
    enabled: bool
    gone: bool
    fresh: int
    stale: int
    oldest_stale_seconds: float
    quarantined: int
    held_removals: int
    task: TaskStatus
    waiting_seconds: float | None
    waiting_for: str | None
    encoder: ProjectEncoder


class AtWork(Answer):
    """The encoder that vectors are made by; `hint` says how to get a better one, where there is one."""

    id: str | None
    hint: str | None


class StatusAnswer(Answer):
    """Where projects stand."""

    encoder: AtWork
    projects: list[ProjectState]


class EventsAnswer(Answer):
    """Which projects will be looked at."""

    message: str
    project_ids: list[int]


class QuarantinedItem(Answer):
    """A picture set aside; ``since`` in seconds since 1970."""

    image_id: int
    project_id: int
    name: str
    path: str
    content: str
    reason: str
    since: float


class QuarantineAnswer(Answer):
    """Pictures set aside: all of them counted, the first listed."""

    total: int
    items: list[QuarantinedItem]


class CountAnswer(Answer):
    """How many images it concerned."""

    message: str
    count: int


class HealthAnswer(Answer):
    """``healthy`` or ``unhealthy: …`` for each part."""

    status: Literal["healthy", "degraded", "unhealthy"]
    encoder: AtWork
    checks: dict[str, str]
    timestamp: str


class RunningAnswer(Answer):
    """The process runs."""

    running: bool
    mode: str


class ReadyAnswer(Answer):
    """Whether requests are served."""

    status: Literal["ready"]


EmbeddingsAnswers = Message | VectorsAnswer | PlansAnswer
UpToDate = Annotated[bool | None, Field(description="`null` for an unknown project")]
