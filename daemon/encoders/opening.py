"""Opening the encoders that the settings name, and those that still read texts for older vectors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from daemon.breaker import Breaker
from daemon.encoders.addresses import Address, Find, Task, fixed
from daemon.encoders.clip_http import HttpClip
from daemon.encoders.member import Member
from daemon.encoders.models import local_model
from daemon.encoders.palette import PaletteEncoder
from daemon.encoders.pool import Pool
from daemon.encoders.soundness import SERVICE
from daemon.settings import Settings
from state.errors import Misconfigured, Unavailable
from state.ports import Encoder

Kind = Literal["palette", "clip", "onnx"]

Discover = Callable[[Task | None], Find]
"""Makes what finds CLIP on the platform: by the number of its task, or whichever runs it."""

PALETTE_BATCH, PALETTE_SIDE = PaletteEncoder.batch_size, PaletteEncoder.picture_side
CLIP_BATCH, CLIP_SIDE = 32, 224

log = structlog.get_logger()


@dataclass(slots=True)
class Encoders:
    """The pool, and what finds its members.

    :param pool: without members, until they are found
    :param find: as `Recognition` wants it
    :param parallel: batches worth having under way at once; ``None``: finding out is worth it
    """

    pool: Pool
    find: Callable[[Sequence[Member]], Awaitable[Sequence[Member]]]
    parallel: int | None


@dataclass(slots=True)
class _Addresses:
    """Members by address: one for each that there is now, the same ones as long as it is there."""

    find: Find
    connect: Callable[[Address], Encoder]
    breaker: Callable[[], Breaker]
    others: Sequence[Member]
    members: dict[Address, Member] = field(default_factory=dict)

    async def __call__(self, _: Sequence[Member]) -> Sequence[Member]:
        found = await self.find()
        self.members = {
            address: self.members.get(address) or Member(address.name, self.connect(address), self.breaker())
            for address in found
        }
        return [*self.members.values(), *self.others]


async def open_encoders(
    settings: Settings,
    answering: Collection[str],
    discover: Discover | None,
    clock: Callable[[], float],
    jitter: Callable[[float], float],
) -> Encoders:
    """Open what the settings name.

    :param answering: ids of the encoders that projects are answered by
    :param discover: where there is a platform
    :raises Misconfigured: when a setting does not work here
    """
    kinds = {one.partition("-")[0] for one in answering}
    kind = kind_of(settings, kinds)

    def member(name: str, encoder: Encoder, for_texts_only: bool = False) -> Member:
        breaker = Breaker(SERVICE, clock, jitter)
        return Member(name, encoder, breaker, for_texts_only=for_texts_only)

    older = [
        member(one, await _local(one, settings), for_texts_only=True)
        for one in sorted(kinds & {"palette", "onnx"} - {kind})
        if one == "palette" or local_model(settings.state_dir)
    ]
    if kind != "clip":
        batch, side = (PALETTE_BATCH, PALETTE_SIDE) if kind == "palette" else (16, CLIP_SIDE)
        members = [member(kind, await _local(kind, settings)), *older]

        async def known(_: Sequence[Member]) -> Sequence[Member]:
            return members

        return Encoders(Pool(kind, batch, side), known, max(2, settings.cpu_threads))
    addresses = _Addresses(
        _where(settings, discover),
        lambda address: connect(address, settings),
        lambda: Breaker(SERVICE, clock, jitter),
        older,
    )
    return Encoders(Pool("clip", CLIP_BATCH, CLIP_SIDE), addresses, None)


def kind_of(settings: Settings, answering: Collection[str]) -> Kind:
    """Decide which kind of encoder is to be at work; `auto` never leaves an index for a lesser one.

    :param answering: kinds of the encoders that projects are answered by
    """
    if settings.encoder != "auto":
        return settings.encoder
    if settings.on_platform or settings.clip_host or "clip" in answering:
        return "clip"
    return "onnx" if "onnx" in answering or local_model(settings.state_dir) else "palette"


def connect(address: Address, settings: Settings) -> Encoder:
    """Return what speaks with the CLIP service at an address; nothing is asked yet.

    :raises Misconfigured: when an extra is missing
    """
    token = settings.clip_auth_token
    if address.scheme in ("http", "https"):
        return HttpClip(address.url, token, settings.encode_concurrency + 2, settings.clip_seconds)
    if address.scheme in ("ws", "wss"):
        from daemon.encoders.clip_ws import WebsocketClip

        return WebsocketClip(address.url, token, settings.encode_concurrency + 2, settings.clip_seconds)
    from daemon.encoders.clip_grpc import GrpcClip

    return GrpcClip(address.url, token, settings.clip_seconds)


def _where(settings: Settings, discover: Discover | None) -> Find:
    place = settings.clip_places()
    if isinstance(place, tuple):
        return fixed(place)
    if discover is not None:
        return discover(place)
    if isinstance(place, Task):
        raise Misconfigured("CLIP_HOST", "a task's number means something on the platform only")
    if settings.encoder == "clip":
        raise Misconfigured("CLIP_HOST", "name the address of a CLIP service")
    return _nowhere


async def _nowhere() -> tuple[Address, ...]:
    raise Unavailable(
        SERVICE, "the vectors here were made by CLIP; set CLIP_HOST to its address, or ENCODER to start anew"
    )


async def _local(kind: str, settings: Settings) -> Encoder:
    if kind == "palette":
        return PaletteEncoder(settings.cpu_threads)
    from daemon.encoders.onnx import OnnxEncoder

    directory = local_model(settings.state_dir)
    if directory is None:
        raise Misconfigured("ENCODER", "there is no local model yet: `embedsync model fetch` gets one")
    return await OnnxEncoder.open(directory, settings.cpu_threads)
