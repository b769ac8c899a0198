"""Bytes that are no request, or try to be two: refused, and repeated to nobody but their sender."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from hostile_daemon import TOKEN, Hostile, standing

from daemon import logs

THEIRS = "a-users-own-platform-token"
HEAD = b"POST /task_status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
SECOND = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def daemon(tmp_path) -> AsyncIterator[Hostile]:
    async with standing(tmp_path, TOKEN) as one:
        yield one


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is written to the log, as the daemon writes it."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level
    logs.set_up("debug", "json", [TOKEN], stream)
    yield stream
    root.handlers[:], root.level = before


TWO_IN_ONE = {
    "both lengths": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 33\r\n\r\n",
    "a signed length": b"Content-Length: +0\r\n\r\n",
    "a length in hex": b"Content-Length: 0x0\r\n\r\n",
    "a length with an underscore": b"Content-Length: 0_0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"Content-Length: 0\r\nX: a\r\n Content-Length: 33\r\n\r\n",
    "a bare line feed": b"X: a\nContent-Length: 33\r\n\r\n",
    "a bare carriage return": b"X: a\rContent-Length: 33\r\n\r\n",
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
    "a chunk in 0x": b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk ended by a line feed": b"Transfer-Encoding: chunked\r\n\r\n2;\n{}\r\n0\r\n\r\n",
}


async def test_what_a_proxy_might_take_for_one_request_is_not_answered_as_two(daemon: Hostile) -> None:
    said = {name: await daemon.said(HEAD + rest + SECOND) for name, rest in TWO_IN_ONE.items()}
    answers = {name: re.findall(rb"HTTP/1\.[01] (\d+)", one) for name, one in said.items()}
    assert answers == {name: [b"400"] for name in TWO_IN_ONE}


UNREADABLE = (
    b"GET /status HTTP/1.1\r\nHost: x\r\nx-api-key: %s\0\r\n\r\n",
    b"GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n and more\r\n\r\n",
    b"GET /status HTTP/1.1\r\nHost: x\r\nAuthorization Bearer %s\r\n\r\n",
    b"GET /status?api_token=%s HTTP/one\r\nHost: x\r\n\r\n",
    b"%s\r\n\r\n",
    b"POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
)


async def test_a_token_in_a_request_that_cannot_be_read_is_written_nowhere(
    daemon: Hostile, written: io.StringIO
) -> None:
    for raw in UNREADABLE:
        assert b" 400 " in await daemon.said(raw % THEIRS.encode()), raw
    events = [json.loads(line) for line in written.getvalue().splitlines()]
    assert THEIRS not in written.getvalue()
    assert "Traceback" not in written.getvalue()
    assert not [event for event in events if event["level"] == "error"]
