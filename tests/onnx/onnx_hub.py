"""A Hugging Face hub of two repositories, that really listens, counts, and fails when told to."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from daemon.encoders.models import REPOSITORIES

COMMIT = "c" * 40


@dataclass
class TinyHub:
    """Serves the halves of the model in `directory`; files over `large` bytes carry a SHA-256.

    :ivar sent: bytes of each file that went over the wire
    :ivar cuts: after how many bytes the connection of a file is reset, one entry per download
    :ivar refusals: statuses that the next requests get
    :ivar damaged: files of which the last byte is wrong
    :ivar announced: the size that every file is said to have
    :ivar listing: what the hub answers in place of a listing
    """

    directory: Path
    large: int = 4_000
    ranges: bool = True
    sent: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    refusals: list[int] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    announced: int | None = None
    listing: object = None

    def app(self) -> web.Application:
        app = web.Application()
        for half, repository in REPOSITORIES.items():
            app.router.add_get(f"/api/models/{repository}/revision/main", self._listing(half))
            app.router.add_get(f"/{repository}/resolve/{COMMIT}/{{name}}", self._redirect)
            app.router.add_get(f"/storage/{repository}/{{name}}", self._file(half))
        return app

    def _listing(self, half: str):
        async def answer(request: web.Request) -> web.Response:
            assert request.query == {"blobs": "true"}
            if self.refusals:
                raise _Refusal(self.refusals.pop(0))
            if self.listing is not None:
                return web.json_response(self.listing)
            siblings = [self._sibling(path) for path in sorted((self.directory / half).iterdir())]
            siblings.append({"rfilename": "README.md", "size": 3, "blobId": "unwanted"})
            return web.json_response({"sha": COMMIT, "siblings": siblings})

        return answer

    def _sibling(self, path: Path) -> dict:
        data = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        sibling = {"rfilename": path.name, "size": self.announced or len(data), "blobId": blob}
        if len(data) > self.large:
            pointer = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            sibling |= {"blobId": "of the pointer", "lfs": pointer}
        return sibling

    async def _redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(request.path.replace(f"/resolve/{COMMIT}", "").replace("/", "/storage/", 1))

    def _file(self, half: str):
        async def answer(request: web.Request) -> web.StreamResponse:
            name = f"{half}/{request.match_info['name']}"
            self.asked.append(name)
            data = (self.directory / name).read_bytes()
            if name in self.damaged:
                data = data[:-1] + bytes([data[-1] ^ 1])
            start = (request.http_range.start or 0) if self.ranges else 0
            response = web.StreamResponse(status=206 if start else 200)
            response.content_length = len(data) - start
            await response.prepare(request)
            end = start + self.cuts[name].pop(0) if self.cuts.get(name) else len(data)
            await response.write(data[start:end])
            self.sent[name] += end - start
            if end < len(data):
                request.transport.close()
            return response

        return answer


class _Refusal(web.HTTPException):
    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__()
