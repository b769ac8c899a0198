"""Whether the process lives, serves, and is well; asked often, by anyone, told nothing secret."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from aiohttp import web

from handlers.answers import json_bytes, reply
from handlers.parts import Call
from handlers.requests import NoFields
from state.errors import EmbedsyncError

ADDRESS = re.compile(r"\S+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|(?<![\w/])/[^\s'\")]+")
"""URLs, IP addresses and paths: what a vendor's error likes to quote."""

OUR_OWN = ("generator", "scheduler")
"""Checks whose failure is the daemon's own: a restart may help, waiting will not."""

MONITORED = frozenset({"source", "qdrant"})
"""Checks that are metrics too; ``clip`` says by itself whether it is left alone."""


async def health(call: Call, _: NoFields) -> web.Response:
    """Say which parts are well: 200, 503 when a service is away, 500 when we are broken."""
    try:
        async with asyncio.timeout(call.limits.probe_seconds):
            checks = await call.ports.syncs.health()
    except (TimeoutError, EmbedsyncError):
        checks = {"generator": "unhealthy: it does not say how it is"}
    status, code = _verdict(checks)
    return reply(
        {
            "status": status,
            "encoder": asdict(call.ports.syncs.at_work()),
            "checks": {name: ADDRESS.sub("…", verdict) for name, verdict in checks.items()},
            "timestamp": datetime.fromtimestamp(call.parts.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
        code,
    )


async def running(call: Call, _: NoFields) -> web.Response:
    """Say that the process runs."""
    return reply({"running": True, "mode": "production"})


async def ready(call: Call, _: NoFields) -> web.Response:
    """Say whether the store answers; neither an encoder nor a finished sync is needed."""
    try:
        async with asyncio.timeout(call.limits.probe_seconds):
            await call.ports.store.healthy()
    except (TimeoutError, EmbedsyncError):
        message = "Service not ready"
        return reply({"detail": message, "message": message}, 503, {"Retry-After": "1"})
    return reply({"status": "ready"})


async def metrics(call: Call, _: NoFields) -> web.Response:
    """Return the metrics; if the daemon cannot say where projects stand, as they last stood."""
    try:
        async with asyncio.timeout(call.limits.probe_seconds):
            statuses = await call.ports.syncs.status()
            checks = await call.ports.syncs.health()
    except (TimeoutError, EmbedsyncError):
        statuses, checks = None, {}
    for service in checks.keys() & MONITORED:
        call.parts.metrics.circuit_open.labels(service).set(checks[service] != "healthy")
    body = await call.parts.light.run(call.parts.metrics.exposition, statuses)
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def description(call: Call, _: NoFields) -> web.Response:
    """Return the description of this API, OpenAPI 3.1."""
    return json_bytes(await call.parts.light.run(call.parts.description))


def _verdict(checks: Mapping[str, str]) -> tuple[str, int]:
    sick = [name for name, verdict in checks.items() if verdict != "healthy"]
    if any(name in OUR_OWN for name in sick):
        return "unhealthy", 500
    return ("degraded", 503) if sick else ("healthy", 200)
