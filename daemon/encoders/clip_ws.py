"""CLIP as a service over websocket: the messages of gRPC in binary frames, a connection for each batch.

That costs a handshake per batch and spares the rest: answers that have to be matched with questions,
pings between two batches, and connections found dead only when they are used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

import aiohttp

from daemon.encoders.clip_gateway import MAX_MESSAGE_BYTES, Gateway
from daemon.encoders.clip_http import retry_after
from daemon.encoders.clip_service import connection_problem
from state.errors import Unavailable

_CLOSE_SECONDS = 1.0
"""Longest a server may take to say goodbye; what it had to say is known by then."""


class WebsocketClip(Gateway):
    """The `Encoder` port over a CLIP service at a ``ws://`` or ``wss://`` address, with any path prefix.

    :param connections: batches under way at once; further ones wait, within their `timeout`
    :param now: seconds since the epoch, for a ``Retry-After`` that is a date
    """

    schemes = ("ws", "wss")
    encode_path = "/"
    ready_path = "/dry_run"
    needs = ("google.protobuf",)

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

    async def _call(self, path: str, message: bytes, seconds: float) -> bytes:
        """Connect, say one thing, and return what is answered."""
        self.check_open()
        url = self._address._replace(path=self._address.path.rstrip("/") + path).geturl()
        try:
            async with (
                asyncio.timeout(seconds),
                self._connected().ws_connect(
                    url,
                    protocols=("bytes",),
                    max_msg_size=MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                ) as socket,
            ):
                await socket.send_bytes(message)
                answer = await socket.receive()
        except aiohttp.WSServerHandshakeError as error:
            raise self._handshake_failure(error) from None
        except TimeoutError:
            raise self.late(seconds) from None
        except (aiohttp.ClientError, OSError) as error:
            # Without its cause: some of the library's messages quote the whole address.
            raise self.unavailable(connection_problem(error)) from None
        if answer.type is not aiohttp.WSMsgType.BINARY:
            raise self.unavailable(
                f"{answer.type.name.lower()}: {answer.extra or answer.data or 'no answer'}"
            )
        return bytes(answer.data)

    async def _disconnect(self) -> None:
        if self._session:
            await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(self._refuse)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
            )
        return self._session

    async def _refuse(self, *_: object) -> NoReturn:
        raise self.unavailable("it sends us elsewhere, where we do not follow: is CLIP_HOST right?")

    def _handshake_failure(self, error: aiohttp.WSServerHandshakeError) -> Unavailable:
        hint = ": is CLIP_AUTH_TOKEN right?" if error.status in (401, 403) else ""
        wait = error.headers.get("Retry-After") if error.headers else None
        return self.unavailable(f"status {error.status}{hint}", retry_after(wait, self._now()))
