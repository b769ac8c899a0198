"""A daemon in this process over a folder, whose encoder is swapped while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from clip_emulator import ClipEmulator, Model
from PIL import Image

from daemon.pictures import decode
from daemon.service import listening, synchronising
from daemon.settings import Settings
from daemon.wiring import Parts, wired
from state.model import FULL

PATIENCE = 30.0


def paint(folder: Path, seeds: Iterable[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{seed}.png")


class Running:
    """The daemon, what it serves, and a look into its store."""

    def __init__(self, directory: Path) -> None:
        self.pictures = directory / "pictures"
        self.settings = Settings(
            images_dir=self.pictures, state_dir=directory / "state", port=0, settle_seconds=0.05
        )
        self._stack = AsyncExitStack()
        self.parts: Parts

    async def start(self, *clips: ClipEmulator, **more: Any) -> None:
        hosts = ",".join(clip.url for clip in clips)
        self.settings = replace(self.settings, clip_host=hosts or None, **more)
        self.parts = await self._stack.enter_async_context(wired(self.settings))
        await self._stack.enter_async_context(synchronising(self.parts))
        url = await self._stack.enter_async_context(listening(self.parts.app, "127.0.0.1", 0))
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(url))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def restart(self, *clips: ClipEmulator, **more: Any) -> None:
        await self.stop()
        await self.start(*clips, **more)

    async def post(self, path: str, **body: Any) -> tuple[int, Mapping[str, Any]]:
        async with self._http.post(path, json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> Mapping[str, Any]:
        async with self._http.get(path) as response:
            answer: Mapping[str, Any] = await response.json()
            return answer

    @property
    def encoded(self) -> float:
        return self.parts.metrics.registry.get_sample_value("embedsync_images_encoded_total") or 0.0

    async def answering(self) -> set[str]:
        return set((await self.parts.store.pointers()).values())

    async def settled(self) -> None:
        """Wait until everything is embedded."""

        async def everything() -> bool:
            encoder_id = self.parts.encoder.id
            if encoder_id is None or await self.answering() != {encoder_id}:
                return False
            await self.parts.controller.idle()
            return not any(
                one["stale"] or one["waiting_for"] for one in (await self.get("/status"))["projects"]
            )

        await self.until(everything)

    async def vouched_for(self) -> None:
        """Wait until good canaries vouch for everything."""

        encoder_id, store = self.parts.encoder.id, self.parts.store
        pages = [store.scroll(encoder_id, one) for one in await store.projects(encoder_id)]
        latest = max([one.epoch for listing in pages async for page in listing for one in page])

        async def confirmed() -> bool:
            return any(one.id == encoder_id and one.confirmed >= latest for one in await store.encoders())

        await self.until(confirmed)

    async def until(self, true: Callable[[], Awaitable[Any]]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if await true():
                    return
                await asyncio.sleep(0.05)

    async def ids(self, project: str) -> list[int]:
        found = await self.parts.source.project(project)
        assert found
        return [one.id async for page in self.parts.source.images(found.id, FULL) for one in page]

    async def foreign(self, encoder_id: str, model: int, dimension: int = 64) -> list[int]:
        """Return the images whose vector under this id was made by another model than `model`."""
        maker = Model(model, dimension)
        wrong = []
        for project_id in await self.parts.store.projects(encoder_id):
            async for page in self.parts.store.scroll(encoder_id, project_id):
                for point in await self.parts.store.embeddings(encoder_id, [one.id for one in page]):
                    vector = maker.of_picture(decode((self.pictures / point.image.path).read_bytes(), 224))
                    if float(vector @ point.vector) / np.linalg.norm(vector) < 0.99:
                        wrong.append(point.image.id)
        return wrong

    async def count(self, encoder_id: str) -> int:
        return sum((await self.parts.store.projects(encoder_id)).values())
