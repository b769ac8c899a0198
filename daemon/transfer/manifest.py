"""What an export says of itself: the encoders its vectors are of, and every shard with its checksums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from state.errors import Rejected
from state.model import EncoderRecord

MANIFEST = "manifest.json"
VERSION = 1
DIGEST_BYTES = 20

FileName = Annotated[str, Field(pattern=r"^points/[\w.-]{1,100}/\d+-\d+\.(npy|jsonl)$")]
"""Leads nowhere but below the directory of the export."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export.

    :param bytes: its size
    :param blake2b: digest of its bytes, 20 bytes in hex
    """

    file: FileName
    bytes: int
    blake2b: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Some points of one project by one encoder, in ascending order of id.

    :param vectors: an ``.npy`` file, float32, shape ``(points, dimension)``
    :param payloads: a file of JSON lines, one for each row
    :param digest: of the points themselves: as `shards.digest_of` says
    """

    encoder: str
    project: int
    points: int
    vectors: File
    payloads: File
    digest: str


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder of the catalogue, as `state.model.EncoderRecord` has it."""

    id: str
    kind: str
    dimension: int
    confirmed: int
    canaries: list[list[float]]

    @property
    def record(self) -> EncoderRecord:
        """The same for a catalogue that nothing is confirmed in yet.

        :raises Rejected: when its canaries are no vectors of its dimension
        """
        canaries = np.array([row for row in self.canaries if len(row) == self.dimension], np.float32)
        if not len(canaries) or len(canaries) != len(self.canaries):
            raise Rejected(f"the canaries of encoder {self.id} are not {self.dimension} numbers each")
        return EncoderRecord(self.id, self.kind, self.dimension, canaries)


@dataclass(frozen=True, slots=True)
class Header:
    """What an export is of; it goes on only where another was of the same.

    :param encoders: nothing being confirmed in them, for that grows
    """

    encoders: list[Encoder]
    project: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished export.

    :param pointers: from each project to the encoder that answers for it
    :param pinned: the encoder that a person wants to answer
    :param digest: over the digests of all shards
    """

    encoders: list[Encoder]
    pointers: dict[int, str]
    pinned: str | None
    points: int
    digest: str
    shards: list[Shard]
    format: Literal["embedsync export"] = "embedsync export"
    version: int = VERSION

    def of(self, project_id: int | None) -> list[Shard]:
        """Return the shards of a project, or all."""
        return [one for one in self.shards if project_id in (None, one.project)]


HEADER = TypeAdapter(Header)
SHARD = TypeAdapter(Shard)
_MANIFEST = TypeAdapter(Manifest)


def checksum(data: bytes) -> str:
    """Return the digest of a file's bytes: 20 bytes of BLAKE2b, in hex."""
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def encoder_of(record: EncoderRecord) -> Encoder:
    """Return an encoder as a manifest has it."""
    canaries = record.canaries.astype(float).tolist()
    return Encoder(record.id, record.kind, record.dimension, record.confirmed, canaries)


def digest_of_shards(shards: Iterable[Shard]) -> str:
    """Return one digest for all."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for shard in shards:
        digest.update(bytes.fromhex(shard.digest))
    return digest.hexdigest()


def dump(manifest: Manifest) -> bytes:
    """Return a manifest as JSON."""
    return _MANIFEST.dump_json(manifest, indent=1)


def load(directory: Path) -> Manifest:
    """Read the manifest of an export.

    :raises Rejected: when there is none, or it is none this version understands
    """
    path = directory / MANIFEST
    try:
        manifest = _MANIFEST.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise Rejected(f"{directory} holds no finished export: there is no {MANIFEST}") from None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[:3]
        raise Rejected(f"{path} is no manifest of an export: {' '.join(first)}") from None
    if manifest.version > VERSION:
        raise Rejected(f"{path} has version {manifest.version}; this program knows {VERSION}: upgrade it")
    used = {*manifest.pointers.values(), *(one.encoder for one in manifest.shards), manifest.pinned} - {None}
    if manifest.digest != digest_of_shards(manifest.shards) or used - {one.id for one in manifest.encoders}:
        raise Rejected(f"{path} was altered: its shards are not those it was written with")
    return manifest
