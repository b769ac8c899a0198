"""The composition root: settings in, a running set of parts out, and everything closed again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom

import structlog
from aiohttp import web

from daemon import __version__
from daemon.board import Board
from daemon.controller import Controller
from daemon.encoders import models
from daemon.encoders.pool import Pool
from daemon.encoders.soundness import SERVICE
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.looks import Looks
from daemon.opening import Opened, open_all
from daemon.pipeline import Limits as PipelineLimits
from daemon.pipeline import Pipeline
from daemon.recognition import Recognition
from daemon.removals import Removals
from daemon.settings import Settings
from daemon.sources import RootTask
from daemon.surveys import Surveys
from daemon.switch import Switch
from daemon.sync import Sync
from daemon.worklist import Worklist
from handlers.app import create_app
from handlers.auth import Access
from handlers.metrics import Metrics
from handlers.parts import PARTS, Limits, Ports
from state.errors import Unavailable
from state.ports import Encoder, Source, Store

RECOGNITION_SECONDS = 10.0
"""How long the start waits for the encoders to be recognised."""

FIRST_PATIENCE = 8.0
"""How much of it, in seconds, one that does not answer may hold up the others."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """A daemon, wired and not running yet."""

    settings: Settings
    directory: Path
    source: Source
    store: Store
    encoder: Encoder
    surveys: Surveys
    looks: Looks
    controller: Controller
    recognition: Recognition
    epochs: Epochs
    metrics: Metrics
    settled: Callable[[], Awaitable[None]]
    roots: Mapping[str, RootTask]
    app: web.Application


@dataclass(frozen=True, slots=True)
class _Shared:
    """What most parts know: what there is to do and where it stands, the times, and what tests may break."""

    worklist: Worklist
    board: Board
    epochs: Epochs
    metrics: Metrics
    failpoints: Failpoints
    clock: Callable[[], float]
    now: Callable[[], float]


@asynccontextmanager
async def wired(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    patience: float = 0.0,
) -> AsyncIterator[Parts]:
    """Open every part, in the order they lean on each other, and close them the other way round.

    :param patience: seconds to wait for a store that is away

    :raises Misconfigured: when a setting does not work here
    :raises Occupied: when another process holds the state
    """
    failpoints, jitter = _failpoints(settings), partial(SystemRandom().uniform, 0)
    async with AsyncExitStack() as stack:
        opened = await open_all(settings, clock, now, jitter, patience, stack)
        epochs = Epochs(await opened.store.next_epoch())
        worklist, board = Worklist(clock, jitter), Board(clock)
        shared = _Shared(worklist, board, epochs, Metrics(), failpoints, clock, now)
        parts = _built(settings, opened, shared)
        await _recognise(parts.recognition, opened.encoders.pool)
        yield parts
        await parts.recognition.finish()


def _built(settings: Settings, opened: Opened, shared: _Shared) -> Parts:
    """Build the rest, which needs no closing."""
    source, store, journal = opened.source.source, opened.store, opened.journal
    pool, display = opened.encoders.pool, opened.source.display
    worklist, board, epochs = shared.worklist, shared.board, shared.epochs
    metrics, clock, now = shared.metrics, shared.clock, shared.now
    removed = metrics.images_removed.inc
    removals = Removals(source, store, journal, worklist, shared.failpoints, clock, asyncio.sleep, removed)
    switch = Switch(pool, store, store, journal, opened.threads, settings.keep_old_hours * 3600, now)
    problem_within = opened.source.problem_within
    surveys = Surveys(source, store, journal, epochs, switch, worklist, board, now, problem_within)
    pipeline = _pipeline(settings, opened, shared)
    sync = _sync(opened, shared, pipeline, removals, switch)
    looks = Looks(source, pool, sync, surveys, switch, worklist, board, metrics, clock, display)
    controller = Controller(
        source=source,
        store=store,
        pool=pool,
        journal=journal,
        sync=sync,
        looks=looks,
        surveys=surveys,
        removals=removals,
        worklist=worklist,
        board=board,
        clock=clock,
        epochs=epochs,
        switch=switch,
    )
    woken = partial(worklist.wake, SERVICE)
    recognition = Recognition(pool, store, epochs, opened.encoders.find, surveys.want_sweep, woken, clock)
    pool.on_doubt = recognition.doubted
    metrics.circuit_open.labels(SERVICE).set_function(lambda: float(not pool.present()))
    metrics.queue_depth.set_function(lambda: len(worklist))
    metrics.encoder_busy_ratio.set_function(pipeline.busy.ratio)
    app = _app(settings, opened, controller, metrics)
    recognition.on_mistaken = app[PARTS].texts.forget
    own = {"removals": removals.run, "recognition": recognition.run}
    return Parts(
        settings=settings,
        directory=opened.directory,
        source=source,
        store=store,
        encoder=pool,
        surveys=surveys,
        looks=looks,
        controller=controller,
        recognition=recognition,
        epochs=epochs,
        metrics=metrics,
        settled=display.settled,
        roots={**opened.roots, **opened.source.roots, **own},
        app=app,
    )


def _pipeline(settings: Settings, opened: Opened, shared: _Shared) -> Pipeline:
    pool, parallel = opened.encoders.pool, opened.encoders.parallel
    batches = shared.metrics.encoder_batches
    return Pipeline(
        source=opened.source.source,
        encoder=pool,
        store=opened.store,
        journal=opened.journal,
        epochs=shared.epochs,
        threads=opened.threads,
        limits=PipelineLimits(
            fetches=settings.fetch_concurrency,
            batches=parallel or settings.encode_concurrency,
            max_pixels=settings.max_picture_pixels,
            fetch_bytes=settings.fetch_bytes,
            batch=pool.batch_size if parallel else settings.encode_batch,
        ),
        clock=shared.clock,
        now=shared.now,
        failpoints=shared.failpoints,
        on_batch=lambda outcome: batches.labels(outcome).inc(),
        lane=pool.lane,
    )


def _sync(opened: Opened, shared: _Shared, pipeline: Pipeline, removals: Removals, switch: Switch) -> Sync:
    pool = opened.encoders.pool
    return Sync(
        source=opened.source.source,
        store=opened.store,
        encoder=pool,
        journal=opened.journal,
        pipeline=pipeline,
        removals=removals,
        worklist=shared.worklist,
        board=shared.board,
        metrics=shared.metrics,
        failpoints=shared.failpoints,
        now=shared.now,
        epochs=shared.epochs,
        switch=switch,
        can_encode=pool.present,
        display=opened.source.display,
    )


def _app(settings: Settings, opened: Opened, controller: Controller, metrics: Metrics) -> web.Application:
    source, store = opened.source, opened.store
    return create_app(
        Ports(source.source, store, store, opened.encoders.pool, controller, source.platform),
        limits=_limits(settings),
        access=Access(settings.auth_token, settings.trusted_networks),
        metrics=metrics,
        search_image_ids=settings.search_image_ids,
        path_prefix=settings.supervisely_server_path_prefix,
        version=__version__,
    )


async def _recognise(recognition: Recognition, pool: Pool) -> None:
    """Give the encoders a moment to be recognised; without any, all that needs none is served."""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOGNITION_SECONDS):
                await recognition.round(everyone=True, patience=FIRST_PATIENCE)
    except Unavailable as problem:
        log.warning("encoder.not_checked", problem=str(problem))
        return
    if not pool.at_work():
        log.warning("encoder.absent", problem=pool.describe_absence())
    elif pool.kind == "palette":
        log.info("encoder.palette", hint=models.hint())


def _failpoints(settings: Settings) -> Failpoints:
    wishes = (wish.partition("=") for wish in settings.failpoints.split(",") if wish)
    return Failpoints({name.strip(): action.strip() for name, _, action in wishes})


def _limits(settings: Settings) -> Limits:
    return Limits(
        body_bytes=settings.max_body_bytes,
        search_limit=settings.max_search_limit,
        sample_size=settings.max_sample_size,
        projection_points=settings.max_projection_points,
        returned_vectors=settings.max_returned_vectors,
        prompts=settings.max_prompts,
        prompt_characters=settings.max_prompt_characters,
        ids=settings.max_ids,
        request_seconds=settings.request_seconds,
        concurrent_requests=settings.concurrent_requests,
        requests_per_second=settings.requests_per_second,
        connections=settings.connections,
    )
