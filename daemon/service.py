"""The running process: its root tasks, its signals, and the way down.

Root tasks are eternal: the first one to end, for whatever reason, stops all the others, and the
process says so with its exit code, so that its supervisor starts it afresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from daemon import logs
from daemon.heartbeat import Heartbeat
from daemon.notify import NOBODY, Notifier, Supervisor
from daemon.schedule import scheduled
from daemon.settings import Settings, renewed, secrets
from daemon.wiring import Parts, wired
from handlers.connections import Connections
from handlers.parts import PARTS
from state.errors import Misconfigured, Occupied

REQUEST_GRACE = 10.0
"""Seconds that requests being answered may take to end."""

BATCH_GRACE = 30.0
"""Seconds that batches being written may take to end; together below the 45 s that are promised."""

STORE_PATIENCE = 60.0
"""Seconds that a store may be away at the start; after that a supervisor tries again."""

ADDRESS_FILE = "daemon.json"
"""Tells commands where the running daemon listens."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What signals ask for."""

    stop: asyncio.Event
    reload: asyncio.Event


async def serve(
    settings: Settings,
    supervisor: Supervisor = NOBODY,
    reread: Callable[[Settings], Settings] = renewed,
) -> None:
    """Run until a signal says to stop; on SIGHUP, take what is read anew.

    :param supervisor: who is told how the process fares
    :param reread: reads the log level and the secrets anew
    :raises Misconfigured, Occupied: as `wired`
    :raises RuntimeError: when a root task ended
    """
    wishes = Wishes(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_exit, wishes.stop, signal.Signals(number))
    loop.add_signal_handler(signal.SIGHUP, wishes.reload.set)
    notifier = Notifier(supervisor.address)
    heartbeat = Heartbeat(notifier.alive, supervisor.patience, loop.time)
    beating = asyncio.create_task(heartbeat.run(), name="heartbeat")
    try:
        while not wishes.stop.is_set():
            settings = await _live(settings, reread, wishes, notifier, heartbeat)
    finally:
        beating.cancel()
    log.info("daemon.stopped")


async def _live(
    settings: Settings,
    reread: Callable[[Settings], Settings],
    wishes: Wishes,
    notifier: Notifier,
    heartbeat: Heartbeat,
) -> Settings:
    """Serve until told to stop, or to go on with other secrets; return the settings to go on with."""
    async with AsyncExitStack() as held:
        parts = await _unless_told_to_stop(
            held.enter_async_context(wired(settings, patience=STORE_PATIENCE)), wishes.stop
        )
        if parts is None:
            return settings
        return await _serve(parts, settings, reread, wishes, notifier, heartbeat)


async def _unless_told_to_stop(starting: Coroutine[Any, Any, Parts], stop: asyncio.Event) -> Parts | None:
    """Start, which may wait for a minute for a store; ``None``: it was given up, since we are to stop."""
    this = asyncio.current_task()
    assert this is not None
    given_up = False

    async def give_up() -> None:
        nonlocal given_up
        await stop.wait()
        given_up = True
        this.cancel()

    watching = asyncio.create_task(give_up())
    try:
        return await starting
    except asyncio.CancelledError:
        if not given_up or this.uncancel():
            raise
        return None
    finally:
        watching.cancel()


async def _serve(
    parts: Parts,
    settings: Settings,
    reread: Callable[[Settings], Settings],
    wishes: Wishes,
    notifier: Notifier,
    heartbeat: Heartbeat,
) -> Settings:
    async with (
        synchronising(parts) as broken,
        listening(parts.app, settings.host, settings.port) as url,
    ):
        with _address_file(parts.directory, url), heartbeat.watching(parts.looks.under_way):
            _set_aside_what_stays()
            log.info(
                "daemon.ready",
                url=url,
                encoder=parts.encoder.id,
                source=parts.source.identity,
                store=settings.qdrant_host or "embedded",
                state=str(parts.directory),
            )
            notifier.ready(f"listens at {url}")
            try:
                return await _end_of_life(settings, reread, wishes, broken)
            finally:
                if wishes.stop.is_set() or broken.done():
                    notifier.stopping()
                log.info("daemon.stopping")


