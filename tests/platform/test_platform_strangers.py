"""Every route, asked by a caller who may read one project and nothing else.

Whatever is asked about a project that exists and is not theirs, or about its images, is answered to the
letter as if there were none, costs the platform the same questions, and moves nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import product
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from platform_app import DIMENSION, TinyEncoder, TinyMatrices, TinySource, TinySyncs, filled_store
from platform_emulator import Emulator, World
from platform_time import HandClock

from daemon.platform.callers import Callers
from daemon.platform.client import Client
from handlers.app import create_app
from handlers.auth import Access, Reach
from handlers.fields import Request
from handlers.parts import Ports
from handlers.requests import NoFields
from handlers.routes import ROUTES, Route
from state.model import AtWork, Matrix, Plan, TaskStatus, Within

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

NO_PROJECT, NO_IMAGE, NO_DATASET = 987_654, 987_655, 987_656
UNLIKE = {"x-request-id", "date"}
"""Headers in which any two answers differ."""

COLLECTION = re.compile(r'"collection_?[iI]d":\d+,?')
"""What was left on the platform: each answer's has a number of its own."""

HARMLESS = {"team_id", "encoder_id"}
"""Fields that name something, but are unused, or an operator's alone."""


@dataclass(frozen=True)
class Row:
    """What a route is told.

    :ivar project: the field that names the project
    :ivar needs_project: whether it has to
    :ivar ids: the fields that hold ids of what is in a project
    :ivar ways: what else may be asked for
    :ivar unseen: the status of a project that is not there
    """

    project: str | None = None
    needs_project: bool = True
    ids: tuple[str, ...] = ()
    ways: tuple[Mapping[str, object], ...] = field(default_factory=lambda: ({},))
    unseen: int = 404


OF_A_TASK = Row("project_id")
REMOVALS = Row("project_id", ids=("image_ids",))

TABLE = {
    ("POST", "/embeddings"): Row(
        "project_id",
        needs_project=False,
        ids=("image_ids",),
        ways=({}, {"force": True}, {"return_vectors": True}, {"dry_run": True}),
    ),
    ("POST", "/search"): Row(
        "project_id",
        ids=("by_image_ids", "image_ids", "restricted_image_ids", "negative_image_ids", "dataset_id"),
        ways=(
            {},
            {"prompt": "red"},
            {"prompt": "red", "scoring": "calibrated", "include_query": True},
            {"prompt": "red", "unique_content": True, "exact": True},
        ),
    ),
    ("POST", "/diverse"): Row(
        "project_id",
        ids=("image_ids", "selected_image_ids", "dataset_id"),
        ways=tuple({"sample_size": 3, "method": one} for one in ("representative", "coverage", "random")),
    ),
    ("POST", "/projections"): Row("project_id", ids=("image_ids",)),
    ("POST", "/clusters"): Row("project_id", ids=("image_ids",), ways=({"num_clusters": 2},)),
    ("POST", "/cancel_embeddings"): OF_A_TASK,
    ("POST", "/task_status"): OF_A_TASK,
    ("POST", "/processing_progress"): Row("project_id", needs_project=False),
    ("POST", "/embeddings_up_to_date"): Row("project_id", unseen=200),
    ("POST", "/projections_up_to_date"): Row("project_id", unseen=200),
    ("POST", "/check_background_task_status"): Row("task_id", unseen=200),
    ("POST", "/stop-embeddings-update/{project_id}"): OF_A_TASK,
    ("GET", "/status"): Row("project_id", needs_project=False, unseen=401),
    ("GET", "/encoders"): Row(),
    ("POST", "/encoders/use"): Row(),
    ("POST", "/events"): Row("project_ids", needs_project=False, ids=("image_ids",)),
    ("GET", "/quarantine"): Row("project_id", needs_project=False),
    ("POST", "/quarantine/retry"): Row("project_id", needs_project=False, ids=("image_ids",)),
    ("POST", "/removals/confirm"): REMOVALS,
    ("POST", "/removals/cancel"): REMOVALS,
    ("GET", "/metrics"): Row(),
    **dict.fromkeys(
        (
            ("GET", "/openapi.json"),
            ("GET", "/health"),
            ("GET", "/livez"),
            ("GET", "/is_alive"),
            *((method, path) for method in ("GET", "POST") for path in ("/is_running", "/is_ready")),
            ("GET", "/readyz"),
        ),
        Row(),
    ),
}


