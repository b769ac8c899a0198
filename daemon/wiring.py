"""The composition root: settings in, a running set of parts out, and everything closed again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from random import SystemRandom

import structlog
from aiohttp import web

from daemon import __version__, pipeline
from daemon.board import Board
from daemon.controller import Controller
from daemon.encoders import models
from daemon.encoders.opening import open_encoders
from daemon.encoders.pool import Pool
from daemon.encoders.soundness import SERVICE
from daemon.epochs import Epochs
from daemon.failpoints import Failpoints
from daemon.looks import Looks
from daemon.recognition import Recognition
from daemon.removals import Removals
from daemon.settings import Settings
from daemon.sources import RootTask, identity, open_source
from daemon.stores import open_store
from daemon.surveys import Surveys
from daemon.switch import Switch
from daemon.sync import Sync
from daemon.worklist import Worklist
from handlers.app import create_app
from handlers.auth import Access
from handlers.metrics import Metrics
from handlers.parts import PARTS, Limits, Ports
from state.errors import Misconfigured, Unavailable
from state.journal import SqliteJournal
from state.matrices import MatrixCache
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
    epochs: Epochs
    metrics: Metrics
    settled: Callable[[], Awaitable[None]]
    roots: Mapping[str, RootTask]
    app: web.Application


def state_directory(settings: Settings) -> Path:
    """Return where the state of this source lives: another folder has another directory.

    :raises Misconfigured: when there is no source
    """
    return settings.state_dir.expanduser() / prefix(settings)


def prefix(settings: Settings) -> str:
    """Return the first part of the names of this source's collections."""
    return f"{settings.qdrant_prefix}_{blake2b(identity(settings), digest_size=4).hexdigest()}"


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
    failpoints = _failpoints(settings)
    directory = state_directory(settings)
    _make(directory)
    async with AsyncExitStack() as stack:
        kept = await open_store(settings, directory, prefix(settings), clock, patience, stack)
        journal = SqliteJournal(directory / "journal.sqlite")
        stack.push_async_callback(journal.close)
        threads = stack.enter_context(ThreadPoolExecutor(settings.cpu_threads, "decode"))
        files = stack.enter_context(ThreadPoolExecutor(1, "matrices"))
        store = MatrixCache(kept.store, directory / "matrices", files, settings.matrix_cache_bytes)
        stack.push_async_callback(store.close)
        opened = await open_source(settings, journal, clock, now, stack)
        source = opened.source
        jitter = partial(SystemRandom().uniform, 0)
        answering = set((await store.pointers()).values())
        encoders = await open_encoders(settings, answering, opened.discover, clock, jitter)
        pool = encoders.pool
        stack.push_async_callback(pool.close)

        metrics = Metrics()
        worklist = Worklist(clock, jitter)
        board = Board(clock)
        removals = Removals(
            source, store, journal, worklist, failpoints, clock, asyncio.sleep, metrics.images_removed.inc
        )
        batches = metrics.encoder_batches
        epochs = Epochs(await store.next_epoch())
        switch = Switch(pool, store, store, journal, threads, settings.keep_old_hours * 3600, now)
        encoding = pipeline.Pipeline(
            source,
            pool,
            store,
            journal,
            epochs,
            threads,
            pipeline.Limits(
                fetches=settings.fetch_concurrency,
                batches=encoders.parallel or settings.encode_concurrency,
                max_pixels=settings.max_picture_pixels,
                fetch_bytes=settings.fetch_bytes,
                batch=pool.batch_size if encoders.parallel else settings.encode_batch,
            ),
            clock,
            now,
            failpoints,
            lambda outcome: batches.labels(outcome).inc(),
            pool.lane,
        )
        metrics.circuit_open.labels(SERVICE).set_function(lambda: float(not pool.present()))
        metrics.queue_depth.set_function(lambda: len(worklist))
        metrics.encoder_busy_ratio.set_function(encoding.busy.ratio)
        sync = Sync(
            source,
            store,
            pool,
            journal,
            encoding,
            removals,
            worklist,
            board,
            metrics,
            failpoints,
            now,
            epochs,
            switch,
            pool.present,
            opened.display,
        )
        surveys = Surveys(source, store, journal, epochs, switch, worklist, board, now, opened.problem_within)
        recognition = Recognition(
            pool, store, epochs, encoders.find, surveys.want_sweep, partial(worklist.wake, SERVICE), clock
        )
        pool.on_left_out = recognition.left_out
        looks = Looks(source, pool, sync, surveys, switch, worklist, board, metrics, clock, opened.display)
        controller = Controller(
            source,
            store,
            pool,
            journal,
            sync,
            looks,
            surveys,
            removals,
            worklist,
            board,
            clock,
            epochs,
            switch,
        )
        app = create_app(
            Ports(source, store, store, pool, controller, opened.platform),
            limits=_limits(settings),
            access=Access(settings.auth_token, settings.trusted_networks),
            metrics=metrics,
            search_image_ids=settings.search_image_ids,
            path_prefix=settings.supervisely_server_path_prefix,
            version=__version__,
        )
        roots = {**kept.roots, **opened.roots, "removals": removals.run, "recognition": recognition.run}
        recognition.on_doubted = app[PARTS].texts.forget
        await _recognise(recognition, pool)
        yield Parts(
            settings,
            directory,
            source,
            store,
            pool,
            surveys,
            looks,
            controller,
            epochs,
            metrics,
            opened.display.settled,
            roots,
            app,
        )
        await recognition.finish()


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


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured("STATE_DIR", f"{directory} cannot be made: {error.strerror}") from error
    if wrong := unwritable(directory):
        raise Misconfigured("STATE_DIR", f"{wrong} cannot be written to by user {os.getuid()}")


def unwritable(directory: Path) -> Path | None:
    """Return what in a directory this user may not write; files of a process that ends may go meanwhile."""
    for place, folders, files in os.walk(directory):
        for name in (".", *folders, *files):
            path = Path(place, name)
            if not os.access(path, os.W_OK) and path.exists():
                return path
    return None


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
