"""Every route, in one table: what it takes, who it is for, what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from handlers.answers import (
    BackgroundAnswer,
    ClustersAnswer,
    CountAnswer,
    DiverseAnswer,
    EmbeddingsAnswers,
    EncodersAnswer,
    EventsAnswer,
    HealthAnswer,
    MapAnswer,
    Message,
    ProgressAnswer,
    QuarantineAnswer,
    ReadyAnswer,
    RunningAnswer,
    SearchAnswer,
    StatusAnswer,
    StopAnswer,
    TaskAnswer,
    UpToDate,
)
from handlers.auth import Reach
from handlers.diverse import choose_diverse, find_clusters
from handlers.embeddings import cancel_embeddings, create_embeddings
from handlers.encoders import list_encoders, use_encoder
from handlers.fields import Request
from handlers.health import description, health, metrics, ready, running
from handlers.maps import project_onto_map
from handlers.parts import Call
from handlers.requests import (
    ClustersRequest,
    DiverseRequest,
    EmbeddingsRequest,
    EncoderRequest,
    EventsRequest,
    MaybeProject,
    NoFields,
    OneProject,
    ProjectionsRequest,
    QuarantineRequest,
    RemovalsRequest,
    RetryRequest,
    SearchRequest,
    TaskRequest,
)
from handlers.search import search
from handlers.status import (
    check_task,
    processing_progress,
    project_status,
    stop_update,
    task_status,
    up_to_date,
)
from handlers.upkeep import cancel_removals, confirm_removals, list_quarantine, retry_quarantine, take_events

Handler = Callable[[Call, Any], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    :param takes: the model of its fields
    :param answers: the type of its answer's JSON; ``None`` where it is no JSON
    :param success: the status of that answer
    :param also: further statuses that come with an answer of the same type
    """

    method: str
    path: str
    handler: Handler
    takes: type[Request]
    answers: Any
    reach: Reach = Reach.MEMBERS
    success: int = 200
    also: tuple[int, ...] = ()

    @property
    def metered(self) -> bool:
        """Whether a caller may ask too often; what watches over us may not be told so."""
        return self.reach is not Reach.ANYONE and self.handler is not metrics


PROBE = Reach.ANYONE
NEIGHBOURS = Reach.NEIGHBOURS
OPERATORS = Reach.OPERATORS

ROUTES = (
    Route("POST", "/embeddings", create_embeddings, EmbeddingsRequest, EmbeddingsAnswers),
    Route("POST", "/search", search, SearchRequest, SearchAnswer | Message),
    Route("POST", "/diverse", choose_diverse, DiverseRequest, DiverseAnswer | Message),
    Route("POST", "/projections", project_onto_map, ProjectionsRequest, MapAnswer | Message),
    Route("POST", "/clusters", find_clusters, ClustersRequest, ClustersAnswer | Message),
    Route("POST", "/cancel_embeddings", cancel_embeddings, OneProject, Message, NEIGHBOURS),
    Route("POST", "/task_status", task_status, OneProject, TaskAnswer, NEIGHBOURS),
    Route("POST", "/processing_progress", processing_progress, MaybeProject, ProgressAnswer, NEIGHBOURS),
    Route("POST", "/embeddings_up_to_date", up_to_date, OneProject, UpToDate, NEIGHBOURS),
    Route("POST", "/projections_up_to_date", up_to_date, OneProject, UpToDate, NEIGHBOURS),
    Route("POST", "/check_background_task_status", check_task, TaskRequest, BackgroundAnswer, NEIGHBOURS),
    Route("POST", "/stop-embeddings-update/{project_id}", stop_update, OneProject, StopAnswer, NEIGHBOURS),
    Route("GET", "/status", project_status, MaybeProject, StatusAnswer, OPERATORS),
    Route("GET", "/encoders", list_encoders, NoFields, EncodersAnswer, OPERATORS),
    Route("POST", "/encoders/use", use_encoder, EncoderRequest, CountAnswer, OPERATORS),
    Route("POST", "/events", take_events, EventsRequest, EventsAnswer, success=202),
    Route("GET", "/quarantine", list_quarantine, QuarantineRequest, QuarantineAnswer),
    Route("POST", "/quarantine/retry", retry_quarantine, RetryRequest, CountAnswer),
    Route("POST", "/removals/confirm", confirm_removals, RemovalsRequest, CountAnswer),
    Route("POST", "/removals/cancel", cancel_removals, RemovalsRequest, CountAnswer),
    Route("GET", "/metrics", metrics, NoFields, None, OPERATORS),
    Route("GET", "/openapi.json", description, NoFields, dict[str, Any], PROBE),
    Route("GET", "/health", health, NoFields, HealthAnswer, PROBE, also=(500, 503)),
    Route("GET", "/livez", running, NoFields, RunningAnswer, PROBE),
    Route("GET", "/is_alive", running, NoFields, RunningAnswer, PROBE),
    Route("GET", "/is_running", running, NoFields, RunningAnswer, PROBE),
    Route("POST", "/is_running", running, NoFields, RunningAnswer, PROBE),
    Route("GET", "/readyz", ready, NoFields, ReadyAnswer, PROBE),
    Route("GET", "/is_ready", ready, NoFields, ReadyAnswer, PROBE),
    Route("POST", "/is_ready", ready, NoFields, ReadyAnswer, PROBE),
)