def _set_aside_what_stays() -> None:
    """Leave what importing made out of later collections: one of all of it stops the loop for 0.2 s."""
    gc.collect()
    gc.freeze()


async def _end_of_life(
    settings: Settings,
    reread: Callable[[Settings], Settings],
    wishes: Wishes,
    broken: asyncio.Future[None],
) -> Settings:
    """Wait for the wish to stop or for other secrets; a new log level needs neither."""
    while True:
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(one.wait()) for one in (wishes.stop, wishes.reload)
        ]
        await asyncio.wait([*waits, broken], return_when="FIRST_COMPLETED")
        for one in waits:
            one.cancel()
        if broken.done():
            broken.result()
        if wishes.stop.is_set():
            return settings
        wishes.reload.clear()
        try:
            now = await asyncio.to_thread(reread, settings)
        except Misconfigured as problem:
            log.error("settings.kept", problem=str(problem))
            continue
        logs.set_level(now.log_level)
        for secret in secrets(now):
            logs.hide(secret)
        log.info("settings.renewed", log_level=now.log_level, secrets=secrets(now) != secrets(settings))
        if secrets(now) != secrets(settings):
            return now
        settings = now


@asynccontextmanager
async def synchronising(parts: Parts) -> AsyncIterator[asyncio.Future[None]]:
    """Keep the store in step while the context lasts; the future fails when a root task ended."""
    settings = parts.settings
    eternal: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "follow": parts.surveys.follow,
        "survey": parts.surveys.run,
        **parts.roots,
        **{f"look-{number}": parts.looks.work for number in range(settings.sync_concurrency)},
    }
    roots = [asyncio.create_task(work(), name=name) for name, work in eternal.items()]
    broken = asyncio.ensure_future(_first_to_end(roots))
    try:
        async with scheduled(
            parts.surveys.want, parts.surveys.want_sweep, settings.update_interval, settings.update_frame
        ):
            yield broken
    finally:
        broken.cancel()
        for root in roots:
            root.cancel()
        _, late = await asyncio.wait(roots, timeout=BATCH_GRACE)
        if late:
            log.error("daemon.late", tasks=sorted(task.get_name() for task in late))


async def _first_to_end(roots: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(roots, return_when="FIRST_COMPLETED")
    ended = done.pop()
    problem = ended.exception()
    if isinstance(problem, (Misconfigured, Occupied)):
        raise problem  # it has words and an exit code of its own
    raise RuntimeError(f"the root task {ended.get_name()} ended") from problem


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve the application while the context lasts; yield its URL.

    :raises Occupied: when the port is taken
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=REQUEST_GRACE)
    await runner.setup()
    assert runner.server is not None
    connections = Connections(runner.server, _room_for_connections(app[PARTS].limits.connections))
    try:
        try:
            server = await asyncio.get_running_loop().create_server(connections, host, port)
        except OSError as error:
            raise Occupied(f"cannot listen on {host}:{port}: {error.strerror}; set PORT") from error
        try:
            bound = server.sockets[0].getsockname()
            name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
            yield f"http://{name}:{bound[1]}"
        finally:
            server.close()
    finally:
        await runner.cleanup()


def _room_for_connections(wanted: int) -> int:
    """Leave half of the descriptors to files, the store and the services: without any nothing works."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if descriptors == resource.RLIM_INFINITY else min(wanted, descriptors // 2)


@contextlib.contextmanager
def _address_file(directory: Path, url: str) -> Iterator[None]:
    path = directory / ADDRESS_FILE
    path.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _stop_or_exit(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        os._exit(128 + number)
    log.info("daemon.signal", signal=number.name)
    stop.set()
