import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))  # the live daemon lives there

from live_fixtures import Maker, daemon, pytest_runtest_makereport
from nursery import ForkedDaemon, Nursery

__all__ = ["daemon", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where daemons start in no time."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def another(nursery: Nursery, tmp_path: Path) -> Iterator[Maker]:
    """Make daemons, not started yet; keyword arguments are settings."""
    made: list[ForkedDaemon] = []

    def make(directory: str = "another", **settings: str) -> ForkedDaemon:
        (tmp_path / directory).mkdir(exist_ok=True)
        made.append(ForkedDaemon(nursery, tmp_path / directory, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Where the counting daemon writes down what it encodes."""
    return tmp_path / "diary"


@pytest.fixture
def counting(another: Maker, diary: Path) -> ForkedDaemon:
    """A daemon that keeps a diary of what it encodes."""
    return another("counting", DIARY=str(diary))
