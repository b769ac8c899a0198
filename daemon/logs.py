"""Logging: events with fields, one line per finished piece of work, and no secret in any of them."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Collection
from typing import TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"


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
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[*finish, _redacted(renderer, secrets)]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("apscheduler", "watchfiles", "httpx", "httpcore", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _redacted(renderer: Processor, secrets: Collection[str]) -> Processor:
    """Render, then take the secrets out of the text, wherever in the event they stood."""
    spellings = [
        spelling
        for secret in secrets
        if secret
        for spelling in ("".join(map(_quoted, secret)), re.escape(quote(secret, safe="")))
    ]
    pattern = re.compile("|".join(spellings or ["(?!)"]))

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        return pattern.sub(REDACTED, str(renderer(logger, method, event)))

    return render


def _quoted(character: str) -> str:
    """Return a pattern for a character, quoted however often: by ``repr``, by JSON, by one in the other."""
    if character in "\"'":
        return rf"\\*{character}"
    if character == "\\":
        return r"\\+"
    in_json = json.dumps(character)[1:-1].replace("\\", r"\\+")
    return re.escape(character) if character.isascii() else f"(?:{character}|{in_json})"
