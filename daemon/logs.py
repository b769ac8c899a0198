"""Logging: events with fields, one line per finished piece of work, and no secret in any of them."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import deque
from collections.abc import Collection
from typing import TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.storms import StormHandler

REDACTED = "[redacted]"

MOST_HIDDEN = 64
"""So many secrets that came later are kept; the oldest of them is forgotten for one more."""


def set_up(level: str, style: str, secrets: Collection[str], stream: TextIO = sys.stderr) -> None:
    """Send every event, of libraries too, through one formatter.

    :param style: ``console``, ``json``, or ``auto``: console on a terminal
    :param secrets: values that must never be written
    """
    console = style == "console" or (style == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    finish: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not console:
        finish.append(structlog.processors.format_exc_info)
    redaction = _Redaction(renderer, secrets)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*finish, redaction])
    handler = StormHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Write events from this severity on; those of chattering libraries from warnings on at most."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for chatty in ("apscheduler", "watchfiles", "httpx", "httpcore", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def hide(secret: str) -> None:
    """Keep a secret that came up after `set_up` out of whatever is written from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            for processor in handler.formatter.processors:
                if isinstance(processor, _Redaction):
                    processor.hide(secret)


class _Redaction:
    """Renders, then takes the secrets out of the text, wherever in the event they stood."""

    def __init__(self, renderer: Processor, secrets: Collection[str]) -> None:
        self._renderer = renderer
        self._secrets = frozenset(filter(None, secrets))
        self._later: deque[str] = deque(maxlen=MOST_HIDDEN)
        self._pattern = _pattern(self._secrets)

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        return self._pattern.sub(REDACTED, str(self._renderer(logger, method, event)))

    def hide(self, secret: str) -> None:
        if secret and secret not in self._secrets and secret not in self._later:
            self._later.append(secret)
            self._pattern = _pattern({*self._secrets, *self._later})


def _pattern(secrets: Collection[str]) -> re.Pattern[str]:
    """Return what matches any of the secrets however it is spelt, the longest first."""
    spellings = [
        spelling
        for secret in sorted(secrets, key=len, reverse=True)
        for spelling in ("".join(map(_quoted, secret)), re.escape(quote(secret, safe="")))
    ]
    return re.compile("|".join(spellings or ["(?!)"]))


def _quoted(character: str) -> str:
    """Return a pattern for a character, quoted however often: by ``repr``, by JSON, by one in the other."""
    if character in "\"'":
        return rf"\\*{character}"
    if character == "\\":
        return r"\\+"
    in_json = json.dumps(character)[1:-1].replace("\\", r"\\+")
    return re.escape(character) if character.isascii() else f"(?:{character}|{in_json})"
