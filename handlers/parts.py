"""What the routes work with: the ports, the limits on what may be asked, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from handlers.auth import Access, Caller
from handlers.calibration import Samples
from handlers.metrics import Metrics
from handlers.rates import Rates
from handlers.texts import TextCache
from handlers.work import Gate, WorkPool
from state.ports import Matrices, Platform, Source, Store, Syncs, TextEncoder


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as the handlers see it."""

    source: Source
    store: Store
    matrices: Matrices
    encoder: TextEncoder
    syncs: Syncs
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask for, and how many are answered at once.

    :param projection_points: beyond so many, a map shows a sample
    :param query_images: images to be searched by; a scope may have :attr:`ids`
    :param threads: for light work; selections use every core as it is, so they run one by one
    :param transfer_seconds: that a body may take to arrive, or an answer to be taken
    :param idle_seconds: that a connection may say nothing whole, more than proxies keep theirs
    :param linger_seconds: that the rest of a refused body is read on, so that the caller hears why
    :param waiting_selections: further ones are turned away
    :param waiting_for_vectors: requests that wait for a sync to end
    :param requests_per_second: of one caller, after a burst of so many as come in :attr:`burst_seconds`;
        0: as many as they like
    :param guesses_at_once: different unknown tokens from one address; then :attr:`guesses_per_second`
    :param repeats_at_once: of one unknown token from one address; then :attr:`repeats_per_second`
    :param connections: open at once, of all callers
    """

    body_bytes: int = 8 * 2**20
    body_values: int = 500_000
    search_limit: int = 10_000
    sample_size: int = 50_000
    projection_points: int = 50_000
    returned_vectors: int = 1_000
    prompts: int = 16
    prompt_characters: int = 512
    ids: int = 100_000
    query_images: int = 256
    clusters: int = 1_000
    event_projects: int = 1_000
    request_seconds: float = 60.0
    transfer_seconds: float = 30.0
    idle_seconds: float = 75.0
    linger_seconds: float = 2.0
    probe_seconds: float = 5.0
    concurrent_requests: int = 32
    threads: int = 2
    waiting_selections: int = 6
    waiting_for_vectors: int = 8
    requests_per_second: float = 500.0
    burst_seconds: float = 10.0
    guesses_at_once: int = 30
    guesses_per_second: float = 0.5
    repeats_at_once: int = 60
    repeats_per_second: float = 1.0
    connections: int = 1_000
    cached_texts: int = 4_096
    cached_samples: int = 16


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything an application's routes share.

    :param search_image_ids: what ``image_ids`` beside a prompt means in ``/search``
    :param gate: of those being answered
    :param reading: of those whose body is on its way
    :param rates: of each caller
    :param now: seconds since 1970, to be shown
    :param description: makes ``/openapi.json``, once
    """

    ports: Ports
    limits: Limits
    access: Access
    metrics: Metrics
    search_image_ids: Literal["query", "scope"]
    light: WorkPool
    heavy: WorkPool
    gate: Gate
    reading: Gate
    waiting: Gate
    rates: Rates
    texts: TextCache
    samples: Samples
    now: Callable[[], float]
    description: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, let in.

    :param camel: whether it was spelled in camelCase
    """

    parts: Parts
    caller: Caller
    camel: bool = field(default=False)

    @property
    def ports(self) -> Ports:
        """The world."""
        return self.parts.ports

    @property
    def limits(self) -> Limits:
        """What may be asked."""
        return self.parts.limits


PARTS: web.AppKey[Parts] = web.AppKey("parts", Parts)
