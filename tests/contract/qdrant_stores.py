"""Stores on what stands in for a Qdrant server, and on a real one where there is one."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from qdrant_client import AsyncQdrantClient
from qdrant_emulator import QdrantEmulator

from state.stores.qdrant import QdrantStore
from state.stores.qdrant_collections import Layout
from state.stores.qdrant_connection import Connection

PREFIX = "embedsync_00000000"
REAL_SERVER = os.environ.get("QDRANT_TEST_URL")
"""Of a server to try the contract on; its collections of other names are left alone."""


@asynccontextmanager
async def emulated(directory: Path, by_grpc: bool = False) -> AsyncIterator[QdrantStore]:
    """Open a store on the emulator."""
    async with QdrantEmulator(directory) as qdrant:
        port = qdrant.grpc_port if by_grpc else None
        store = await QdrantStore.open(
            qdrant.url, PREFIX, name="a test", instance="test", clock=time.monotonic, grpc_port=port
        )
        yield store
        await store.close()


@asynccontextmanager
async def local() -> AsyncIterator[QdrantStore]:
    """Open a store in the client library's own memory."""
    connection = Connection(AsyncQdrantClient(":memory:"), call_seconds=30.0)
    store = await QdrantStore.on(connection, PREFIX, "a test", "test", time.monotonic, Layout())
    yield store
    await store.close()


@asynccontextmanager
async def real(url: str) -> AsyncIterator[QdrantStore]:
    """Open a store on a server under a name of its own, and leave nothing of it there."""
    prefix, key = f"embedsync_test_{uuid4().hex[:8]}", os.environ.get("QDRANT_TEST_API_KEY")
    store = await QdrantStore.open(
        url, prefix, name="a test", instance=prefix, clock=time.monotonic, api_key=key
    )
    yield store
    await store.close()
    client = AsyncQdrantClient(url, api_key=key, check_compatibility=False)
    for collection in (await client.get_collections()).collections:
        if collection.name.startswith(prefix):
            await client.delete_collection(collection.name)
    await client.close()
