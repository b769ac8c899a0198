"""Fetching pictures from the platform: small previews first, originals when there are none.

Nothing but the configured hosts is ever connected to, and no redirect is followed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote, urlsplit

import aiohttp

from daemon.pictures import content_hash
from state.errors import Inconsistent, Rejected, Unavailable
from state.model import ImageRef, Picture
from state.ports import Reserve

SERVICE = "source"

RESIZED = "q/ext:jpeg/resize:fit:224:224:0/q:70/plain"
"""What is asked of imgproxy: a JPEG of quality 70 within 224 by 224 pixels."""

IMGPROXY, PREVIEW, ORIGINAL = "imgproxy", "preview", "original"
"""The routes, best first; a vector made by another than the first one configured counts as stale."""

LINK = "link"
"""The original of a picture that has no other route: no fallback, and never made again for it."""

FETCH_SECONDS = 60.0

LEADS_ELSEWHERE = re.compile(r"(^|/)([a-z][a-z0-9+.-]*:/|\.\.(/|$))", re.IGNORECASE)
"""A path with another address in it, which imgproxy would go to, or out of its place behind the options."""


class Pictures:
    """Pictures of one server.

    :param imgproxy: address of an imgproxy; without it the server's own previews are used
    :param link_hosts: hosts that linked pictures may be fetched from
    :param connections: pictures fetched at once
    :param max_bytes: largest picture
    """

    def __init__(
        self,
        server: str,
        imgproxy: str | None,
        link_hosts: Collection[str],
        connections: int,
        max_bytes: int,
    ) -> None:
        self._server = server.rstrip("/")
        self._imgproxy = imgproxy.rstrip("/") if imgproxy else None
        self._link_hosts = frozenset(link_hosts)
        self._max_bytes = max_bytes
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS, sock_connect=10),
        )

    @property
    def fallback_routes(self) -> frozenset[str]:
        """The routes whose vectors are to be made again."""
        return frozenset({PREVIEW, ORIGINAL} if self._imgproxy else {ORIGINAL})

    async def fetch(self, image: ImageRef, reserve: Reserve) -> Picture:
        """Fetch a picture by the best route that works.

        :param reserve: as `Source.fetch` has it
        :raises Unavailable: when no route answers now
        :raises Inconsistent: when the server has no such picture by any route
        :raises Rejected: when it is too large, or on a host that is not allowed
        """
        problem: Unavailable | Inconsistent | None = None
        for route, url in self._routes(image.path):
            try:
                data = await self._get(url, reserve)
            except (Unavailable, Inconsistent) as error:
                # A server that has a picture by no route at all is only believed when all say so.
                problem = problem if isinstance(problem, Unavailable) else error
                continue
            if route == ORIGINAL and (
                problem is None or (image.content is None and isinstance(problem, Inconsistent))
            ):
                route = LINK
            return Picture(data, image.content or content_hash(data), route)
        raise problem or Rejected("on a host that is not allowed")

    def _routes(self, url: str) -> Iterator[tuple[str, str]]:
        try:
            parts = urlsplit(url)
        except ValueError:
            return  # whoever linked a picture wrote what they liked
        # Without its slash it would go on with the name of our server, as in `@elsewhere.example/`.
        parts = parts._replace(path=f"/{parts.path.lstrip('/')}")
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        origin = f"{parts.scheme}://{parts.netloc}"
        linked = parts.netloc and origin != self._server
        if linked and (parts.hostname not in self._link_hosts or parts.scheme not in ("http", "https")):
            return
        if not linked:
            if LEADS_ELSEWHERE.search(unquote(parts.path)):
                return
            if self._imgproxy:
                yield IMGPROXY, f"{self._imgproxy}/{RESIZED}{path}"
            yield PREVIEW, f"{self._server}/previews/{RESIZED}{parts.path}"
        yield ORIGINAL, url if linked else f"{self._server}{path}"

    async def _get(self, url: str, reserve: Reserve) -> bytes:
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in (404, 410):
                    raise Inconsistent("the picture is not there")
                if response.status != 200:
                    raise Unavailable(SERVICE, f"a picture: status {response.status}")
                await self._admit(response.content_length or 0, reserve)
                data = bytearray()
                async for block in response.content.iter_chunked(1 << 16):
                    await self._admit(len(data) + len(block), reserve)
                    data += block
                return bytes(data)
        except aiohttp.InvalidURL as error:
            raise Rejected("its address is none") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(SERVICE, f"a picture: {type(error).__name__}") from error

    async def _admit(self, size: int, reserve: Reserve) -> None:
        if size > self._max_bytes:
            raise Rejected(f"over the limit of {self._max_bytes} bytes")
        await reserve(size)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
