"""Visits to the services the settings name, as the daemon would make them, for when no daemon runs."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import aiohttp

from daemon.directory import prefix
from daemon.encoders import canary, models
from daemon.encoders.addresses import Address
from daemon.encoders.opening import connect, kind_of
from daemon.encoders.soundness import SERVICE
from daemon.finding import Finding, amiss, collected, good, note
from daemon.settings import Settings
from daemon.sources import platform_client
from state.errors import Denied, Misconfigured, Rejected, Unavailable
from state.model import EncoderRecord
from state.stores.edge_catalogue import Catalogue

if TYPE_CHECKING:
    from daemon.platform.client import Client

PATIENCE = aiohttp.ClientTimeout(total=10)
"""How long a service may take to answer whether it is there."""

CANARY_SECONDS = 60.0
"""How long CLIP may take for the canaries: it may load its model first."""

CLIP_ADVICE = "see that it runs and can be reached from here, and that CLIP_AUTH_TOKEN is the one it wants"

NOTABLE_SKEW = 2.0
"""Seconds that two clocks may differ without being mentioned: a ``Date`` header knows no fractions."""


async def visit_source(settings: Settings, now: Callable[[], float]) -> AsyncIterator[Finding]:
    """See whether the pictures can be had.

    :raises Unavailable, Misconfigured: when the platform cannot be asked
    """
    if not settings.on_platform:
        assert settings.images_dir is not None
        for finding in await asyncio.to_thread(_folder, settings.images_dir.expanduser()):
            yield finding
        return
    try:
        async with _platform(settings) as client:
            yield await _clock_skew(client.server, now)
            login = (await client.post("users.me", {})).get("login")
            yield good("source", f"{client.server} answers; the token is that of {login}")
    except (Denied, Rejected) as problem:
        yield amiss("source", problem, "give API_TOKEN of somebody who sees, and may edit, every project")


async def visit_encoder(settings: Settings, directory: Path) -> AsyncIterator[Finding]:
    """See whether what makes the vectors can be asked, and whether it is known here.

    :param directory: where the state lies
    :raises Unavailable, Misconfigured, Rejected, Inconsistent: when it cannot, or the state is a newer one's
    """
    known, answering = await asyncio.to_thread(_catalogue, directory / "vectors", prefix(settings))
    kind = kind_of(settings, {one.partition("-")[0] for one in answering})
    if kind == "palette":
        yield note("encoder", "palette", models.hint())
    elif kind == "onnx":
        models.check_extra()
        await asyncio.to_thread(models.check, models.model_directory(settings.state_dir))
        yield good("encoder", "the local CLIP is there, whole")
    else:
        for address in await _addresses(settings):
            for finding in await collected("encoder", CLIP_ADVICE, _visit_clip(address, settings, known)):
                yield finding


async def visit_qdrant(server: str, key: str | None) -> AsyncIterator[Finding]:
    """See whether a Qdrant server answers, and knows the key.

    :raises Unavailable: when it does not answer
    """
    url = (server if "://" in server else f"http://{server}").rstrip("/")
    headers = {"api-key": key} if key else {}
    async with aiohttp.ClientSession(timeout=PATIENCE, headers=headers) as session:
        try:
            async with session.get(f"{url}/collections", allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable("qdrant", type(error).__name__) from error
    if status == http.client.OK:
        yield good("qdrant", "the server answers, and lets us in")
    elif status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        yield amiss("qdrant", f"status {status}", "set QDRANT_API_KEY to a key that may write")
    else:
        yield amiss("qdrant", f"status {status}", "see that QDRANT_HOST is a Qdrant server's REST port")


def _folder(root: Path) -> list[Finding]:
    """See whether a folder's projects may be read."""
    try:
        inside = [one for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")]
        closed = [one for one in inside if not os.access(one, os.R_OK | os.X_OK)]
        empty = next(root.iterdir(), None) is None
    except OSError as error:
        return [amiss("source", f"{root}: {error.strerror}", f"let user {os.getuid()} read it")]
    if empty:
        return [amiss("source", f"{root} is empty", "put pictures there, or mount what should be there")]
    if closed:
        return [
            amiss("source", f"{one} may not be read", f"let user {os.getuid()} read it") for one in closed
        ]
    return [good("source", f"{root} may be read, with {len(inside)} folders in it")]


async def _clock_skew(server: str, now: Callable[[], float]) -> Finding:
    """Compare this machine's clock with the server's; for people only, as nothing depends on it."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        try:
            async with session.get(server, allow_redirects=False) as response:
                date = response.headers.get("Date", "")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable("source", f"{server} does not answer: {type(error).__name__}") from error
    try:
        skew = now() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return note("clock", f"{server} tells no time")
    if abs(skew) <= NOTABLE_SKEW:
        return good("clock", f"agrees with that of {server}")
    return note(
        "clock", f"{skew:+.0f} s against that of {server}", "let both keep time; nothing here needs it"
    )


async def _addresses(settings: Settings) -> tuple[Address, ...]:
    """Find CLIP, on the platform where it is not named.

    :raises Unavailable, Misconfigured: when it is nowhere
    """
    place = settings.clip_places()
    if isinstance(place, tuple):
        return place
    if not settings.on_platform:
        raise Misconfigured("CLIP_HOST", "name the address of a CLIP service")
    from daemon.platform.discovery import Discovery

    async with _platform(settings) as client:
        return await Discovery(client, place, settings.supervisely_net_server_address).find()


@asynccontextmanager
async def _platform(settings: Settings) -> AsyncIterator[Client]:
    client = await platform_client(settings)
    try:
        yield client
    finally:
        await client.close()


async def _visit_clip(
    address: Address, settings: Settings, known: Collection[EncoderRecord]
) -> AsyncIterator[Finding]:
    encoder = connect(address, settings)
    try:
        async with asyncio.timeout(CANARY_SECONDS):
            live = await canary.encode(encoder)
    except TimeoutError:
        raise Unavailable(SERVICE, f"{address.name}: no answer within {CANARY_SECONDS:g} s") from None
    finally:
        await encoder.close()
    if record := canary.match(live, known):
        yield good("encoder", f"{address.name} is {record.id}: its canaries are known")
    elif known:
        others = ", ".join(one.id for one in known)
        found = f"{address.name} runs a model unknown here; known: {others}"
        yield note("encoder", found, "it fills a collection of its own, which takes over when complete")
    else:
        unseen = "the daemon will compare it with those on the Qdrant server"
        nobody = "no encoder is known here yet"
        yield good("encoder", f"{address.name} answers; {unseen if settings.qdrant_host else nobody}")


def _catalogue(vectors: Path, prefix: str) -> tuple[Collection[EncoderRecord], Collection[str]]:
    """Return the encoders of the embedded store, and those that answer; read from a copy, without its lock.

    :raises Inconsistent: when a newer version wrote it
    """
    original = vectors / f"{prefix}_catalogue"
    with TemporaryDirectory() as place:
        copy = Path(place) / original.name
        try:
            shutil.copyfile(original, copy)
        except OSError:
            return (), ()
        catalogue = Catalogue(copy)
        catalogue.close()
        return catalogue.encoders.values(), catalogue.pointers.values()
