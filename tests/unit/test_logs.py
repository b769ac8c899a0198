"""What the log says, and what it never says."""

import io
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from daemon.logs import MOST_HIDDEN, REDACTED, hide, set_up

SECRET = 'pass"word/ü\\1'
SPELLINGS = (SECRET, json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], quote(SECRET, safe=""), "pass", "word")


class Log:
    """A log set up on a stream of its own."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def set_up(self, style: str = "json", level: str = "info") -> None:
        set_up(level, style, [SECRET, ""], self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log(log_put_back: None) -> Log:
    return Log()


def fail(problem: str) -> None:
    local_variable = problem * 2
    raise ValueError(local_variable[: len(problem)])


def test_an_event_is_one_line_of_json_with_its_fields(log: Log) -> None:
    log.set_up()
    structlog.get_logger().info("project.synced", project_id=7, name="two\nlines", path=Path("/p"))
    (event,) = log.events
    assert (event["event"], event["level"], event["project_id"]) == ("project.synced", "info", 7)
    assert event["name"] == "two\nlines"
    assert "timestamp" in event


def test_an_exception_is_one_line_of_json_too(log: Log) -> None:
    log.set_up()
    try:
        fail("broken")
    except ValueError:
        structlog.get_logger().exception("project.defect")
        logging.getLogger("vendor").exception("failed")
    ours, foreign = log.events
    assert "ValueError: broken" in ours["exception"]
    assert "ValueError: broken" in foreign["exception"]


def test_records_of_libraries_become_events(log: Log) -> None:
    log.set_up()
    logging.getLogger("vendor").warning("lost %d of %d", 1, 2)
    (event,) = log.events
    assert (event["event"], event["level"]) == ("lost 1 of 2", "warning")


def test_what_is_less_severe_than_asked_for_is_not_written(log: Log) -> None:
    log.set_up(level="warning")
    structlog.get_logger().info("quiet")
    logging.getLogger("vendor").info("quiet")
    assert log.text == ""


@pytest.mark.parametrize("library", ["apscheduler.executors", "watchfiles.main", "asyncio"])
def test_libraries_that_chatter_are_heard_only_when_they_warn(log: Log, library: str) -> None:
    log.set_up()
    logging.getLogger(library).info("tick")
    logging.getLogger(library).warning("trouble")
    assert [event["event"] for event in log.events] == ["trouble"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_secret_is_written_nowhere(log: Log, style: str) -> None:
    log.set_up(style)
    ours, foreign = structlog.get_logger(), logging.getLogger("vendor")
    ours.info(f"event {SECRET}")
    ours.info("field", token=f"Bearer {SECRET}")
    ours.info("nested", headers={"Authorization": [SECRET]}, pair=("a", SECRET))
    ours.info("error", problem=ValueError(SECRET))
    ours.info("bound", url=f"http://host/net/{quote(SECRET, safe='')}/x")
    foreign.warning("asked with %s", SECRET)
    foreign.warning("asked with %s", {"token": SECRET})
    try:
        fail(SECRET)
    except ValueError:
        ours.exception("defect")
        foreign.exception("failed")
    with structlog.contextvars.bound_contextvars(caller=SECRET):
        ours.warning("context")
    assert log.text.count(REDACTED) >= 10
    for spelling in SPELLINGS:
        assert spelling not in log.text


def test_a_secret_that_came_up_later_is_hidden_from_then_on(log: Log) -> None:
    log.set_up()
    logger, later = structlog.get_logger(), "token/of a session="
    hide(later)
    hide("")
    logger.info("found", url=f"http://host/net/{quote(later, safe='')}/post", token=later)
    logger.info("asked", token=SECRET)
    assert [event["token"] for event in log.events] == [REDACTED, REDACTED]
    assert log.events[0]["url"] == f"http://host/net/{REDACTED}/post"


def test_a_secret_that_begins_like_another_is_hidden_whole(log: Log) -> None:
    log.set_up()
    hide("session-of")
    hide("session-of-anna")
    structlog.get_logger().info("asked", token="session-of-anna")
    assert log.events[0]["token"] == REDACTED


def test_of_secrets_that_come_up_later_the_last_ones_are_kept(log: Log) -> None:
    log.set_up()
    tokens = [f"<token-{number}>" for number in range(2 * MOST_HIDDEN)]
    for token in tokens:
        hide(SECRET)
        hide(token)
        hide(token)
    structlog.get_logger().info("asked", tokens=[SECRET, *tokens[-MOST_HIDDEN:]])
    assert log.events[0]["tokens"] == [REDACTED] * (MOST_HIDDEN + 1)


def test_hiding_before_anything_is_set_up_does_no_harm(log: Log) -> None:
    hide("token")
    log.set_up()
    structlog.get_logger().info("asked", tokens="token")
    assert log.events[0]["tokens"] == "token"


def test_the_console_shows_no_local_variables(log: Log) -> None:
    log.set_up("console")
    try:
        fail("broken")
    except ValueError:
        structlog.get_logger().exception("defect")
    assert "ValueError: broken" in log.text
    assert "brokenbroken" not in log.text


def test_auto_is_json_where_nobody_looks_on(log: Log) -> None:
    log.set_up("auto")
    structlog.get_logger().info("event")
    assert log.events[0]["event"] == "event"


def test_a_name_that_is_no_text_does_not_break_the_log(log: Log) -> None:
    log.set_up()
    structlog.get_logger().info("file", name="\udcff.jpg", data=b"\xff", self_made=object())
    assert log.events[0]["name"] == "\udcff.jpg"