def ways(*chosen: tuple[str, str]) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    """Yield every way of asking these routes."""
    return ((*at, way) for at in chosen for way in TABLE[at].ways)


NAMING = [at for at, row in TABLE.items() if row.project]
HOLDING = [(at, name) for at, row in TABLE.items() for name in row.ids]
NEEDING_NONE = [at for at in NAMING if not TABLE[at].needs_project]
SPELLINGS = ("number", "digits", "name", "envelope", "camel")


class Source(TinySource):
    async def count(self, project_id: int) -> int:
        return len(self.world.image_ids(project_id))


class Matrices(TinyMatrices):
    async def matrix(self, collection: str, within: Within) -> Matrix:
        if await self.store.count(collection, within):
            return await super().matrix(collection, within)
        none = np.empty(0, np.int64)
        return Matrix(none, none, np.empty((0, DIMENSION), np.float32))


class Syncs(TinySyncs):
    def at_work(self) -> AtWork:
        return AtWork(TinyEncoder.id)

    async def wait(self, project_id: int) -> TaskStatus:
        return TaskStatus.COMPLETED

    async def plan(self, project_id: int, image_ids: Collection[int] | None, force: bool) -> Plan:
        return Plan(project_id)


@dataclass
class Asked:
    """The daemon, asked with anna's token."""

    http: TestClient[Any, Any]
    emulator: Emulator
    clock: HandClock
    syncs: Mock
    token: str

    async def ask(
        self, method: str, path: str, body: Mapping[str, object], *unlike: object
    ) -> tuple[int, str, Any, Any]:
        """Return everything that tells one answer from another, but for the values of `unlike`."""
        self.clock.advance(60)  # nothing is remembered from one question to the next, nor left behind
        self.emulator.world.collections.clear()
        self.emulator.counters.clear()
        response = await self.http.request(
            method, path, headers={"x-api-key": self.token}, **_sent(body, method)
        )
        headers = {name.lower(): value for name, value in response.headers.items()}
        text = COLLECTION.sub("", await response.text())
        for value in unlike:
            text = text.replace(str(value), "N")
        told = {name: value for name, value in headers.items() if name not in UNLIKE}
        told.pop("content-length", None)  # of numbers with more digits and fewer
        assert response.status < 500, text
        return response.status, text, told, dict(self.emulator.counters.callers)

    def moved(self, project_id: int) -> bool:
        """Tell whether the daemon's work was told of a project."""
        told = [call for call in self.syncs.mock_calls if call[0] not in ("progress", "at_work")]
        return any(project_id in call.args for call in told)


def _sent(body: Mapping[str, object], method: str) -> dict[str, Any]:
    return {"params": body} if method == "GET" else {"json": body}


@pytest.fixture
def hidden(world: World) -> int:
    """A project that exists, is embedded, and is not anna's."""
    return world.project("hidden", images=3)


@pytest.fixture
async def asked(
    client: Client, emulator: Emulator, world: World, project: int, hidden: int, clock: HandClock, anna: str
) -> AsyncIterator[Asked]:
    store = await filled_store(world, [project, hidden])
    syncs = Mock(wraps=Syncs([project, hidden]))
    platform = Callers(client, clock)
    ports = Ports(Source(world), store, Matrices(store), TinyEncoder(), syncs, platform)
    access = Access("the-operator's", (ip_network("192.0.2.0/24"),))
    async with TestClient(TestServer(create_app(ports, access=access))) as http:
        yield Asked(http, emulator, clock, syncs, anna)
    await platform.close()


def spelled(
    method: str, path: str, way: Mapping[str, object], ref: int | str, spelling: str
) -> tuple[str, dict[str, Any]]:
    """Return where to ask, and the fields that ask about the project."""
    name = TABLE[method, path].project
    assert name
    value: object = ref if spelling in ("number", "envelope", "camel", "name") else str(ref)
    fields = {**way, name: [value] if name.endswith("s") else value}
    if spelling == "camel":
        fields = {_camel(one): each for one, each in fields.items()}
    if spelling == "envelope" and method != "GET":
        fields = {"state": fields, "context": {}, "server_address": "http://192.0.2.1"}
    return path.replace("{project_id}", str(ref)), fields


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def test_every_route_has_its_row() -> None:
    assert {(route.method, route.path) for route in ROUTES} == set(TABLE)


