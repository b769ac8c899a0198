"""Watching a directory tree, in a thread: setting the watches up takes long in a large tree."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError

from state.errors import Unavailable

TICK_MS = 500
"""After so long without news an empty batch comes."""

DEBOUNCE_MS = 200
"""So long at most news is held back, to come together with more."""


async def watched(root: bytes) -> AsyncGenerator[set[bytes], None]:
    """Yield the paths that came, went or changed below `root`, relative to it, in batches.

    The first batch says that the system listens; it is empty where nothing happened yet.

    :raises OSError: when the system refuses to watch, or `root` is gone
    :raises Unavailable: when news got lost: a name is no UTF-8, or there are too many folders
    """
    stop = threading.Event()
    batches = watch(
        root.decode(errors="surrogateescape"),
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        rust_timeout=TICK_MS,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
        ignore_permission_denied=True,
    )
    prefix = len(root.rstrip(b"/")) + 1
    thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
    loop = asyncio.get_running_loop()
    try:
        while (batch := await loop.run_in_executor(thread, next, batches, None)) is not None:
            yield {path.encode(errors="surrogateescape")[prefix:] for _, path in batch}
    except (WatchfilesRustInternalError, UnicodeError) as error:
        raise Unavailable("source", f"cannot be watched: {error}") from error
    finally:
        stop.set()
        thread.shutdown(wait=False)
