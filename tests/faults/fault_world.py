"""The whole daemon between three proxies: platform, CLIP and Qdrant, each really listening behind one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import clip_emulator
import platform_emulator
import pytest
import qdrant_emulator
from clip_emulator import ClipEmulator
from fault_proxy import Fault, FaultProxy
from fault_truth import DIMENSION, Truth
from qdrant_emulator import QdrantEmulator

from daemon.service import listening, synchronising
from daemon.settings import Settings
from daemon.wiring import Parts, wired
from state.model import FULL

PATIENCE, IMPATIENCE = 20.0, 1.5
"""Seconds that the daemon waits for an answer of a service, and of one that is going to be slow."""

SWEEP_HOURS = 0.0015
SOON = 15.0
"""Seconds in which all must be well again: a sweep, and what it takes on a noisy machine."""

SECRETS = {
    "operator": "canary-of-the-operator",
    "clip": "canary-of-the-clip-service",
    "path": "canary-in-the-path-to-clip",
    "qdrant": "canary-of-the-qdrant-server",
}

QUESTIONS = (
    "/livez",
    "/health",
    "/status",
    "/search by text",
    "/search by image",
    "/search as a user",
    "/diverse",
    "/clusters",
)
"""What is asked, by the operator but for one."""

OF_THE_CHANGING = ("/search by text", "/diverse")
"""What is asked of the project that changes; the rest, of the other."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to one request, and after how many seconds."""

    asked: str
    status: int
    seconds: float
    retry_after: str | None
    message: str


