"""CLIP as a service over websocket: the messages of gRPC in binary frames, a connection for each batch.

That costs a handshake per batch and spares the rest: answers that have to be matched with questions,
pings between two batches, and connections found dead only when they are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

import aiohttp

from daemon.encoders.clip_connections import ConnectedClip, retry_after
from daemon.encoders.clip_gateway import MAX_MESSAGE_BYTES, Gateway
from daemon.encoders.clip_service import connection_problem
from state.errors import Unavailable

_CLOSE_SECONDS = 1.0
"""Longest a server may take to say goodbye; what it had to say is known by then."""


class WebsocketClip(ConnectedClip, Gateway):
    """The `Encoder` port over a CLIP service at a ``ws://`` or ``wss://`` address, with any path prefix."""

    schemes = ("ws", "wss")
    encode_path = "/"
    ready_path = "/dry_run"
    needs = ("google.protobuf",)

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

    def _traces(self) -> Sequence[aiohttp.TraceConfig]:
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(self._refuse)
        return [trace]

    async def _refuse(self, *_: object) -> NoReturn:
        raise self.unavailable("it sends us elsewhere, where we do not follow: is CLIP_HOST right?")

    def _handshake_failure(self, error: aiohttp.WSServerHandshakeError) -> Unavailable:
        hint = ": is CLIP_AUTH_TOKEN right?" if error.status in (401, 403) else ""
        wait = error.headers.get("Retry-After") if error.headers else None
        return self.unavailable(f"status {error.status}{hint}", retry_after(wait, self._now()))
