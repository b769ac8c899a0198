from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from still_clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log_put_back() -> Iterator[None]:
    """Leave the log as it was, whatever the test sets up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
