"""Adopting everything there is to adopt, in a process that does nothing else meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import SystemRandom
from typing import TYPE_CHECKING, Protocol

from daemon.adoption import Adopted, Adoption, Incumbent
from daemon.adoption_sample import Sampling
from daemon.alone import running
from daemon.encoding import Encoding
from daemon.epochs import Epochs
from daemon.settings import Settings
from daemon.sources import RootTask
from state.errors import Misconfigured, Rejected
from state.model import NOTHING, Project
from state.ports import Encoder, Source, Store

if TYPE_CHECKING:
    from state.stores.qdrant_incumbent import QdrantIncumbent


class Workplace(Protocol):
    """The parts of a wired daemon that adoption needs.

    :ivar roots: what has to run, for ever: among others what looks at the encoder's canaries
    """

    @property
    def source(self) -> Source:
        """Where the images are."""

    @property
    def store(self) -> Store:
        """Where the vectors go."""

    @property
    def encoder(self) -> Encoder:
        """Whose they have to be."""

    @property
    def epochs(self) -> Epochs:
        """When they are written."""

    @property
    def roots(self) -> Mapping[str, RootTask]:
        """What has to run meanwhile."""


async def adopt_all(
    place: Workplace,
    settings: Settings,
    incumbent: Incumbent,
    wanted: str | None,
    dry_run: bool,
    on_report: Callable[[Adopted], None],
    on_points: Callable[[int, int], None],
) -> None:
    """Adopt the collections of all projects that are followed, or of one.

    :param wanted: its number, or its name
    :param on_report: told what became of each
    :param on_points: told how many vectors of how many in the collection at hand are adopted
    :raises Rejected: when no such project is followed, or more than one is called so
    :raises Unavailable: when a service is away
    :raises Inconsistent: when the source's list of projects cannot be trusted
    """
    with ThreadPoolExecutor(settings.cpu_threads, "decode") as threads:
        encoding = Encoding(place.encoder, time.monotonic, lambda outcome: None)
        sampling = Sampling(place.source, place.encoder, encoding, threads, settings.max_picture_pixels)
        adoption = Adoption(
            incumbent,
            place.source,
            place.encoder,
            place.store,
            place.epochs,
            sampling,
            SystemRandom(),
            dry_run,
        )
        async with running(place.roots):
            followed = [
                project
                for project, scope in (await place.source.survey()).items()
                if project.enabled and scope != NOTHING
            ]
            for project in followed if wanted is None else [_only(wanted, followed)]:
                if report := await adoption.adopt(project, on_points):
                    on_report(report)


def _only(wanted: str, followed: Sequence[Project]) -> Project:
    named = [one for one in followed if str(one.id) == wanted] or [
        one for one in followed if one.name == wanted
    ]
    if not named:
        raise Rejected(f"project {wanted} is not followed")
    if len(named) > 1:
        numbers = ", ".join(str(one.id) for one in named)
        raise Rejected(f"{len(named)} projects are called {wanted}: say which by its number, of {numbers}")
    return named[0]


async def open_incumbent(settings: Settings) -> Incumbent:
    """Reach the earlier service's collections on the server that the settings name.

    :raises Misconfigured: when they name none, or the extra is missing
    """
    if settings.qdrant_host is None:
        raise Misconfigured("QDRANT_HOST", "name the server that has the collections to adopt")
    try:
        # Importing the client takes seconds.
        incumbent = await asyncio.to_thread(_import)
    except ImportError as error:
        raise Misconfigured("QDRANT_HOST", f"needs the extra `qdrant`: {error}") from error
    return await incumbent.open(
        settings.qdrant_host,
        api_key=settings.qdrant_api_key,
        grpc_port=settings.qdrant_grpc_port,
        call_seconds=settings.qdrant_call_seconds,
    )


def _import() -> type[QdrantIncumbent]:
    from state.stores.qdrant_incumbent import QdrantIncumbent

    return QdrantIncumbent