def _named(model: type[Request]) -> set[str]:
    return {name for name in model.model_fields if name.endswith(("_id", "_ids"))} - HARMLESS


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_field_that_names_something_is_in_its_row(route: Route) -> None:
    row = TABLE[route.method, route.path]
    assert _named(route.takes) == {*row.ids, *([row.project] if row.project else [])}


def test_what_anyone_may_ask_has_no_fields() -> None:
    assert {route.takes for route in ROUTES if route.reach is Reach.ANYONE} == {NoFields}


@pytest.mark.parametrize("at", NAMING, ids=" ".join)
async def test_a_hidden_project_however_it_is_spelled_is_answered_as_none(
    asked: Asked, hidden: int, at: tuple[str, str]
) -> None:
    for (method, path, way), spelling in product(ways(at), SPELLINGS):
        answers = []
        for ref in ("hidden", "nought") if spelling == "name" else (hidden, NO_PROJECT):
            where, fields = spelled(method, path, way, ref, spelling)
            answers.append(await asked.ask(method, where, fields, ref))
        assert answers[0] == answers[1], (way, spelling)
        assert answers[0][0] == TABLE[at].unseen, (way, spelling)
    assert not asked.moved(hidden)


@pytest.mark.parametrize(("at", "name"), HOLDING, ids=lambda one: one if isinstance(one, str) else one[1])
async def test_ids_out_of_a_hidden_project_are_answered_as_ids_of_nothing(
    asked: Asked, world: World, project: int, hidden: int, at: tuple[str, str], name: str
) -> None:
    mine, theirs = world.image_ids(project)[:2], world.image_ids(hidden)[0]
    strangers = (theirs, NO_IMAGE)
    if name == "dataset_id":
        strangers = (world.images[theirs].dataset_id, NO_DATASET)
    for (method, path, way), among in product(ways(at), ([], mine)):
        answers = []
        for stranger in strangers:
            where, fields = spelled(method, path, way, project, "number")
            fields[name] = stranger if name == "dataset_id" else [*among, stranger]
            answers.append(await asked.ask(method, where, fields, stranger))
            for left in world.collections.values():
                assert not set(left.items) & set(world.image_ids(hidden)), way
        assert answers[0] == answers[1], (way, among)
    assert not asked.moved(hidden)


@pytest.mark.parametrize("at", NEEDING_NONE, ids=" ".join)
async def test_where_no_project_is_named_ids_lead_to_none_that_is_hidden(
    asked: Asked, world: World, hidden: int, at: tuple[str, str]
) -> None:
    for method, path, way in ways(at):
        answers = []
        for image_id in (world.image_ids(hidden)[0], NO_IMAGE):
            ids = {name: [image_id] for name in TABLE[at].ids}
            answers.append(await asked.ask(method, path, {**way, **ids}, image_id))
        assert answers[0] == answers[1], way
    assert not asked.moved(hidden)


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.reach is Reach.OPERATORS], ids=lambda route: route.path
)
async def test_what_is_the_operators_a_user_is_refused_before_anything_is_read(
    asked: Asked, project: int, hidden: int, route: Route
) -> None:
    bodies = ({}, {"project_id": project}, {"project_id": hidden}, {"project_id": -1}, {"encoder_id": "x"})
    answers = [await asked.ask(route.method, route.path, body) for body in bodies]
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)
    assert not asked.syncs.mock_calls


async def test_a_project_of_ones_own_is_answered_otherwise_than_none(asked: Asked, project: int) -> None:
    """Else the comparisons above would compare nothing."""
    for method, path, way in ways(*NAMING):
        answers = []
        for ref in (project, NO_PROJECT):
            where, fields = spelled(method, path, way, ref, "number")
            answers.append(await asked.ask(method, where, fields, ref))
        assert (answers[0] != answers[1]) == (path != "/status"), path
