"""How commands ask the daemon: the one that runs, or else one that serves just this question."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from daemon.directory import state_directory
from daemon.service import ADDRESS_FILE, listening
from daemon.settings import Settings
from daemon.wiring import wired
from state.errors import Inconsistent, Rejected, Unavailable

PROBE = aiohttp.ClientTimeout(total=5)
"""How long a daemon may take to show that it runs."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that answers at `url`; `running` when it synchronises too, as the process `pid`."""

    url: str
    running: bool
    session: aiohttp.ClientSession
    pid: int | None = None

    async def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Ask, and return what the JSON answer says.

        :raises Rejected: when the daemon says no, with its own words
        :raises Unavailable: when it does not answer
        """
        try:
            async with self.session.request(method, self.url + path, json=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("daemon", f"{self.url} does not answer: {error}") from error
        if response.status >= 400:
            problems = "; ".join(f"{one['field']}: {one['problem']}" for one in answer.get("errors", []))
            raise Rejected(f"{answer['message']} {problems}".strip())
        return answer


@asynccontextmanager
async def running_daemon(settings: Settings) -> AsyncIterator[Daemon | None]:
    """Reach the daemon that holds this state; ``None`` when none runs."""
    async with _session(settings) as session:
        url, pid = await _running(settings, session)
        yield Daemon(url, True, session, pid) if url else None


@asynccontextmanager
async def daemon(settings: Settings) -> AsyncIterator[Daemon]:
    """Reach the daemon that holds this state, or open the state for as long as the context lasts."""
    async with running_daemon(settings) as reached:
        if reached:
            yield reached
            return
    async with wired(settings) as parts, listening(parts.app, "127.0.0.1", 0) as url:
        with suppress(Unavailable, Inconsistent):
            await parts.surveys.survey()
        async with _session(settings) as session:
            yield Daemon(url, False, session)


async def _running(settings: Settings, session: aiohttp.ClientSession) -> tuple[str, int] | tuple[None, None]:
    try:
        told = json.loads((state_directory(settings) / ADDRESS_FILE).read_text())
        url, pid = str(told["url"]), int(told["pid"])
        async with session.get(f"{url}/livez", timeout=PROBE) as response:
            return (url, pid) if response.ok else (None, None)
    except (OSError, ValueError, KeyError, aiohttp.ClientError, TimeoutError):
        return None, None


def _session(settings: Settings) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {settings.auth_token}"} if settings.auth_token else {}
    timeout = aiohttp.ClientTimeout(total=settings.request_seconds + 10)
    return aiohttp.ClientSession(headers=headers, timeout=timeout)
