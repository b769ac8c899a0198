"""Files that are there whole or not at all, written and read off the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from state.errors import Unavailable

UNFINISHED = ".part"

_T = TypeVar("_T")


async def off_loop(work: Callable[..., _T], *arguments: Any) -> _T:
    """Do file work in a thread.

    :raises Unavailable: when the file system refuses, such as for a full disk
    """
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise Unavailable("disk", f"{error.filename or arguments[0]}: {error.strerror or error}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, make it durable, and only then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + UNFINISHED)
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _make_durable(path.parent)


def _make_durable(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
