"""A service that fails now and then is at work; one that is gone is said to be at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from clip_emulator import ClipEmulator, Fault
from recognition_world import AWAY, Server, World, picture, project

from daemon.breaker import Breaker
from daemon.encoders.clip_http import HttpClip
from daemon.encoders.member import Member
from daemon.encoders.pool import Pool
from daemon.epochs import Epochs
from daemon.recognition import Recognition
from state.errors import Unavailable
from state.stores.memory import MemoryStore


@asynccontextmanager
async def watched(pool: Pool, recognition: Recognition) -> AsyncIterator[None]:
    """Have recognition go on by itself, as in the daemon."""
    pool.on_doubt = recognition.doubted
    running = asyncio.create_task(recognition.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def served(clip: ClipEmulator) -> AsyncIterator[Pool]:
    """A pool over one service that really listens, recognised."""
    encoder = HttpClip(clip.url)
    breaker = Breaker("clip", time.monotonic, lambda longest: longest)
    member = Member(encoder.name, encoder, breaker)
    pool = Pool("clip", 8, 224)

    async def find(_: object) -> list[Member]:
        return [member]

    recognition = Recognition(
        *(pool, MemoryStore(), Epochs(0), find, lambda: None, lambda: None, time.monotonic)
    )
    await recognition.round(everyone=True)
    try:
        async with watched(pool, recognition):
            yield pool
    finally:
        await pool.close()


async def test_hardly_any_text_fails_while_every_fourth_call_does() -> None:
    async with ClipEmulator(dimension=64) as clip, served(clip) as pool:
        for fault in (
            Fault("status", every=11),
            Fault("status", every=17, status=429, retry_after="1"),
            Fault("reset", every=19),
            Fault("truncated", every=13),
            Fault("html", every=23, status=502),
            Fault("nan", every=29),
        ):
            clip.faults.add(fault)

        async def some(name: int) -> int:
            failed = 0
            for number in range(15):
                try:
                    await pool.encode_texts([f"text {name} {number}"])
                except Unavailable:
                    failed += 1
            return failed

        assert sum(await asyncio.gather(*map(some, range(8)))) <= 2
        assert clip.requests > 150


async def test_a_service_that_is_gone_is_waited_for_three_seconds_and_then_not_at_all() -> None:
    async with ClipEmulator(dimension=64) as clip, served(clip) as pool:
        await clip.stop()
        waits = []
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                await pool.encode_texts(["a dog"])
            waits.append(time.monotonic() - started)
        assert waits[0] < 3.5
        assert max(waits[1:]) < 0.1
        await clip.start()


async def test_a_text_waits_until_the_only_one_who_can_read_it_is_let_in_again() -> None:
    world = World(Server(), patience=5)
    await world.round()
    async with watched(world.pool, world.recognition):
        world.servers[0].failures_left = 4
        answer = await world.pool.encode_texts(["a dog"])
    np.testing.assert_allclose(answer.vectors, project([[ord(c) / 100 for c in "a dog"]], 1), atol=1e-6)


async def test_where_there_is_another_nobody_waits() -> None:
    world = World(Server(), Server(), patience=60)
    await world.round()
    world.servers[0].problem = world.servers[1].problem = AWAY
    world.servers[1].problem = None
    async with asyncio.timeout(1):
        await world.pool.encode_texts(["a dog"])
        assert world.members[0].doubted_as == "clip-24-1"
        await world.pool.encode_texts(["a dog"])


async def test_a_call_that_always_fails_is_given_up_though_the_canaries_are_good() -> None:
    world = World(Server(), patience=5)
    await world.round()
    world.servers[0].fails_at_one = True
    async with watched(world.pool, world.recognition):
        with pytest.raises(Unavailable, match="no memory left"):
            await world.pool.encode_images([picture(1)])
    assert world.servers[0].batches < 20


@pytest.mark.parametrize("seed", [1, 2])
async def test_an_answer_that_was_under_way_at_a_failure_counts_if_the_canaries_are_good(seed: int) -> None:
    world = World(Server(), patience=5)
    await world.round()
    server, gate = world.servers[0], world.servers[0].gate
    gate.clear()
    late = asyncio.create_task(world.write(1))
    await asyncio.sleep(0)
    server.gate, server.seed = asyncio.Event(), seed
    server.gate.set()
    world.members[0].doubt(AWAY, texts=True)
    gate.set()
    async with watched(world.pool, world.recognition):
        world.recognition.doubted()
        await asyncio.wait([late])
    assert (late.exception() is None) == (seed == 1)
    assert await world.stored() == ([1] if seed == 1 else [])


async def test_canaries_that_were_asked_before_a_failure_let_nobody_in() -> None:
    world = World(Server())
    await world.round()
    server = world.servers[0]
    server.gate.clear()
    checking = asyncio.create_task(world.round(after=601))
    await asyncio.sleep(0.05)
    world.members[0].doubt(AWAY, texts=True)
    server.gate.set()
    await checking
    assert world.pool.at_work() == []
    await world.round()
    assert world.pool.at_work() == world.members
