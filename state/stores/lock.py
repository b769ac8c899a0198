"""One holder per state: a locked file that names the process holding it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from state.errors import Occupied, Unavailable


def acquire(path: Path) -> int:
    """Lock the file at `path` and write this process's id into it; closing the descriptor unlocks.

    A child that inherits the descriptor holds the lock too, until it ends.

    :raises Occupied: when another process holds it; the message says which
    :raises Unavailable: when it cannot be written, for want of room most often
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable("state", f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode() or "unknown"
        os.close(descriptor)
        raise Occupied(f"{path.parent} is held by process {holder}, or by a child it left") from None
    except OSError as error:
        os.close(descriptor)
        raise Unavailable("state", f"{path}: {error.strerror}") from error
    return descriptor
