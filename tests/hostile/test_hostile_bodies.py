"""Good requests gone wrong: none is answered by a 5xx, and each comes to an end."""

from __future__ import annotations

import asyncio

import pytest
from hostile_daemon import Hostile
from hostile_requests import Attack, attacks
from hypothesis import HealthCheck, Phase, given, settings

PER_RUN, PER_NIGHT, TIMES = 150, 500, 10
"""Requests, with authentication on and as many with it off; a night has ten times its number."""

QUICK = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),
}


async def _answered(daemon: Hostile, attack: Attack) -> None:
    # Off the loop: to write down and compress megabytes would hold up the daemon, which is in this process.
    raw = await asyncio.to_thread(attack.raw, daemon)
    status = await daemon.status_of(raw, hang_up=attack.framing.hang_up)
    assert status is None or status < 500, status
    assert status is not None or not attack.well_framed
    assert not daemon.failed


@settings(max_examples=PER_RUN, derandomize=True, **QUICK)
@given(attack=attacks())
async def test_no_request_is_answered_by_a_5xx(daemon: Hostile, attack: Attack) -> None:
    await _answered(daemon, attack)


@pytest.mark.nightly
@pytest.mark.parametrize("time", range(TIMES))
@settings(max_examples=PER_NIGHT, **QUICK)
@given(attack=attacks())
async def test_no_request_of_ten_thousand_is_answered_by_a_5xx(
    daemon: Hostile, time: int, attack: Attack
) -> None:
    await _answered(daemon, attack)
