import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))  # the live daemon lives there

from live_fixtures import another, daemon, pytest_runtest_makereport

__all__ = ["another", "daemon", "pytest_runtest_makereport"]
