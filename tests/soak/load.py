"""What goes on around the daemon: a folder that changes, people who search, and clients without manners."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from pathlib import Path
from random import Random

import aiohttp
import numpy as np
from PIL import Image

WORDS = ("red", "green", "a dog", "the sea at night", "sports car", "snow")
PER_WORD = 30
"""Texts of each: few, so that the cache of texts is full when the warm-up ends."""

LONGEST_SECONDS = 70.0
"""More than the daemon takes for any answer."""

RECENT = 2_000
"""Answers whose time is kept."""


class Folder:
    """A folder of about so many pictures, some of which are none."""

    def __init__(self, path: Path, size: int, random: Random) -> None:
        self._path, self._size, self._random = path, size, random
        self._made = 0
        for project in ("one", "two"):
            (path / project).mkdir(parents=True)
        for _ in range(size):
            self._add()

    def change(self) -> None:
        """Add, remove, rewrite or rename one."""
        files = sorted(self._path.rglob("*.*"))
        if len(files) < self._size * 0.9:
            return self._add()
        one = self._random.choice(files)
        match self._random.randrange(5):
            case 0:
                self._add()
            case 1 | 2:
                one.unlink()
            case 3:
                self._paint(one)
            case 4:
                one.rename(one.with_stem(f"renamed-{self._made}"))
                self._made += 1
        return None

    def _add(self) -> None:
        self._made += 1
        project = self._random.choice(("one", "two"))
        self._paint(self._path / project / f"{self._made}.png")

    def _paint(self, file: Path) -> None:
        if self._random.random() < 0.02:
            file.write_bytes(self._random.randbytes(500))
            return
        rng = np.random.default_rng(self._random.getrandbits(32))
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((64, 64)).save(file)


class People:
    """Who asks the daemon, and what they were answered.

    :ivar answers: by status; ``-1`` where none came
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, random: Random) -> None:
        self._url, self._session, self._random = url, session, random
        self.answers: Counter[int] = Counter()
        self.seconds: deque[float] = deque(maxlen=RECENT)

    async def ask(self) -> None:
        """Ask one thing, mostly a search."""
        project = self._random.choice(("one", "two"))
        kind = self._random.random()
        if kind < 0.7:
            prompt = f"{self._random.choice(WORDS)} {self._random.randrange(PER_WORD)}"
            await self._post("/search", {"project_id": project, "prompt": prompt})
        elif kind < 0.8:
            await self._post("/diverse", {"project_id": project, "sample_size": 5})
        elif kind < 0.9:
            await self._post("/task_status", {"project_id": project})
        elif kind < 0.95:
            await self._post("/embeddings", {"project_id": project, "dry_run": True})
        else:
            await self._hang_up()

    async def _post(self, path: str, body: dict[str, object]) -> None:
        started = time.perf_counter()
        try:
            async with self._session.post(self._url + path, json=body) as response:
                await response.read()
                self.answers[response.status] += 1
        except (aiohttp.ClientError, TimeoutError):
            self.answers[-1] += 1
        self.seconds.append(time.perf_counter() - started)

    async def _hang_up(self) -> None:
        port = int(self._url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
