from live_fixtures import another, daemon, pytest_runtest_makereport

__all__ = ["another", "daemon", "pytest_runtest_makereport"]
