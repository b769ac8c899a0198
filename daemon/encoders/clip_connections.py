"""What CLIP over HTTP and over websocket have in common: connections of aiohttp, made when first needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

import aiohttp

from daemon.encoders.clip_service import ClipService

IDLE_SECONDS = 4.0
"""How long an unused connection is kept; the server closes it after 5, perhaps as we send."""

CONNECT_SECONDS = 10.0
"""Longest that making a connection may take."""

LONGEST_RETRY_AFTER = 3600.0
"""Most seconds a server may ask us to wait: what asks for more is more likely wrong than away so long."""


class ConnectedClip(ClipService):
    """A transport over aiohttp.

    :param connections: calls under way at once; further ones wait, within their `timeout`
    :param now: seconds since the epoch, for a ``Retry-After`` that is a date
    """

    def __init__(
        self,
        base: str,
        token: str | None = None,
        connections: int = 4,
        timeout: float = 60.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(base, token, timeout)
        self._headers = {"Authorization": token} if token else {}
        self._connections = connections
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=list(self._traces()),
            )
        return self._session

    def _traces(self) -> Sequence[aiohttp.TraceConfig]:
        """Return what follows each call."""
        return ()

    async def _disconnect(self) -> None:
        if self._session:
            await self._session.close()


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, be it a number or a date (RFC 9110)."""
    if not header:
        return None
    try:
        seconds = float(header) if header.isdecimal() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)
