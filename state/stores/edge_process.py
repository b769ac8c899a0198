"""Keeps the child process of the embedded store alive, and asks it one thing at a time.

Questions wait in three lanes: the opening of shards, what requests wait for, and the sync's work.
A request never waits for more than one message of the sync, nor the sync for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from state.errors import Rejected, Unavailable
from state.stores.edge_wire import BEGINS_ANEW, HEADER, pack, unpack

ROOT = Path(__file__).parents[2]
SERVICE = "qdrant"

LANE_SIZE = 1024

BYTES_ON_THE_LOOP = 1 << 20
"""A larger answer is parsed in a thread."""

URGENT_IN_A_ROW = 8
"""After so many urgent calls one of the sync's goes first, so that searches cannot starve it."""

OPEN_SECONDS = 300.0
"""The longest a shard may take to load; a large write-ahead log is replayed then."""

CLOSE_SECONDS = 20.0

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Seconds between restarts of a child that keeps dying, doubling from the one to the other."""

STEADY_SECONDS = 60.0
"""A child that lived so long is restarted at once."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    frame: bytes
    reply: asyncio.Future[bytearray]
    limit: float
    retries: int = 0

    @classmethod
    def of(cls, head: tuple[object, ...], body: bytes, limit: float, retries: int = 0) -> _Call:
        try:
            frame = pack(head, body)
        except TypeError as error:
            raise Rejected(f"it cannot be stored: {error}") from error
        return cls(frame, asyncio.get_running_loop().create_future(), limit, retries)

    async def answer(self, thread: Executor) -> tuple[Any, memoryview]:
        frame = memoryview(await self.reply)
        if len(frame) > BYTES_ON_THE_LOOP:
            head, arrays = await asyncio.get_running_loop().run_in_executor(thread, unpack, frame)
        else:
            head, arrays = unpack(frame)
        problem, result = head
        if problem is not None:
            raise Unavailable(SERVICE, problem)
        return result, arrays

    def fail(self, problem: str, retry_after: float | None = None) -> None:
        if not self.reply.done():
            self.reply.set_exception(Unavailable(SERVICE, problem, retry_after))


class _Link(asyncio.Protocol):
    """The parent's end of the socket of one child: whole frames out, whole frames in."""

    def __init__(self, received: Callable[[bytearray], None], lost: Callable[[_Link], None]) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            size = HEADER.size + sum(HEADER.unpack_from(self._buffer))
            if len(self._buffer) < size:
                break
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            self._received(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)


