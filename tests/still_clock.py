"""A clock that a test moves by itself."""

from __future__ import annotations


class Clock:
    """Stands still until it is moved.

    :ivar seconds: what it shows
    """

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds
