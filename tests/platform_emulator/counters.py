"""What the platform was asked, so that a test can say what something costs."""

from __future__ import annotations

from collections import Counter


class Counters:
    """Requests by method or picture route, the rows they brought, and whose token they bore.

    :ivar callers: by method and login; a token nobody knows is ``a stranger``'s, none ``nobody``'s
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.callers: Counter[tuple[str, str]] = Counter()

    def clear(self) -> None:
        for counter in (self.calls, self.rows, self.callers):
            counter.clear()

    def shown(self) -> dict[str, dict[str, int]]:
        return {
            "calls": dict(self.calls),
            "rows": dict(self.rows),
            "callers": {f"{method} by {login}": number for (method, login), number in self.callers.items()},
        }
