"""An address that nobody has any business at."""

from __future__ import annotations

import asyncio
from typing import Self


class Bait:
    """Listens, and counts who comes.

    :ivar came: how many did
    :ivar address: where it listens, as ``host:port``
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.came = 0
        self._host = host

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, 0)
        self.address = f"{self._host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _connected(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        writer.close()
