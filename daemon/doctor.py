"""The doctor: looks at everything the daemon needs, and says what to do about what is amiss.

Nothing is changed: a daemon that runs is asked how it fares; where none does, the services are asked as it
would ask them (`daemon.visits`).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path

import aiohttp

from daemon import __version__
from daemon.client import Daemon, running_daemon
from daemon.directory import prefix, state_directory, unwritable
from daemon.finding import Finding, amiss, collected, good, note
from daemon.settings import Settings
from daemon.visits import visit_encoder, visit_qdrant, visit_source
from state.errors import Misconfigured
from state.stores.edge import free_space_floor
from state.stores.edge_catalogue import SCHEMA

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
    held_by = await asyncio.to_thread(holder, settings, directory)
    async with running_daemon(settings) as reached:
        # Where nobody holds the state, a copied or an old address file led to the daemon of another.
        if reached and held_by:
            return findings + await collected(
                "daemon", "give this command the daemon's own AUTH_TOKEN", _ask(reached)
            )
    if held_by:
        advice = "it may be starting, or another command; see its log, and end it if this stays so"
        findings.append(amiss("daemon", f"process {held_by} holds the state and does not answer", advice))
    else:
        findings.append(note("daemon", "none runs on this state", "`embedsync run`, or start the service"))
        findings.append(await asyncio.to_thread(_port, settings.host, settings.port))
    if newer := await asyncio.to_thread(_newer, directory / "vectors" / f"{prefix(settings)}_catalogue"):
        return [*findings, newer]
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
        yield amiss(
            "extras", f"`{extra}` is not installed", "install requirements/all.lock, which has all of them"
        )
    if needed and not missing:
        yield good("extras", f"installed: {', '.join(needed)}")


def holder(settings: Settings, directory: Path) -> str | None:
    """Return the number of the process that holds the state; ``None`` where none does.

    The lock is shared for an instant: a daemon that starts at that very moment is started once more.
    """
    embedded = directory / "vectors" / f"{prefix(settings)}_lock"
    lock = directory / "lock" if settings.qdrant_host else embedded
    with suppress(OSError), lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read() or "unknown"
    return None


def _port(host: str, port: int) -> Finding:
    """See whether the daemon could listen."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = (
            "`ss -ltnp` says by whom; set PORT" if taken else "set HOST and PORT to what this user may take"
        )
        return amiss("port", f"{host}:{port}: {error.strerror}", advice)
    return good("port", f"{host}:{port} is free")


def _state(directory: Path) -> Iterator[Finding]:
    """See whether the state may be written, all of it, by this user and by nobody else."""
    user, place = os.getuid(), _nearest(directory)
    there = place in (directory, directory.parent)
    owner = place.stat().st_uid
    if not os.access(place, os.W_OK | os.X_OK):
        make = f"make {directory.parent} for user {user}, or set STATE_DIR"
        whose = f"run this as user {owner}, whose it is, or chown it to user {user}, or set STATE_DIR"
        yield amiss("state", f"{place} cannot be written to by user {user}", whose if there else make)
        return
    if there and owner != user:
        found = f"{place} is of user {owner}, and this is user {user}"
        yield note("state", found, f"run this, and the daemon, as user {owner} alone")
    foreign = unwritable(directory)
    if foreign:
        advice = f"chown -R {user} {directory}, and chmod -R u+rwX: a copy made by another user?"
        yield amiss("state", f"{foreign} cannot be written to by user {user}", advice)
    elif place == directory and place.stat().st_mode & OTHERS_BITS:
        yield note("state", f"{place} is open to other users", f"chmod 700 {place}")
    else:
        made = "" if place == directory else "; it will be made at the first start"
        yield good("state", f"{directory} may be written{made}")


def _newer(catalogue: Path) -> Finding | None:
    """Find a state that a newer version wrote."""
    try:
        with closing(sqlite3.connect(f"{catalogue.absolute().as_uri()}?mode=ro", uri=True)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error:
        return None
    if version <= SCHEMA:
        return None
    found = f"a newer version wrote {catalogue}: it has schema {version}, this one knows {SCHEMA}"
    return amiss("state", found, "go back to that version, or to a copy of the state from before the upgrade")


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
    """Return the directory, or what can be seen of the way to it."""
    for one in (directory, *directory.parents):
        with suppress(OSError):
            one.stat()
            return one
    return Path("/")


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
        if one["held_removals"]:
            found = f"{one['name']}: {one['held_removals']} removals are held"
            settle = f"--project {one['project_id']}"
            advice = f"`embedsync removals confirm {settle}` carries them out, `cancel` keeps the vectors"
            yield note("projects", found, advice)
        if one["waiting_for"] and (one["waiting_seconds"] is not None or not one["held_removals"]):
            advice = "it is tried again by itself; mend what it waits for"
            yield amiss("projects", f"{one['name']} waits: {one['waiting_for']}", advice)
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
