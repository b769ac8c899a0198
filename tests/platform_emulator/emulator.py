"""The emulator: a platform that listens, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from aiohttp import web

from .counters import Counters
from .faults import Faults
from .server import Platform
from .world import World

_STARTING_SECONDS = 10


class Emulator:
    """A platform that listens on this machine, until it is closed.

    :ivar address: such as ``http://127.0.0.1:43210``
    """

    def __init__(self, world: World | None = None, port: int = 0, seed: int = 0) -> None:
        self.world = world or World()
        self.faults = Faults(seed)
        self.counters = Counters()
        self.address = ""
        self._port = port
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="platform emulator")
        self._thread.start()
        if not self._started.wait(_STARTING_SECONDS):
            raise TimeoutError("the emulator did not start")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = Platform(self.world, self.faults, self.counters).application()
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            self.address = "http://{}:{}".format(*runner.addresses[0][:2])
            self.world.address = self.address
            self._started.set()
            await self._stop.wait()
        except OSError as error:
            self._failure = error
            self._started.set()
        finally:
            await runner.cleanup()
