"""Fixtures of a live daemon, for whichever suite wants them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from live_daemon import LiveDaemon

Maker = Callable[..., LiveDaemon]


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Maker]:
    """Make daemons, not started yet; keyword arguments are the daemon's own, or settings."""
    made: list[LiveDaemon] = []

    def make(directory: str = "another", **arguments: object) -> LiveDaemon:
        (tmp_path / directory).mkdir(exist_ok=True)
        made.append(LiveDaemon(tmp_path / directory, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def daemon(another: Maker) -> LiveDaemon:
    """A daemon that is not started yet, on an empty folder."""
    return another("one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the log of each daemon that a failed test used."""
    report = yield
    for name, value in item.funcargs.items() if report.failed else ():
        if isinstance(value, LiveDaemon):
            report.sections.append((f"log of {name}", value.log_tail()))
    return report
