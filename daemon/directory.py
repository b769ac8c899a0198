"""The state directory: where it is, what its collections are called, and that this user may write there."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from daemon.settings import Settings
from daemon.sources import identity
from state.errors import Misconfigured


def state_directory(settings: Settings) -> Path:
    """Return where the state of this source lives: another folder has another directory.

    :raises Misconfigured: when there is no source
    """
    return settings.state_dir.expanduser() / prefix(settings)


def prefix(settings: Settings) -> str:
    """Return the first part of the names of this source's collections.

    :raises Misconfigured: when there is no source
    """
    return f"{settings.qdrant_prefix}_{blake2b(identity(settings), digest_size=4).hexdigest()}"


def make(directory: Path) -> None:
    """Make the directory, for this user alone, if it is not there.

    :raises Misconfigured: when it cannot be made, or something in it not be written to
    """
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
            needed = os.W_OK | os.X_OK if path.is_dir() else os.W_OK
            if not os.access(path, needed) and os.path.lexists(path):
                return path
    return None
