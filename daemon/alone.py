"""Working on a state while no daemon does: what moves vectors wants them to rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from daemon.directory import prefix, state_directory
from daemon.settings import Settings
from daemon.sources import RootTask
from daemon.stores import open_store
from daemon.transfer.files import off_loop
from state.errors import Occupied
from state.ports import Store


@asynccontextmanager
async def store_alone(settings: Settings) -> AsyncIterator[Store]:
    """Open the store that the settings name, without a source or an encoder.

    :raises Occupied: when a daemon works on it
    :raises Misconfigured: when a setting does not work
    :raises Unavailable: when a server is away
    """
    directory = state_directory(settings)
    await off_loop(_make, directory)
    async with AsyncExitStack() as stack:
        stack.enter_context(daemon_stopped())
        kept = await open_store(settings, directory, prefix(settings), time.monotonic, 0.0, stack)
        stack.push_async_callback(kept.store.close)
        async with running(kept.roots):
            yield kept.store


@asynccontextmanager
async def running(roots: Mapping[str, RootTask]) -> AsyncIterator[None]:
    """Run what has to run while the context lasts; the failure of one is the failure of all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(root(), name=name) for name, root in roots.items()]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


@contextmanager
def daemon_stopped() -> Iterator[None]:
    """Say what to do where another process works on the state."""
    try:
        yield
    except Occupied as problem:
        raise Occupied(f"{problem}; stop the daemon first, for its vectors must rest meanwhile") from problem


def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