class EdgeProcess:
    """The child, its restarts and the calls that wait for it.

    :param lock: a descriptor the child inherits, so that what it locks stays locked while it lives
    :param thread: parses large answers
    :param limit: seconds one call may take before the child counts as stuck and is replaced
    """

    def __init__(self, lock: int, thread: Executor, limit: float) -> None:
        self._lock = lock
        self._thread = thread
        self._limit = limit
        self._shards: dict[str, tuple[str, int]] = {}
        self._urgent: deque[_Call] = deque()
        self._patient: deque[_Call] = deque()
        self._urgent_in_a_row = 0
        self._process: asyncio.subprocess.Process | None = None
        self._link: _Link | None = None
        self._serving = False
        self._opening = False
        self._sent: deque[_Call] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._problem: str | None = None
        self._closed = False
        self._revival: asyncio.Task[None] | None = None
        self._started = 0.0
        self._delay = 0.0

    async def start(self) -> None:
        """Start the child and open the shards known so far.

        :raises Unavailable: when it does not start
        """
        try:
            await self._reap()
            self._link = await self._spawn()
        except OSError as error:
            raise Unavailable(SERVICE, f"its process does not start: {error}") from error
        await self._exchange("ping", "")
        for collection, (directory, dimension) in self._shards.items():
            await self._exchange("open", collection, directory, dimension)
        self._serving = True
        self._problem = None
        self._started = asyncio.get_running_loop().time()
        self._pump()

    async def open(self, collection: str, directory: Path, dimension: int) -> None:
        """Open a shard, now and after every restart; make it if there is none."""
        await self.call("open", collection, str(directory), dimension, limit=OPEN_SECONDS)
        self._shards[collection] = (str(directory), dimension)

    async def drop(self, collection: str) -> None:
        """Close a shard, now and for every restart."""
        self._shards.pop(collection, None)
        await self.call("close", collection)

    async def call(
        self,
        operation: str,
        collection: str = "",
        *arguments: object,
        body: bytes = b"",
        urgent: bool = False,
        limit: float | None = None,
    ) -> tuple[Any, memoryview]:
        """Ask the child; return its result and its raw arrays.

        :param urgent: for questions a request waits for; asked once more when the child dies over them
        :raises Unavailable: when the child died, got stuck or failed, or too many calls wait
        :raises Rejected: when an argument cannot be expressed in UTF-8
        """
        if self._closed:
            raise Unavailable(SERVICE, "the store is closed")
        if self._problem is not None:
            raise Unavailable(SERVICE, self._problem, self._delay)
        lane = self._urgent if urgent else self._patient
        if len(lane) >= LANE_SIZE:
            raise Unavailable(SERVICE, "too many calls wait", 1.0)
        call = _Call.of((operation, collection, *arguments), body, limit or self._limit, int(urgent))
        lane.append(call)
        self._pump()
        return await call.answer(self._thread)

    async def close(self) -> None:
        """Let the waiting calls finish, then have the child make everything durable and end."""
        self._closed = True
        last = _Call.of(("ping", ""), b"", CLOSE_SECONDS)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._serving:
                    self._patient.append(last)
                    self._pump()
                    with suppress(Unavailable):
                        await last.answer(self._thread)
                if self._link is not None:
                    self._link.transport.close()
                if self._process is not None:
                    await self._process.wait()
        except TimeoutError:
            log.warning("edge.close_timed_out")
        finally:
            if self._revival is not None:
                self._revival.cancel()
                await asyncio.wait([self._revival])
            self._fail_waiting("the store is closed")
            await self._reap()

    async def _spawn(self) -> _Link:
        ours, theirs = socket.socketpair()
        with ExitStack() as on_failure:
            on_failure.enter_context(ours)
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "state.stores.edge_child"),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(self._lock,),
                    cwd=ROOT,
                    start_new_session=True,
                )
            connect = asyncio.get_running_loop().create_unix_connection
            _, link = await connect(lambda: _Link(self._received, self._lost), sock=ours)
            on_failure.pop_all()
        return link

    async def _exchange(self, *head: object) -> None:
        """Ask the child ahead of all others, while it starts."""
        call = _Call.of(head, b"", OPEN_SECONDS)
        self._send(call)
        await call.answer(self._thread)

    def _pump(self) -> None:
        """Send the next call if the child is free, or about to be: an urgent one may lie ready for it."""
        while self._serving and len(self._sent) < 2 and (call := self._next(bool(self._sent))):
            self._send(call)

    def _next(self, only_urgent: bool) -> _Call | None:
        while self._urgent or self._patient:
            patience_over = self._patient and self._urgent_in_a_row >= URGENT_IN_A_ROW
            urgent = bool(self._urgent) and not patience_over
            if only_urgent and not urgent:
                return None
            call = (self._urgent if urgent else self._patient).popleft()
            if not call.reply.done():
                self._urgent_in_a_row = self._urgent_in_a_row + 1 if urgent else 0
                return call
        return None

    def _send(self, call: _Call) -> None:
        assert self._link is not None
        self._sent.append(call)
        if self._link.transport.is_closing():
            self._lost(self._link)
            return
        self._link.transport.write(call.frame)
        if len(self._sent) == 1:
            self._watch()

    def _watch(self) -> None:
        """Give the call the child is at its time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sent:
            self._timer = asyncio.get_running_loop().call_later(
                OPEN_SECONDS if self._opening else self._sent[0].limit, self._stuck
            )

    def _received(self, frame: bytearray) -> None:
        """Hand the answer over, but keep the child busy first."""
        self._opening = frame == BEGINS_ANEW
        if self._opening:
            self._watch()
            return
        call = self._sent.popleft()
        self._watch()
        self._pump()
        if not call.reply.done():
            call.reply.set_result(frame)

    def _stuck(self) -> None:
        assert self._link is not None
        call = self._sent[0]
        log.error("edge.stuck after %s s", call.limit)
        call.fail(f"no answer within {call.limit:g} s")
        self._link.transport.abort()

    def _lost(self, link: _Link) -> None:
        """The child died, or is about to be killed: settle what was sent, start another child."""
        if link is not self._link:
            return
        sent, self._sent = self._sent, deque()
        self._opening = False
        self._watch()
        for call in reversed(sent):
            if call.retries and not call.reply.done():
                call.retries -= 1
                self._urgent.appendleft(call)
            else:
                call.fail("its process ended")
        if self._closed:
            self._fail_waiting("its process ended")
        elif self._serving:
            self._revival = asyncio.get_running_loop().create_task(self._revive())
        self._serving = False

    async def _revive(self) -> None:
        """Start a child again, the longer apart the sooner the last ones died."""
        lived = asyncio.get_running_loop().time() - self._started
        delay = 0.0 if lived > STEADY_SECONDS else self._delay
        while True:
            self._delay = min(max(2 * delay, FIRST_DELAY), LONGEST_DELAY)
            await asyncio.sleep(delay)
            try:
                await self.start()
            except Unavailable as error:
                self._problem = error.problem
                self._fail_waiting(error.problem)
                delay = self._delay
            else:
                log.warning("edge.restarted after it lived %.1f s", lived)
                return

    def _fail_waiting(self, problem: str) -> None:
        for calls in (self._sent, self._urgent, self._patient):
            while calls:
                calls.popleft().fail(problem, self._delay)
        self._watch()

    async def _reap(self) -> None:
        """Make sure that the last child is gone."""
        if self._link is not None:
            self._link.transport.abort()
            self._link = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._process.wait()
