from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sync_machine import SyncMachine

QUICK = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NIGHTLY = settings(QUICK, max_examples=4_000, stateful_step_count=60, derandomize=False)


class Folder(SyncMachine):
    proves_absence = True


class Platform(SyncMachine):
    proves_absence = False


@pytest.mark.parametrize("machine", [Folder, Platform])
def test_any_interleaving_ends_with_the_store_equal_to_the_source(machine: type[SyncMachine]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.nightly
@pytest.mark.parametrize("machine", [Folder, Platform])
def test_many_more_interleavings_do_too(machine: type[SyncMachine]) -> None:
    run_state_machine_as_test(machine, settings=NIGHTLY)
