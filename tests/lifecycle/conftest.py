import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))  # the live daemon lives there

import counting_daemon
from live_daemon import LiveDaemon
from live_fixtures import Maker, another, daemon, pytest_runtest_makereport

__all__ = ["another", "daemon", "pytest_runtest_makereport"]


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Where the counting daemon writes down what it encodes."""
    return tmp_path / "diary"


@pytest.fixture
def counting(another: Maker, diary: Path) -> LiveDaemon:
    """A daemon that keeps a diary of what it encodes."""
    return another("counting", program=[counting_daemon.__file__], DIARY=str(diary))
