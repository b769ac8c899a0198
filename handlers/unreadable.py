"""What the log is told of bytes that are no request: that they came, and not what they were.

aiohttp quotes the line that it could not read, at full length and with a stack trace; and what stands in a
header with a stray byte in it may be somebody's token.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


def without_quotes(record: logging.LogRecord) -> bool:
    """Have a record of a request that could not be read say only that, and from where it came."""
    failure = record.exc_info[1] if record.exc_info else None
    if isinstance(failure, HttpProcessingError):
        record.exc_info = None
        record.msg = f"{record.msg}: it is no HTTP ({type(failure).__name__})"
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
