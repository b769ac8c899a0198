"""Twenty thousand vectors, made as the earlier service makes them."""

from __future__ import annotations

import asyncio

import pytest
from adoption_world import Model, World

IDS = range(1, 20_001)


@pytest.fixture(params=[32, pytest.param(512, marks=pytest.mark.nightly)])
def dimension(request: pytest.FixtureRequest) -> int:
    return request.param


async def leave_all(world: World, model: Model) -> None:
    """Leave a vector of every image, with a breath between the pieces."""
    world.source.add(IDS)
    for start in range(0, len(IDS), 500):
        some = IDS[start : start + 500]
        world.leave(some, model.of(some))
        await asyncio.sleep(0)


@pytest.mark.parametrize("by", ["rest", pytest.param("grpc", marks=pytest.mark.nightly)])
async def test_twenty_thousand_vectors_cost_twenty_encodings(world: World, by: str) -> None:
    await leave_all(world, world.model)
    report = await world.adopt()
    assert (report.adopted, report.refused, report.left) == (20_000, None, {})
    assert world.model.encoded == 20
    assert sum(world.source.fetched.values()) == 20


@pytest.mark.nightly
async def test_twenty_thousand_vectors_of_another_model_are_all_refused(world: World, dimension: int) -> None:
    await leave_all(world, Model(seed=1, dimension=dimension))
    report = await world.adopt()
    assert (report.adopted, report.compared) == (0, 20)
    assert report.refused
