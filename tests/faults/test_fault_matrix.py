"""Every fault on every service of the whole running daemon: what is promised holds, whatever goes wrong."""

from __future__ import annotations

import asyncio
from io import StringIO

import pytest
from fault_promises import broken, under_fault
from fault_rows import ANSWERED_IN_ITS_STEAD, Row, rows, stubborn
from fault_truth import SAME, true_vector
from fault_world import FaultWorld

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

AWAY_SECONDS = 1.5
SELDOM = 25
"""Requests a second, of all parts of the daemon together, whose longest pauses are below a second here."""


@pytest.mark.parametrize("row", rows())
async def test_whatever_goes_wrong_the_promises_hold_and_all_is_well_soon_after(
    running: FaultWorld, written: StringIO, row: Row
) -> None:
    seen = await under_fault(running, row, written)
    assert list(broken(seen, row)) == []
    await running.until(lambda: not running.truth.differences(), "the store like the source")
    heard = row.name not in ANSWERED_IN_ITS_STEAD
    await running.until(lambda: not running.truth.wrongly_shown(problems=heard), "the flags like the store")
    assert running.truth.untrue() == set()
    assert not running.broken.done(), running.broken.exception()
    assert [one for one in running.secrets if one in written.getvalue()] == []


@pytest.mark.parametrize("row", stubborn())
async def test_a_service_that_stays_away_is_left_alone(running: FaultWorld, row: Row) -> None:
    await running.strike(row.service, row.fault)
    running.change()
    await asyncio.sleep(AWAY_SECONDS)
    before = running.proxies[row.service].requests
    await asyncio.sleep(AWAY_SECONDS)
    assert running.proxies[row.service].requests - before < SELDOM * AWAY_SECONDS


def test_two_pictures_are_told_apart_by_their_vectors() -> None:
    pairs = [true_vector(seed) @ true_vector(seed + 1) for seed in range(20)]
    assert max(pairs) < SAME
