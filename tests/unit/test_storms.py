"""Under a storm of faults the log stays small, and still says all there is to say."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any

import pytest
import structlog

from daemon import logs
from daemon.storms import MINUTE, MOST_KINDS, WRITTEN_PER_MINUTE, StormHandler


class Log:
    """The daemon's log on a stream, through a handler whose minutes a test counts."""

    def __init__(self) -> None:
        self.stream, self.now = io.StringIO(), 0.0
        logs.set_up("info", "json", ["a-secret"], self.stream)
        (plain,) = logging.getLogger().handlers
        self.handler = StormHandler(self.stream, lambda: self.now)
        self.handler.setFormatter(plain.formatter)
        logging.getLogger().handlers[:] = [self.handler]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture
def log(log_put_back: None) -> Log:
    return Log()


def storm(count: int, **fields: object) -> None:
    for project_id in range(count):
        fields = {"problem": f"source: status 503 for {project_id}", **fields}
        structlog.get_logger().warning("project.waits", project_id=project_id, **fields)


def test_of_like_events_the_first_are_written_and_the_rest_counted_once_a_minute(log: Log) -> None:
    storm(1244)
    assert log.names == ["project.waits"] * WRITTEN_PER_MINUTE
    log.now += MINUTE
    structlog.get_logger().info("project.synced")
    *_, summary, last = log.events
    assert summary["event"] == "project.waits … repeated 1,234 times"
    assert (summary["repeated"], summary["level"]) == (1234, "warning")
    assert re.fullmatch(r"source: status 503 for \d+", summary["problem"])
    assert "project_id" not in summary
    assert last["event"] == "project.synced"


def test_the_next_minute_begins_afresh(log: Log) -> None:
    for _ in range(3):
        storm(100)
        log.now += MINUTE
    log.handler.close()
    assert len(log.names) == 3 * (WRITTEN_PER_MINUTE + 1)


def test_what_was_counted_is_told_at_the_end(log: Log) -> None:
    storm(12)
    log.handler.close()
    assert log.names[-1] == "project.waits … repeated 2 times"


def test_another_problem_is_not_hidden_by_the_storm(log: Log) -> None:
    storm(100)
    storm(1, problem="clip: no answer")
    assert log.events[-1]["problem"] == "clip: no answer"


def test_finished_work_is_never_held_back(log: Log) -> None:
    for _ in range(100):
        structlog.get_logger().info("request.answered", route="/search", status=200)
    assert len(log.events) == 100


def test_requests_that_fail_alike_are_summed_up_by_route_and_status(log: Log) -> None:
    for _ in range(100):
        structlog.get_logger().info("request.answered", route="/search", status=503)
        structlog.get_logger().info("request.answered", route="/diverse", status=429)
    assert len(log.events) == 2 * WRITTEN_PER_MINUTE


def test_libraries_storm_too(log: Log) -> None:
    for number in range(20):
        logging.getLogger("vendor").warning("lost %d of a-secret", number)
    log.handler.close()
    assert log.names[-1] == "lost 19 of [redacted] … repeated 10 times"


def test_tracebacks_of_one_failure_are_summed_up_without_them(log: Log) -> None:
    for _ in range(20):
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger().exception("project.defect")
    log.handler.close()
    assert sum("exception" in event for event in log.events) == WRITTEN_PER_MINUTE
    assert log.names[-1] == "project.defect … repeated 10 times"


def test_however_many_kinds_there_are_a_minute_has_a_bound(log: Log) -> None:
    words = [f"{first}{second}{third}" for first in "abcdefgh" for second in "ijklmnop" for third in "qrstuv"]
    for word in words * 20:
        structlog.get_logger().error(word)
    log.handler.close()
    assert len(words) > MOST_KINDS
    assert len(log.events) <= (MOST_KINDS + 1) * (WRITTEN_PER_MINUTE + 1)
    assert any(name.startswith("many other events … repeated") for name in log.names)
