"""How far an export has come: a line for each shard that is written, so that the next try goes on there."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from daemon.transfer.files import UNFINISHED, write_whole
from daemon.transfer.manifest import HEADER, MANIFEST, SHARD, Header, Manifest, Shard, checksum, dump
from daemon.transfer.shards import check
from state.errors import Rejected

PROGRESS = "unfinished.jsonl"


class Progress:
    """An export under way in a directory; every method may block."""

    def __init__(self, directory: Path, known: dict[str, Shard]) -> None:
        self._directory = directory
        self._known = known

    @classmethod
    def open(cls, directory: Path, header: Header) -> Progress:
        """Begin an export, or go on with one that began with the same header.

        :raises Rejected: when the directory holds a finished export, or something else
        """
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / MANIFEST).exists():
            raise Rejected(f"{directory} holds a finished export already; name another directory")
        path = directory / PROGRESS
        others = {one.name for one in directory.iterdir()} - {"points", PROGRESS, PROGRESS + UNFINISHED}
        if others or ((directory / "points").exists() and not path.exists()):
            raise Rejected(f"{directory} holds other things; name an empty directory")
        first = HEADER.dump_json(header)
        known: dict[str, Shard] = {}
        if path.exists():
            lines = path.read_bytes().split(b"\n")
            if lines[0] == first:
                known = {shard.vectors.file: shard for shard in _whole(lines[1:])}
        write_whole(path, b"".join(line + b"\n" for line in (first, *map(SHARD.dump_json, known.values()))))
        return cls(directory, known)

    def finished(self, name: str, payloads: bytes) -> Shard | None:
        """Return a shard that was written before, if it is whole and its payloads are still these.

        A payload says what its vector was made from: where it is the same, so is the vector.
        """
        shard = self._known.get(f"points/{name}.npy")
        if shard is None:
            return None
        try:
            check(self._directory, shard)
        except Rejected:
            return None
        return shard if shard.payloads.blake2b == checksum(payloads) else None

    def add(self, shard: Shard) -> None:
        """Note that a shard is written."""
        with (self._directory / PROGRESS).open("ab") as file:
            file.write(SHARD.dump_json(shard) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, once all else is there and nothing but that."""
        self._clear({one.file for shard in manifest.shards for one in (shard.vectors, shard.payloads)})
        write_whole(self._directory / MANIFEST, dump(manifest))
        (self._directory / PROGRESS).unlink()

    def _clear(self, wanted: Collection[str]) -> None:
        """Remove what an earlier try left, of points that are gone since."""
        for path in self._directory.glob("points/*/*"):
            if path.relative_to(self._directory).as_posix() not in wanted:
                path.unlink()


def _whole(lines: list[bytes]) -> list[Shard]:
    """Return the shards up to a line that is not whole, because the export died while it wrote it."""
    found = []
    for line in lines:
        try:
            found.append(SHARD.validate_json(line))
        except ValidationError:
            break
    return found
