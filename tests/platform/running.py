"""A daemon in this process that follows the emulated platform, with the real SDK in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from platform_emulator import Emulator

from daemon.service import synchronising
from daemon.settings import Settings
from daemon.wiring import Parts, wired
from state.model import Within

PATIENCE = 20.0


class Running:
    """A daemon that follows the emulated platform."""

    def __init__(self, emulator: Emulator, directory: Path, **more: Any) -> None:
        self.emulator = emulator
        settings = Settings(
            source="supervisely",
            server_address=emulator.address,
            api_token=emulator.world.admin_token,
            imgproxy_address=f"{emulator.address}/imgproxy",
            imgproxy_concurrency=16,
            encoder="palette",
            state_dir=directory,
            news_seconds=0.2,
        )
        self.settings = replace(settings, **more)
        self._stack = AsyncExitStack()
        self.parts: Parts

    async def start(self) -> None:
        self.parts = await self._stack.enter_async_context(wired(self.settings))
        await self._stack.enter_async_context(synchronising(self.parts))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def encoded(self) -> float:
        return self._counter("embedsync_images_encoded_total")

    @property
    def removed(self) -> float:
        return self._counter("embedsync_images_removed_total")

    def _counter(self, name: str) -> float:
        return self.parts.metrics.registry.get_sample_value(name) or 0.0

    async def stored(self, project_id: int) -> int:
        encoder_id = self.parts.encoder.id
        assert encoder_id
        return await self.parts.store.count(encoder_id, Within(project_id))

    async def sweep(self) -> None:
        """Compare everything whole, and wait until all is done and shown."""
        self.parts.surveys.want_sweep()
        await asyncio.sleep(0.3)
        async with asyncio.timeout(PATIENCE):
            await self.parts.controller.idle()
            await self.parts.settled()

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if await _answer(true):
                    return
                await asyncio.sleep(0.05)

    async def has(self, project_id: int, count: int) -> None:
        async def as_many() -> bool:
            return await self.stored(project_id) == count

        await self.until(as_many)
        async with asyncio.timeout(PATIENCE):
            await self.parts.controller.idle()
            await self.parts.settled()


async def _answer(true: Callable[[], Any]) -> Any:
    answer = true()
    return await answer if asyncio.iscoroutine(answer) else answer
