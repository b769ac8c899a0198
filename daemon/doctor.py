"""The doctor: looks at everything the daemon needs, and says what to do about what is amiss.

Nothing is changed, and no lock is taken: a daemon that runs is asked how it fares; where none does, the
services are asked as it would ask them (`daemon.visits`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import aiohttp

from daemon import __version__
from daemon.client import Daemon, running_daemon
from daemon.finding import Finding, amiss, collected, good, note
from daemon.settings import Settings
from daemon.visits import visit_encoder, visit_qdrant, visit_source
from daemon.wiring import state_directory
from state.errors import Misconfigured
from state.stores.edge import free_space_floor

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)

GIB = 2**30

OTHERS_BITS = 0o077
"""What anybody but the owner may do with a directory."""


async def examine(
    read: Callable[[], Settings],
    clash: str | None = None,
    now: Callable[[], float] = time.time,
) -> list[Finding]:
    """Look at everything.

    :param read: reads the settings
    :param clash: what keeps this very package from being the one that runs
    :param now: seconds since the epoch
    """
    findings = [*_versions(clash)]
    try:
        settings = read()
        directory = state_directory(settings)
    except Misconfigured as problem:
        advice = f"set {problem.setting} as docs/settings.md says"
        return [*findings, amiss("settings", problem, advice)]
    findings.append(good("settings", f"all can be read; the state lies in {directory}"))
    findings += _extras(settings)
    findings += await asyncio.to_thread(lambda: [*_state(directory), *_disk(directory)])
    async with running_daemon(settings) as reached:
        if reached:
            return findings + await collected(
                "daemon", "give this command the daemon's own AUTH_TOKEN", _ask(reached)
            )
    findings.append(note("daemon", "none runs on this state", "`embedsync run`, or start the service"))
    visits = {
        "source": ("see that it runs, and can be reached from here", visit_source(settings, now)),
        "encoder": ("docs/encoders.md says what each encoder needs", visit_encoder(settings, directory)),
    }
    if settings.qdrant_host:
        visit = visit_qdrant(settings.qdrant_host, settings.qdrant_api_key)
        visits["qdrant"] = ("see that it runs, and that QDRANT_HOST is its address", visit)
    for check, (advice, visit) in visits.items():
        findings += await collected(check, advice, visit)
    return findings


def _versions(clash: str | None) -> Iterator[Finding]:
    python = sys.version_info[:2]
    running = f"embedsync {__version__} on Python {'.'.join(map(str, sys.version_info[:3]))}"
    if OLDEST_PYTHON <= python <= NEWEST_PYTHON:
        yield good("version", running)
    else:
        yield amiss("version", running, "use Python 3.11, 3.12 or 3.13")
    if clash:
        yield amiss("package", clash, "uninstall it, or give embedsync an environment of its own")


def _extras(settings: Settings) -> Iterator[Finding]:
    """See whether the libraries are there that the settings ask for; nothing is imported."""
    places = settings.clip_places()
    schemes = {place.scheme for place in places} if isinstance(places, tuple) else set()
    wanted = {
        "platform": ("supervisely", settings.on_platform),
        "clip": ("grpc", bool(schemes & {"grpc", "grpcs"})),
        "onnx": ("fastembed", settings.encoder == "onnx"),
        "qdrant": ("qdrant_client", settings.qdrant_host is not None),
    }
    needed = {extra: module for extra, (module, needs) in wanted.items() if needs}
    missing = [extra for extra, module in needed.items() if find_spec(module) is None]
    for extra in missing:
        yield amiss("extras", f"`{extra}` is not installed", f'pip install "embedsync[{extra}]"')
    if needed and not missing:
        yield good("extras", f"installed: {', '.join(needed)}")


def _state(directory: Path) -> Iterator[Finding]:
    """See whether the state may be written, by nobody else."""
    place = _nearest(directory)
    if not os.access(place, os.W_OK | os.X_OK):
        advice = f"make it writable for user {os.getuid()}, or set STATE_DIR"
        yield amiss("state", f"{place} cannot be written to", advice)
        return
    if place == directory and place.stat().st_mode & OTHERS_BITS:
        yield note("state", f"{place} is open to other users", f"chmod 700 {place}")
        return
    there = "" if place == directory else "; it will be made at the first start"
    yield good("state", f"{directory} may be written{there}")


def _disk(directory: Path) -> Iterator[Finding]:
    """Compare what is free with what must stay free for the embedded store to write."""
    usage = shutil.disk_usage(_nearest(directory))
    floor = free_space_floor(usage.total)
    found = f"{usage.free / GIB:.1f} GiB are free, {floor / GIB:.1f} GiB must stay so"
    if usage.free < floor:
        yield amiss("disk", found, "free some: until then searches go on and nothing is written")
    elif usage.free < 2 * floor:
        yield note("disk", found, "free some soon, or move STATE_DIR")
    else:
        yield good("disk", found)


def _nearest(directory: Path) -> Path:
    """Return the directory, or what is there of the way to it."""
    return next(one for one in (directory, *directory.parents) if one.exists())


async def _ask(reached: Daemon) -> AsyncIterator[Finding]:
    """Ask the daemon that runs how it fares."""
    yield good("daemon", f"runs at {reached.url}")
    for name, verdict in (await _health(reached)).items():
        if verdict == "healthy":
            yield good(name, "the daemon finds it well")
        else:
            yield amiss(name, verdict, "the daemon tries again by itself; see its log, and the service")
    for place in (await reached.ask("GET", "/encoders"))["addresses"]:
        if place["problem"]:
            yield amiss("encoder", f"{place['name']}: {place['problem']}", "see docs/encoders.md")
        else:
            yield good("encoder", f"{place['name']} is {place['encoder_id']}: its canaries are known")
    projects = (await reached.ask("GET", "/status"))["projects"]
    fresh, stale = (sum(one[what] for one in projects) for what in ("fresh", "stale"))
    yield good("projects", f"{len(projects)}, with {fresh} images fresh and {stale} stale")
    for one in projects:
        if one["waiting_for"]:
            advice = "it is tried again by itself; mend what it waits for"
            yield amiss("projects", f"{one['name']} waits: {one['waiting_for']}", advice)
        if one["held_removals"]:
            yield note(
                "projects",
                f"{one['name']}: {one['held_removals']} removals are held",
                f'POST /removals/confirm or /removals/cancel, {{"project_id": {one["project_id"]}}}',
            )
    if quarantined := sum(one["quarantined"] for one in projects):
        yield note("projects", f"{quarantined} pictures cannot be read", "`embedsync quarantine list`")


async def _health(reached: Daemon) -> dict[str, str]:
    """Return the checks of ``/health``, which answers with an error status when one fails."""
    try:
        async with reached.session.get(f"{reached.url}/health") as response:
            checks: dict[str, str] = (await response.json())["checks"]
            return checks
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
        return {"health": f"unhealthy: {type(error).__name__}"}
