"""``embedsync adopt``: what it says, and with what code it ends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adoption_world import Model, World
from qdrant_emulator import QdrantEmulator
from rich.console import Console
from typer.testing import CliRunner, Result

from daemon import transfer_commands, wiring
from daemon.adopting import _only
from state.errors import Occupied, Rejected
from state.model import Project
from state.stores.qdrant_incumbent import QdrantIncumbent

IDS = range(1, 41)


@dataclass
class Command:
    """The command, on a project of forty images that the model `seed` made vectors of."""

    directory: Path
    seed: int = 0
    occupied: bool = False
    ids: range = IDS
    world: World | None = None

    def __call__(self, *words: str) -> Result:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        told = {
            "IMAGES_DIR": str(self.directory),
            "QDRANT_HOST": f"http://127.0.0.1:{port}",
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wiring, "wired", lambda _: self._place(port))
            patch.setattr(transfer_commands, "out", Console(width=200))
            return CliRunner().invoke(transfer_commands.app, ["adopt", *words], env=told)

    @asynccontextmanager
    async def _place(self, port: int) -> AsyncIterator[Any]:
        if self.occupied:
            raise Occupied("the state is held by process 1")
        (self.directory / "qdrant").mkdir(exist_ok=True)
        async with QdrantEmulator(self.directory / "qdrant", port) as qdrant:
            incumbent = await QdrantIncumbent.open(qdrant.url)
            with ThreadPoolExecutor(1) as threads:
                self.world = world = World(qdrant, incumbent, threads, 32)
                await world.open()
                world.source.add(IDS)
                if self.ids:
                    world.leave(self.ids, Model(self.seed).of(self.ids))
                yield SimpleNamespace(
                    source=world.source,
                    store=world.store,
                    encoder=world.model,
                    epochs=world.epochs,
                    roots={"forever": lambda: asyncio.sleep(3600)},
                )
            await incumbent.close()

    @property
    def stored(self) -> dict[int, Any]:
        assert self.world
        return asyncio.run(self.world.stored())


@pytest.fixture
def adopt(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_it_reports_in_a_table_what_it_adopted(adopt: Command) -> None:
    done = adopt()
    assert done.exit_code == 0, done.output
    assert "seven (7)" in done.output
    assert "20, at 0.99" in done.output or "20, at 1.00" in done.output
    assert adopt.stored.keys() == set(IDS)


def test_a_project_goes_by_its_name_too(adopt: Command) -> None:
    done = adopt("--json", "--project", "seven")
    assert [report["project_id"] for report in json.loads(done.stdout)] == [7]


def test_of_two_projects_of_one_name_none_is_guessed() -> None:
    followed = [Project(7, "seven"), Project(8, "seven"), Project(9, "7")]
    with pytest.raises(Rejected, match=r"2 projects are called seven.* 7, 8"):
        _only("seven", followed)
    assert _only("7", followed).id == 7


def test_it_reports_as_json_and_nothing_else(adopt: Command) -> None:
    done = adopt("--json", "--project", "7")
    (report,) = json.loads(done.stdout)
    assert (report["project_id"], report["adopted"], report["compared"]) == (7, 40, 20)
    assert (report["refused"], report["left"]) == (None, {})


def test_a_dry_run_says_what_it_would_do(adopt: Command) -> None:
    done = adopt("--dry-run")
    assert done.exit_code == 0
    assert "would be adopted" in done.output
    assert adopt.stored == {}


def test_a_refused_collection_ends_it_with_1(adopt: Command) -> None:
    adopt.seed = 1
    done = adopt("--json")
    assert done.exit_code == 1
    assert "another model" in json.loads(done.stdout)[0]["refused"]
    assert adopt.stored == {}


def test_where_there_is_nothing_to_adopt_it_says_so(adopt: Command) -> None:
    adopt.ids = range(0)
    done = adopt()
    assert done.exit_code == 0
    assert "No project that is followed has a collection there." in done.output


def test_a_project_that_is_not_followed_is_said_so(adopt: Command) -> None:
    failed = adopt("--project", "8")
    assert failed.exit_code == 1
    assert "project 8 is not followed" in failed.output


def test_beside_a_daemon_it_says_to_stop_that_first(adopt: Command) -> None:
    adopt.occupied = True
    failed = adopt()
    assert failed.exit_code == 75
    assert "stop the daemon first" in failed.output
