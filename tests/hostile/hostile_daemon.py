"""A whole daemon in this process, and the bytes that somebody sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from folder_daemon import paint

from daemon.service import listening, synchronising
from daemon.settings import Settings
from daemon.wiring import Parts, wired

TOKEN = "the-operator's"
PROJECT = "pets"
PICTURES = 6
PATIENCE = 10.0
"""An answer that takes longer is taken for none: the requests here ask for next to nothing."""


@dataclass(frozen=True)
class Hostile:
    """A daemon on a folder of one small project.

    :ivar ids: its images
    """

    url: str
    project_id: int
    ids: list[int]
    parts: Parts = field(repr=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def failed(self) -> set[str]:
        """The routes that ever answered with a 5xx, whether or not somebody was there to hear it."""
        return {
            sample.labels["route"]
            for family in self.parts.metrics.request_seconds.collect()
            for sample in family.samples
            if sample.labels["status"] >= "500"
        }

    async def status_of(self, raw: bytes, *, hang_up: bool = False) -> int | None:
        """Send bytes as they are; return the status of what is answered, ``None`` where nothing is.

        :param hang_up: say no more after them
        :raises TimeoutError: when neither an answer nor the end comes
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(raw)
                if hang_up:
                    writer.write_eof()
                while line := await reader.readline():
                    if line.startswith(b"HTTP/1.") and line[9:10] != b"1":  # 100 Continue is no answer
                        return int(line[9:12])
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return None

    async def said(self, raw: bytes) -> bytes:
        """Send bytes as they are and no more; return all that is answered.

        :raises TimeoutError: when the connection is not closed
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        heard = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(raw)
                while more := await reader.read(2**16):
                    heard += more
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return bytes(heard)


@asynccontextmanager
async def standing(directory: Path, auth_token: str | None) -> AsyncIterator[Hostile]:
    """Have a daemon stand, everything embedded."""
    paint(directory / "pictures" / PROJECT, range(PICTURES))
    settings = Settings(
        images_dir=directory / "pictures",
        state_dir=directory / "state",
        encoder="palette",
        auth_token=auth_token,
        settle_seconds=0.05,
    )
    async with (
        wired(settings) as parts,
        synchronising(parts),
        listening(parts.app, "127.0.0.1", 0) as url,
    ):
        async with asyncio.timeout(PATIENCE):
            ids = await _all_embedded(parts)
            project = await parts.source.project(PROJECT)
        assert project
        yield Hostile(url, project.id, ids, parts)


async def _all_embedded(parts: Parts) -> list[int]:
    """Return the images, as soon as all of them are embedded."""
    while True:
        found = []
        for project_id, encoder_id in (await parts.store.pointers()).items():
            async for page in parts.store.scroll(encoder_id, project_id):
                found += [stored.id for stored in page]
        if len(found) == PICTURES:
            return found
        await asyncio.sleep(0.05)