class FaultWorld:
    """A daemon that follows a platform with two projects, embeds by CLIP and stores in Qdrant.

    :param impatient: the service that gets little time to answer
    :ivar changing: the project that is changed while something is wrong; `quiet` is not
    :ivar proxies: by service, each with what goes wrong before it
    :ivar truth: what is in the store and shown, and what should be
    :ivar broken: fails when the daemon would end
    """

    def __init__(self, platform: platform_emulator.Emulator, directory: Path, impatient: str | None) -> None:
        self.platform, self.world = platform, platform.world
        self.clip = ClipEmulator(dimension=DIMENSION, token=SECRETS["clip"], prefix=f"/net/{SECRETS['path']}")
        self.qdrant = QdrantEmulator(directory / "qdrant")
        self.qdrant.keys.writing = SECRETS["qdrant"]
        self.proxies: dict[str, FaultProxy] = {}
        self.changing, self.quiet = self.world.project("changing", 12), self.world.project("quiet", 8)
        self.user = self.world.user("anna")
        for project_id in (self.changing, self.quiet):
            self.world.grant(self.user, project_id, write=True)
        self.truth = Truth(self.world, self.qdrant, (self.changing, self.quiet))
        self.parts: Parts
        self.broken: asyncio.Future[None]
        self._directory = directory
        self._impatient = impatient
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession
        self._prompts = 0

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        await enter(self.clip)
        await enter(self.qdrant)
        behind = {"source": self.platform.address, "clip": self.clip.url, "qdrant": self.qdrant.url}
        for name, url in behind.items():
            self.proxies[name] = await enter(FaultProxy(url.removesuffix(f"/net/{SECRETS['path']}")))
        self.world.address = self.proxies["source"].url
        try:
            self.parts = await enter(wired(self._settings()))
            self.broken = await enter(synchronising(self.parts))
            url = await enter(listening(self.parts.app, "127.0.0.1", 0))
            self._http = await enter(
                aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=PATIENCE))
            )
            await self.until(lambda: not self.truth.differences(), "the first sync")
            await self.until(lambda: not self.truth.wrongly_shown(), "the first flags")
            for asked in QUESTIONS:
                await self.ask(asked)
            # What nobody vouches for yet would be withdrawn, as it should, when the model seems another.
            await self.parts.recognition.round(everyone=True)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _settings(self) -> Settings:
        urls = {name: proxy.url for name, proxy in self.proxies.items()}
        return Settings(
            source="supervisely",
            server_address=urls["source"],
            api_token=self.world.admin_token,
            imgproxy_address=f"{urls['source']}/imgproxy",
            encoder="clip",
            clip_host=f"{urls['clip']}/net/{SECRETS['path']}",
            clip_auth_token=SECRETS["clip"],
            clip_seconds=self._patience_with("clip"),
            qdrant_host=urls["qdrant"],
            qdrant_api_key=SECRETS["qdrant"],
            qdrant_call_seconds=self._patience_with("qdrant"),
            auth_token=SECRETS["operator"],
            state_dir=self._directory / "state",
            news_seconds=0.2,
            update_interval=0.01,
            update_frame=SWEEP_HOURS,
        )

    def _patience_with(self, service: str) -> float:
        return IMPATIENCE if service == self._impatient else PATIENCE

    @property
    def secrets(self) -> list[str]:
        return [self.world.admin_token, self.user, *SECRETS.values()]

    # What goes wrong

    async def strike(self, service: str, fault: Fault) -> None:
        """Switch a fault on: at the proxy, or at the emulator behind it."""
        await self.proxies[service].strike(fault)
        if not fault.theirs:
            return
        kind: Any = fault.theirs
        match service:
            case "source":
                self.platform.faults.add(platform_emulator.Fault("*.list*", kind, times=None))
            case "clip":
                self.clip.faults.add(clip_emulator.Fault(kind, every=fault.every))
            case "qdrant":
                words = qdrant_emulator.DISK_FULL if kind == "status" else ""
                self.qdrant.faults.add(qdrant_emulator.Fault("upsert", kind, None, status=500, message=words))

    async def relent(self, service: str) -> None:
        """Let all be well again."""
        for faults in (self.platform.faults, self.clip.faults, self.qdrant.faults):
            faults.clear()
        await self.proxies[service].relent()

    def change(self) -> int:
        """Add an image, give another other bytes, remove a third, rename a fourth; have all compared.

        :return: the one that has other bytes
        """
        replaced, removed, renamed, *_ = self.world.image_ids(self.changing)
        self.world.add(self.world.dataset_ids(self.changing)[0])
        self.world.replace([replaced])
        self.world.delete([removed])
        self.world.rename(renamed, "renamed.png")
        for project_id in (self.changing, self.quiet):
            self.parts.controller.mark(project_id, FULL)
        return replaced

    # What the daemon says meanwhile

    async def ask(self, asked: str) -> Answer:
        """Ask one of the questions."""
        self._prompts += 1
        fields: dict[str, Any] = {"prompt": f"picture {self._prompts}", "limit": 5}
        match asked:
            case "/livez" | "/health" | "/status":
                fields = {}
            case "/search by image":
                fields = {"by_image_ids": self.world.image_ids(self.quiet)[:1]}
            case "/diverse":
                fields = {"sample_size": 3}
            case "/clusters":
                fields = {"num_clusters": 2}
        project_id = self.changing if asked in OF_THE_CHANGING else self.quiet
        body = {"project_id": project_id, **fields} if fields else None
        method, path = ("POST" if body else "GET"), asked.partition(" ")[0]
        token = self.user if asked.endswith("a user") else SECRETS["operator"]
        started = time.monotonic()
        async with self._http.request(method, path, json=body, headers={"x-api-key": token}) as response:
            said = await response.json()
        return Answer(
            asked,
            response.status,
            time.monotonic() - started,
            response.headers.get("Retry-After"),
            str(said.get("message", "")),
        )

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so, with nobody helping."""
        try:
            async with asyncio.timeout(SOON):
                while True:
                    if true():
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            amiss = [*self.truth.differences(), *self.truth.wrongly_shown()]
            pytest.fail(f"{what} is not there after {SOON:g} s: {amiss[:5]}")
