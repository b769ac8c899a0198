from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sync_machine import SyncMachine
from sync_source import FakeSource

import daemon.comparing
import daemon.sync
from daemon.removals import Proposal, Removals
from state.changes import diff
from state.errors import Inconsistent
from state.model import ImageRef, Scope

QUICK = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NIGHTLY = settings(QUICK, max_examples=5_000, stateful_step_count=50, derandomize=False)
UNTIL_IT_FAILS = settings(QUICK, max_examples=1_000, phases=[Phase.generate], report_multiple_bugs=False)


class Folder(SyncMachine):
    proves_absence = True


class Platform(SyncMachine):
    proves_absence = False


BOTH = pytest.mark.parametrize("machine", [Folder, Platform])


@BOTH
def test_any_interleaving_ends_with_the_store_equal_to_the_source(machine: type[SyncMachine]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.nightly
@BOTH
def test_many_more_interleavings_do_too(machine: type[SyncMachine]) -> None:
    run_state_machine_as_test(machine, settings=NIGHTLY)


class SkippingSource(FakeSource):
    """Leaves out the second page of every listing, and does not notice."""

    async def images(self, project_id: int, scope: Scope) -> AsyncIterator[list[ImageRef]]:
        number = 0
        async for page in super().images(project_id, scope):
            number += 1
            if number != 2:
                yield page


@BOTH
def test_a_source_that_skips_a_page_is_found_out(machine: type[SyncMachine]) -> None:
    class Skipping(machine):
        source_type = SkippingSource

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Skipping, settings=UNTIL_IT_FAILS)


async def _to_where_it_breaks(pages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for page in pages:
            yield page
    except Inconsistent:
        return


def _credulous_diff(wanted: AsyncIterator[Any], *others: Any) -> AsyncIterator[Any]:
    return diff(_to_where_it_breaks(wanted), *others)


async def _remove_unseen(removals: Removals, proposal: Proposal) -> None:
    doomed: Iterable[int] = proposal.image_ids
    await removals._store.remove(proposal.collections[0], proposal.project_id, list(doomed))


@BOTH
def test_a_removal_on_a_partial_listing_is_found_out(
    machine: type[SyncMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.comparing, "diff", _credulous_diff)
    monkeypatch.setattr(daemon.sync, "suspicious", lambda removals, stored: False)
    monkeypatch.setattr(Removals, "_carry_out", _remove_unseen)
    with pytest.raises(AssertionError, match="lost its vector though nobody touched it"):
        run_state_machine_as_test(machine, settings=UNTIL_IT_FAILS)


@BOTH
def test_the_second_look_alone_saves_what_a_partial_listing_lacks(
    machine: type[SyncMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.comparing, "diff", _credulous_diff)
    run_state_machine_as_test(machine, settings=QUICK)
