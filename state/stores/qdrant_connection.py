"""Calls to a Qdrant server: never longer than allowed, and tried again where the cause may pass.

Every call we make may be repeated: points are written whole under their own id, and what is gone may
be removed again. So a lost answer is no reason to do otherwise.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, models

from state.errors import Inconsistent, Misconfigured, Unavailable
from state.stores.qdrant_errors import FAILURES, REFUSED, SERVICE, passes, retry_after, status_of, translated

TRIES = 3
"""How often a call is tried, before whoever made it waits."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
"""Seconds between two tries; a server that asks for more makes the caller wait instead."""

WRITES_AT_ONCE = 4
READS_AT_ONCE = 8

OLDEST_SERVER = (1, 12)
"""The first that counts points by the values of a field."""

_T = TypeVar("_T")
Call = Callable[[AsyncQdrantClient], Awaitable[_T]]


class Connection:
    """A server, or its stand-in, under our time limits.

    :param client: of the server
    :param call_seconds: longest one call may take
    :param sleep: waits between two tries
    :ivar refused: whether the key was not good enough to read
    :ivar read_only: whether the key was not good enough to write
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        call_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._call_seconds = call_seconds
        self._sleep = sleep
        self._writing = asyncio.Semaphore(WRITES_AT_ONCE)
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._turn = asyncio.Lock()
        self._under_way = 0
        self.refused = False
        self.read_only = False

    @classmethod
    async def open(
        cls,
        url: str,
        api_key: str | None,
        grpc_port: int | None,
        call_seconds: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> Self:
        """Prepare to call a server; nothing is sent yet.

        The key travels as a header of ours, because the client warns of one beside a plain address, and
        the environment has no say.

        :raises Misconfigured: when the address is none, or the key cannot be sent
        """
        address = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(address)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
            usable = usable and parts.username is None
        except ValueError:
            usable = False
        if not usable:
            raise Misconfigured("QDRANT_HOST", "is no address such as http://qdrant:6333")
        if api_key and not re.fullmatch("[!-~]+( [!-~]+)*", api_key):
            raise Misconfigured("QDRANT_API_KEY", "is no single line of ASCII, so no header can carry it")
        # Making a client reads certificates, some tens of milliseconds.
        client = await asyncio.to_thread(_client, address.rstrip("/"), api_key, grpc_port, call_seconds)
        return cls(client, call_seconds, sleep)

    async def check_version(self) -> None:
        """Return if the server is new enough, or does not say how old it is.

        :raises Misconfigured: when it is too old
        """
        try:
            said = (await self.read(lambda client: client.info())).version
        except (Unavailable, Inconsistent):
            return
        found = re.match(r"(\d+)\.(\d+)", said)
        if found and (int(found[1]), int(found[2])) < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise Misconfigured("QDRANT_HOST", f"the server is Qdrant {said}; {oldest} or later is needed")

    async def read(self, call: Call[_T]) -> _T:
        """Ask something.

        :raises Inconsistent: when what was asked about does not exist
        """
        async with self._reading:
            return await self._call(call, writing=False)

    async def write(self, call: Call[_T]) -> _T:
        """Change something; one of a few at a time.

        :raises Inconsistent: when what is to be changed does not exist, or what is to be made does
        """
        async with self._writing:
            return await self._call(call, writing=True)

    async def update(self, call: Call[models.UpdateResult | list[models.UpdateResult]]) -> None:
        """Change points, and make sure that it has happened and was not only heard."""
        results = await self.write(call)
        for result in results if isinstance(results, list) else [results]:
            if result.status is not models.UpdateStatus.COMPLETED:
                raise Unavailable(SERVICE, f"a write was not carried out: {result.status.value}")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def _call(self, call: Call[_T], writing: bool) -> _T:
        # The client makes its message at once, some ms; of several calls only one a turn of the loop.
        if self._under_way:
            async with self._turn:
                await asyncio.sleep(0)
        self._under_way += 1
        try:
            return await self._tried(call, writing)
        finally:
            self._under_way -= 1

    async def _tried(self, call: Call[_T], writing: bool) -> _T:
        pause = FIRST_PAUSE
        for left in reversed(range(TRIES)):
            try:
                async with asyncio.timeout(self._call_seconds):
                    return await call(self._client)
            except TimeoutError:
                raise Unavailable(SERVICE, f"no answer within {self._call_seconds:g} s") from None
            except FAILURES as error:
                wanted = retry_after(error)
                if not left or not passes(error) or (wanted or 0) > LONGEST_PAUSE:
                    self._remember(error, writing)
                    raise translated(error, writing) from error
            await self._sleep(pause if wanted is None else wanted)
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("the last try returns or raises")

    def _remember(self, error: Exception, writing: bool) -> None:
        if status_of(error) in REFUSED:
            self.refused = self.refused or not writing
            self.read_only = self.read_only or writing


def _client(address: str, api_key: str | None, grpc_port: int | None, seconds: float) -> AsyncQdrantClient:
    """Make a client that trusts the certificates this machine trusts, and not only those it brings along."""
    grpc_options: dict[str, Any] = {"grpc.enable_http_proxy": 0}
    if roots := ssl.get_default_verify_paths().cafile:
        grpc_options["root_certificates"] = Path(roots).read_bytes()
    return AsyncQdrantClient(
        url=address,
        grpc_port=grpc_port or 6334,
        prefer_grpc=grpc_port is not None,
        headers={"api-key": api_key} if api_key else None,
        timeout=math.ceil(seconds),
        grpc_options=grpc_options,
        check_compatibility=False,
        trust_env=False,
        verify=ssl.create_default_context(),
    )
