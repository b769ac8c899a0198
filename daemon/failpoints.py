"""Named places where tests make the process fail, to show that a crash between any two lines is survived."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from state.errors import Misconfigured, Unavailable

NAMES = frozenset(
    {
        "sync.before_reuse",
        "sync.before_removal",
        "pipeline.before_encode",
        "pipeline.before_upsert",
        "pipeline.after_upsert",
        "removals.before_remove",
    }
)


class Failpoints:
    """Failpoints that are armed: name → what happens at the nth time it is reached.

    :param armed: such as ``{"pipeline.after_upsert": "kill:3"}``; actions are ``kill`` and ``unavailable``
    """

    def __init__(self, armed: Mapping[str, str] | None = None) -> None:
        self._left: dict[str, int] = {}
        self._actions: dict[str, str] = {}
        for name, wish in (armed or {}).items():
            action, _, times = wish.partition(":")
            count = int(times or 1) if (times or "1").isdecimal() else 0
            if name not in NAMES or action not in ("kill", "unavailable") or not count:
                raise Misconfigured("FAILPOINTS", f"there is no failpoint {name}={wish}")
            self._actions[name] = action
            self._left[name] = count

    def reach(self, name: str) -> None:
        """Fail here, if so armed.

        :raises Unavailable: when armed with ``unavailable``
        """
        if name not in self._left:
            return
        self._left[name] -= 1
        if self._left[name]:
            return
        if self._actions[name] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise Unavailable("failpoint", name)
