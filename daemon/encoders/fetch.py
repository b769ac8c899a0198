"""Fetch the local CLIP's files from a Hugging Face hub, or a mirror of one, once.

One request per repository lists its files with sizes and checksums, and the commit that every download
is then pinned to. huggingface_hub, which fastembed brings along, begins an interrupted download from
nothing and compares sizes alone, too little for 600 MB over a bad line; so the few requests are our own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from daemon.encoders.models import OPTIONAL, REPOSITORIES, REQUIRED, ModelFile, sha256, write_manifest
from state.errors import Inconsistent, Misconfigured, Unavailable
from state.stores.lock import acquire

HUB = "https://huggingface.co"
ATTEMPTS = 5
"""Tries per request, pausing 1, 2, 4 … seconds; each download goes on where the last one broke off."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
_CHUNK = 2**20
_PASSING = frozenset({408, 416, 429, 500, 502, 503, 504})

T = TypeVar("T")
OnProgress = Callable[[int, int], None]
"""Told how many bytes there are, and of how many; the first may fall when a download starts over."""


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the hub announces it; `checksum` is a SHA-256, or for a small file git's blob id."""

    url: URL
    size: int
    checksum: str


async def fetch(
    directory: Path,
    source: str = HUB,
    on_progress: OnProgress = lambda done, total: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Fetch what `directory` lacks of the model, and declare it whole.

    Proxies are taken from the environment, as usual.

    :param source: the hub's address
    :raises Unavailable: when the hub does not answer, or breaks off, over and over
    :raises Inconsistent: when a file is not what the hub announced; it is not kept
    :raises Misconfigured: when `source` is no such hub, or `directory` cannot be written to
    :raises Occupied: when somebody else is fetching into `directory`
    """
    base = _base(source)
    try:
        lock = _lock(directory)
        try:
            async with aiohttp.ClientSession(
                timeout=_TIMEOUT, trust_env=True, headers={"Accept-Encoding": "identity"}
            ) as session:
                await _Fetch(session, directory, on_progress, sleep).everything(base)
        finally:
            os.close(lock)
    except OSError as error:
        raise Misconfigured("--directory", f"{directory}: {error.strerror or error}") from error


class _Fetch:
    """One run: the session, and how far it is."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        directory: Path,
        on_progress: OnProgress,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._session = session
        self._directory = directory
        self._on_progress = on_progress
        self._sleep = sleep
        self._done = self._total = 0

    async def everything(self, base: URL) -> None:
        wanted: dict[str, _Remote] = {}
        origins = {}
        for half, repository in REPOSITORIES.items():
            commit, files = await self._list(base, half, repository)
            origins[str(_shown(base / repository))] = commit
            wanted |= {f"{half}/{name}": remote for name, remote in files.items()}
        self._total = sum(remote.size for remote in wanted.values())
        have = {name: await self._have(name, remote) for name, remote in wanted.items()}
        self._check_space(sum(wanted[name].size for name, whole in have.items() if not whole))
        for name, remote in wanted.items():
            if not have[name]:
                await self._fetch(name, remote)
            self._done += remote.size
            self._on_progress(self._done, self._total)
        fetched = {
            name: ModelFile(remote.size, await asyncio.to_thread(sha256, self._directory / name))
            for name, remote in wanted.items()
        }
        write_manifest(self._directory, fetched, origins)

    async def _list(self, base: URL, half: str, repository: str) -> tuple[str, dict[str, _Remote]]:
        """Return the commit a repository is at, and those of its files that are wanted."""
        url = (base / "api/models" / repository / "revision/main").with_query(blobs="true")

        async def listing() -> Any:
            async with self._session.get(url) as response:
                _check_status(response)
                return await response.json(content_type=None)

        try:
            answer = await self._trying(url, listing)
            commit = str(answer["sha"])
            files = {
                one["rfilename"]: _Remote(
                    base / repository / "resolve" / commit / one["rfilename"],
                    int(one["size"]),
                    _checksum((one.get("lfs") or {}).get("sha256") or one["blobId"]),
                )
                for one in answer["siblings"]
                if one["rfilename"] in REQUIRED[half] | OPTIONAL
            }
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Misconfigured("--from", f"{_shown(url)} does not answer as a Hugging Face hub") from error
        if missing := REQUIRED[half] - files.keys():
            raise Misconfigured("--from", f"{_shown(url)} lists no {', '.join(sorted(missing))}")
        return commit, files

    async def _have(self, name: str, remote: _Remote) -> bool:
        return await asyncio.to_thread(_matches, self._directory / name, remote)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise Misconfigured(
                "--directory", f"{self._directory} has {free >> 20} MiB free, and {needed >> 20} are needed"
            )

    async def _fetch(self, name: str, remote: _Remote) -> None:
        path = self._directory / name
        path.parent.mkdir(exist_ok=True)
        # Named by the checksum: what is left of another version is never gone on with.
        partial = path.with_name(f".{path.name}.{remote.checksum[:16]}.part")
        await self._trying(remote.url, lambda: self._go_on(partial, remote))
        if not await asyncio.to_thread(_matches, partial, remote):
            _discard(partial)
            raise Inconsistent(f"{_shown(remote.url)} is not what the hub announced: its checksum differs")
        partial.replace(path)
        for abandoned in path.parent.glob(f".{path.name}.*.part"):
            _discard(abandoned)

    async def _go_on(self, partial: Path, remote: _Remote) -> None:
        """Download what `partial` lacks."""
        have = _size(partial)
        if have == remote.size:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._session.get(remote.url, headers=headers) as response:
            if response.status == 416:
                _discard(partial)
            _check_status(response)
            with partial.open("ab" if response.status == 206 else "wb") as file:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    await asyncio.to_thread(file.write, chunk)
                    if file.tell() > remote.size:
                        file.truncate(0)
                        raise Inconsistent(f"{_shown(remote.url)} is longer than the hub announced")
                    self._on_progress(self._done + file.tell(), self._total)
        if _size(partial) < remote.size:
            raise aiohttp.ClientPayloadError("it broke off")

    async def _trying(self, url: URL, request: Callable[[], Awaitable[T]]) -> T:
        """Ask again what may pass.

        :raises Unavailable: when it did not pass
        """
        for attempt in range(ATTEMPTS):
            try:
                return await request()
            except aiohttp.ClientResponseError as error:
                if error.status not in _PASSING:
                    raise Misconfigured("--from", f"{_shown(url)} answers {error.status}") from error
                problem = f"answers {error.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
            if attempt + 1 < ATTEMPTS:
                await self._sleep(2**attempt)
        raise Unavailable("model", f"{_shown(url)}: {problem}; run it again, it goes on where it is")


def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status not in (200, 206):
        raise aiohttp.ClientResponseError(response.request_info, response.history, status=response.status)


def _checksum(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text):
        raise ValueError("no checksum")
    return text


def _matches(path: Path, remote: _Remote) -> bool:
    if _size(path) != remote.size:
        return False
    if len(remote.checksum) == 64:
        return sha256(path) == remote.checksum
    blob = b"blob %d\0" % remote.size + path.read_bytes()
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == remote.checksum


def _base(source: str) -> URL:
    try:
        base = URL(source.rstrip("/"))
        if base.scheme in ("http", "https") and base.host:
            return base
    except ValueError:
        pass  # a port that is no number, and the like
    raise Misconfigured("--from", "the address of a hub begins with https:// or http://, and names a host")


def _lock(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return acquire(directory / ".lock")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _shown(url: URL) -> URL:
    """Return the address without a password, which a mirror's may carry."""
    return url.with_user(None)
