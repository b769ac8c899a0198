"""A daemon in a hurry: what takes it minutes, between two tries above all, takes it moments."""

from __future__ import annotations

from functools import partial

import pytest

import daemon.encoders.member
import daemon.encoders.opening
import daemon.looks
import daemon.platform.client
import daemon.platform.flags
import daemon.platform.pictures
import daemon.platform.source
import daemon.presence
import daemon.recognition
import daemon.removals
import daemon.surveys
import daemon.sync
import daemon.worklist
import state.stores.qdrant_connection
import state.stores.qdrant_errors
import state.stores.qdrant_holder
from daemon.breaker import Breaker


def hasten(monkeypatch: pytest.MonkeyPatch, source_patience: float) -> None:
    """Let the daemon wait for tenths of the seconds, and for seconds of the minutes, it would wait.

    :param source_patience: seconds that a call to the platform, or a picture, may take
    """
    for module, name, seconds in (
        (daemon.looks, "MOVED_RETRY", 0.1),
        (daemon.looks, "DOUBT_RETRY", 0.3),
        (daemon.looks, "LONGEST_RETRY", 0.8),
        (daemon.worklist, "SHORTEST_RETRY", 0.1),
        (daemon.worklist, "LONGEST_RETRY", 0.8),
        (daemon.surveys, "FIRST_RETRY", 0.1),
        (daemon.surveys, "LONGEST_RETRY", 0.8),
        (daemon.sync, "HOLD_SECONDS", 1.0),
        (daemon.removals, "SECOND_LOOK", 0.2),
        (daemon.removals, "PATIENCE", 0.3),
        (daemon.removals, "RETRY", 0.2),
        (daemon.encoders.member, "PAUSES", (0.02, 0.04)),
        (daemon.encoders.opening, "Breaker", partial(Breaker, longest=0.5)),
        (daemon.breaker, "SHORTEST_PAUSE", 0.1),
        (daemon.presence, "LONGEST_REST", 0.5),
        (daemon.recognition, "CHECK_SECONDS", 2.0),
        (daemon.recognition, "BUSY_CHECK_SECONDS", 1.0),
        (daemon.recognition, "RETRY_SECONDS", 0.2),
        (daemon.platform.client, "CALL_SECONDS", source_patience),
        (daemon.platform.client, "FIRST_PAUSE", 0.05),
        (daemon.platform.client, "LONGEST_PAUSE", 0.4),
        (daemon.platform.pictures, "FETCH_SECONDS", source_patience),
        (daemon.platform.source, "KNOWN_SECONDS", 0.3),
        (daemon.platform.flags, "GATHER_SECONDS", 0.1),
        (daemon.platform.flags, "FIRST_PAUSE", 0.1),
        (daemon.platform.flags, "LONGEST_PAUSE", 0.8),
        (state.stores.qdrant_connection, "FIRST_PAUSE", 0.05),
        (state.stores.qdrant_connection, "LONGEST_PAUSE", 0.4),
        (state.stores.qdrant_errors, "KEY_RETRY_SECONDS", 0.5),
        (state.stores.qdrant_errors, "DISK_RETRY_SECONDS", 0.5),
        (state.stores.qdrant_holder, "BEAT_SECONDS", 0.5),
    ):
        monkeypatch.setattr(module, name, seconds)
