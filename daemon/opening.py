"""Opening all that has to be closed again: store, journal, threads, source and encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from daemon.directory import make, prefix, state_directory
from daemon.encoders.opening import Encoders, open_encoders
from daemon.settings import Settings
from daemon.sources import OpenSource, RootTask, open_source
from daemon.stores import open_store
from state.journal import SqliteJournal
from state.matrices import MatrixCache
from state.ports import Journal


@dataclass(frozen=True, slots=True)
class Opened:
    """What has to be closed again, and the state directory.

    :param roots: what has to run for the store, for ever, by name
    """

    directory: Path
    store: MatrixCache
    roots: Mapping[str, RootTask]
    journal: Journal
    threads: Executor
    source: OpenSource
    encoders: Encoders


async def open_all(
    settings: Settings,
    clock: Callable[[], float],
    now: Callable[[], float],
    jitter: Callable[[float], float],
    patience: float,
    stack: AsyncExitStack,
) -> Opened:
    """Open it, in the order one leans on the other; `stack` closes it the other way round.

    :param patience: seconds to wait for a store that is away
    :raises Misconfigured: when a setting does not work here
    :raises Occupied: when another process holds the state
    :raises Unavailable: when the store stays away
    """
    directory = state_directory(settings)
    make(directory)
    kept = await open_store(settings, directory, prefix(settings), clock, patience, stack)
    journal = SqliteJournal(directory / "journal.sqlite")
    stack.push_async_callback(journal.close)
    threads = stack.enter_context(ThreadPoolExecutor(settings.cpu_threads, "decode"))
    files = stack.enter_context(ThreadPoolExecutor(1, "matrices"))
    store = MatrixCache(kept.store, directory / "matrices", files, settings.matrix_cache_bytes)
    stack.push_async_callback(store.close)
    source = await open_source(settings, journal, clock, now, stack)
    answering = set((await store.pointers()).values())
    encoders = await open_encoders(settings, answering, source.discover, clock, jitter)
    stack.push_async_callback(encoders.pool.close)
    return Opened(directory, store, kept.roots, journal, threads, source, encoders)
