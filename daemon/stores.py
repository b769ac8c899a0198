"""Opening the store that the settings name, and what comes with it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from daemon.settings import Settings
from daemon.sources import RootTask
from state.errors import Misconfigured, Unavailable
from state.ports import Store
from state.stores.edge import EdgeStore
from state.stores.lock import acquire

if TYPE_CHECKING:
    from state.stores.qdrant import QdrantStore
    from state.stores.qdrant_collections import Layout

RETRY_SECONDS = 2.0

INSTANCE_FILE = "instance"
"""Names the lives of one state directory to a server's other clients."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store, and what has to run for it, for ever, by name."""

    store: Store
    roots: Mapping[str, RootTask] = field(default_factory=dict)


async def open_store(
    settings: Settings,
    directory: Path,
    prefix: str,
    clock: Callable[[], float],
    patience: float,
    stack: AsyncExitStack,
) -> OpenStore:
    """Open the store; whoever gets it closes it.

    :param directory: of this source's state
    :param prefix: what the names of its collections begin with
    :param patience: seconds to wait for a server that is away
    :param stack: lets go of the directory
    :raises Occupied: when another process holds the state
    :raises Misconfigured: when a setting does not work
    :raises Unavailable: when a server stays away
    """
    if settings.qdrant_host is None:
        return OpenStore(await EdgeStore.open(directory / "vectors", prefix))
    stack.callback(os.close, acquire(directory / "lock"))
    until = clock() + patience
    while True:
        try:
            return await _on_server(settings, prefix, await asyncio.to_thread(_instance, directory), clock)
        except Unavailable as problem:
            if clock() >= until:
                raise
            log.warning("store.away", problem=problem.problem)
        await asyncio.sleep(RETRY_SECONDS)


async def _on_server(settings: Settings, prefix: str, instance: str, clock: Callable[[], float]) -> OpenStore:
    try:
        # Importing the client takes seconds.
        store_class, layout_class = await asyncio.to_thread(_import)
    except ImportError as error:
        raise Misconfigured("QDRANT_HOST", f"needs the extra `qdrant`: {error}") from error
    assert settings.qdrant_host is not None
    store = await store_class.open(
        settings.qdrant_host,
        prefix,
        name=f"process {os.getpid()} on {socket.gethostname()}",
        instance=instance,
        clock=clock,
        api_key=settings.qdrant_api_key,
        grpc_port=settings.qdrant_grpc_port,
        layout=layout_class(
            shards=settings.qdrant_shards,
            replicas=settings.qdrant_replicas,
            write_consistency=settings.qdrant_write_consistency,
            vectors_on_disk=settings.qdrant_vectors_on_disk,
            payload_on_disk=settings.qdrant_payload_on_disk,
            hnsw_m=settings.qdrant_hnsw_m,
            hnsw_ef_construct=settings.qdrant_hnsw_ef_construct,
            quantization=settings.qdrant_quantization,
        ),
        call_seconds=settings.qdrant_call_seconds,
    )
    return OpenStore(store, {"holder": store.beat})


def _import() -> tuple[type[QdrantStore], type[Layout]]:
    from state.stores.qdrant import QdrantStore
    from state.stores.qdrant_collections import Layout

    return QdrantStore, Layout


def _instance(directory: Path) -> str:
    """Return a name for all lives on this directory and machine: a dead one need not be waited for.

    A copy of the directory is another.
    """
    path = directory / INSTANCE_FILE
    if not path.exists():
        path.write_text(uuid4().hex)
    return f"{path.read_text().strip()}@{socket.gethostname()}:{directory.resolve()}"
