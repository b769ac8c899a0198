"""An event loop that tells of the steps that hold it up, at hardly any cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def watched(loop: asyncio.AbstractEventLoop, seconds: float) -> Iterator[list[str]]:
    """Collect what a loop says of steps that take longer, and have it refuse calls from other threads.

    That is asyncio's debug mode without the stack that each handle, future and task then keeps of where it
    was made, which doubles the cost of a test: those ask the loop for its mode, and the loop asks itself.
    """
    vars(loop).update(_debug=True, get_debug=lambda: False)
    loop.slow_callback_duration = seconds
    blocked = _Blocked()
    logging.getLogger("asyncio").addHandler(blocked)
    try:
        yield blocked.steps
    finally:
        logging.getLogger("asyncio").removeHandler(blocked)


class _Blocked(logging.Handler):
    """Collects what asyncio says of steps that took too long."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "took" in record.getMessage():
            self.steps.append(record.getMessage())
