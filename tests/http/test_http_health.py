from __future__ import annotations

import asyncio

import pytest
from http_fakes import CATS, status_of
from http_world import Client, Opener, World

from handlers.metrics import MAX_PROJECT_SERIES, Metrics
from handlers.parts import Limits
from state.errors import Unavailable
from state.model import Project


@pytest.mark.parametrize(
    ("sick", "status", "code"),
    [
        ({}, "healthy", 200),
        ({"clip": "unhealthy: away"}, "degraded", 503),
        ({"qdrant": "unhealthy: away", "source": "unhealthy: away"}, "degraded", 503),
        ({"scheduler": "unhealthy: dead"}, "unhealthy", 500),
    ],
)
async def test_health_says_which_part_is_away(
    client: Client, world: World, sick: dict, status: str, code: int
) -> None:
    world.syncs.checks |= sick
    answer = await client.get("/health")
    assert (client.status, answer["status"]) == (code, status)
    assert answer["checks"] == world.syncs.checks
    assert answer["timestamp"].endswith("Z")


async def test_health_tells_no_addresses(client: Client, world: World) -> None:
    secret = "unhealthy: GET https://10.0.0.7:8080/net/token failed, 10.0.0.7:6333 refused, see /srv/state"
    world.syncs.checks["clip"] = secret
    told = (await client.get("/health"))["checks"]["clip"]
    assert told == "unhealthy: GET … failed, … refused, see …"


async def test_a_daemon_that_cannot_say_how_it_is_is_unhealthy(client: Client, world: World) -> None:
    world.syncs.failure = Unavailable("generator", "gone")
    answer = await client.get("/health")
    assert (client.status, answer["status"]) == (500, "unhealthy")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/livez"), ("GET", "/is_alive"), ("GET", "/is_running"), ("POST", "/is_running")],
)
async def test_the_process_says_it_runs(client: Client, method: str, path: str) -> None:
    response = await client.http.request(method, path, data=b"{not read" if method == "POST" else None)
    assert (response.status, await response.json()) == (200, {"running": True, "mode": "production"})


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/readyz"), ("GET", "/is_ready"), ("POST", "/is_ready")]
)
async def test_ready_is_when_the_store_answers(client: Client, world: World, method: str, path: str) -> None:
    response = await client.http.request(method, path)
    assert (response.status, await response.json()) == (200, {"status": "ready"})
    world.store.failure = Unavailable("qdrant", "gone")
    response = await client.http.request(method, path)
    assert response.status == 503
    assert (await response.json())["detail"] == "Service not ready"


async def test_probes_answer_while_every_place_is_taken(opened: Opener, world: World) -> None:
    world.syncs.hang = True
    client = await opened(limits=Limits(concurrent_requests=1, request_seconds=0.5))
    body = {"project_id": CATS, "return_vectors": True}
    waiting = asyncio.create_task(client.http.post("/embeddings", json=body))
    await asyncio.sleep(0.1)
    await client.post("/search", {"project_id": CATS, "prompt": "red"})
    assert (client.status, client.headers["Retry-After"]) == (429, "1")
    await client.get("/livez")
    assert client.status == 200
    assert (await waiting).status == 503
    await client.post("/search", {"project_id": CATS, "prompt": "red"})
    assert client.status == 200


async def test_metrics_have_the_names_that_dashboards_rely_on(opened: Opener, world: World) -> None:
    metrics = Metrics()
    client = await opened(metrics=metrics)
    world.syncs.statuses = [status_of(Project(CATS, "cats"))]
    metrics.images_encoded.inc(32)
    metrics.encoder_batches.labels("ok").inc()
    metrics.circuit_open.labels("clip").set(1)
    await client.get("/livez")
    await client.get("/nowhere")
    text = await client.get("/metrics")
    for line in (
        "embedsync_images_encoded_total 32.0",
        "embedsync_images_reused_total 0.0",
        "embedsync_images_retagged_total 0.0",
        "embedsync_images_removed_total 0.0",
        "embedsync_images_quarantined 2.0",
        'embedsync_images_stale{project_id="1"} 1.0',
        'embedsync_oldest_stale_seconds{project_id="1"} 12.5',
        "embedsync_images_indexed 4.0",
        'embedsync_encoder_batches_total{outcome="ok"} 1.0',
        "embedsync_encoder_busy_ratio 0.0",
        "embedsync_queue_depth 0.0",
        "embedsync_sync_seconds_count 0.0",
        'embedsync_request_seconds_count{route="/livez",status="200"} 1.0',
        'embedsync_request_seconds_count{route="unmatched",status="404"} 1.0',
        'embedsync_circuit_open{service="clip"} 1.0',
        "embedsync_removals_held 3.0",
    ):
        assert f"\n{line}\n" in text


async def test_metrics_answer_when_the_daemon_cannot(client: Client, world: World) -> None:
    world.syncs.failure = Unavailable("generator", "gone")
    assert "embedsync_images_encoded_total" in await client.get("/metrics")
    assert client.status == 200


def test_no_more_than_a_thousand_projects_have_their_own_series() -> None:
    statuses = [
        status_of(Project(i, str(i)), stale=i, oldest_stale_seconds=float(i))
        for i in range(1, MAX_PROJECT_SERIES + 11)
    ]
    lines = Metrics().exposition(statuses).decode().splitlines()
    stale = [line for line in lines if line.startswith("embedsync_images_stale{")]
    assert len(stale) == MAX_PROJECT_SERIES
    assert f'embedsync_images_stale{{project_id="other"}} {sum(range(1, 12)):.1f}' in stale
    assert 'embedsync_oldest_stale_seconds{project_id="other"} 11.0' in lines


def test_a_project_that_is_gone_leaves_the_metrics() -> None:
    metrics = Metrics()
    metrics.exposition([status_of(Project(CATS, "cats"))])
    assert b'project_id="1"' not in metrics.exposition([])
