"""The same deaths where the vectors are on a Qdrant server, which lives on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from counting_daemon import IN_FLIGHT
from death_story import check_whole, die_again_and_again
from deaths import MOMENTS
from nursery import ForkedDaemon, Nursery
from qdrant_process import qdrant_server

pytestmark = pytest.mark.skipif(find_spec("qdrant_client") is None, reason="comes with the extra `qdrant`")

log = logging.getLogger(__name__)


@pytest.fixture
def beside_a_server(tmp_path: Path, diary: Path) -> Iterator[ForkedDaemon]:
    """A daemon that keeps a diary, over a server; importing its client takes seconds, once for all lives."""
    nursery = Nursery("state.stores.qdrant")
    with qdrant_server() as url:
        daemon = ForkedDaemon(nursery, tmp_path, DIARY=str(diary), QDRANT_HOST=url)
        yield daemon
        daemon.close()
    nursery.close()


@pytest.mark.parametrize("kills", [pytest.param(40, marks=pytest.mark.nightly)])
def test_what_a_server_acknowledged_is_neither_lost_nor_encoded_again(
    beside_a_server: ForkedDaemon, diary: Path, kills: int
) -> None:
    account, folder = die_again_and_again(beside_a_server, diary, kills, 11, MOMENTS)
    log.info("%s", account.figures())
    assert account.missed < kills / 2
    assert account.lost == []
    assert account.beyond(IN_FLIGHT) == {}
    check_whole(beside_a_server, folder)
