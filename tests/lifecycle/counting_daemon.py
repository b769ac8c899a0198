"""The daemon, but it writes down what it encodes and what the store has taken: at once, so no death loses it.

``DIARY`` names the file. A word of it is the digest of one picture's pixels, written before it is encoded;
or ``+`` and the identity of a picture's bytes, written after the store acknowledged its vector. ``DIES``
names a place of `PLACES` where the process kills itself: ``journal.quarantine:after``.
"""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from daemon.__main__ import main
from daemon.encoders import canary
from daemon.encoders.palette import PaletteEncoder
from daemon.pipeline import Limits
from state.journal import SqliteJournal
from state.model import Embedding, Pixels, Vectors
from state.stores.edge import EdgeStore

IN_FLIGHT = Limits().batches * PaletteEncoder.batch_size
"""Pictures that are being encoded and written at the moment of an end, at most."""

PLACES = {
    "store.remove": "remove",
    "journal.quarantine": "quarantine",
    "journal.release": "release",
    "journal.settle_held": "settle_held",
}
"""Calls that a process may die before or after, beside the failpoints."""


def encodings(diary: Path) -> Counter[str]:
    """Return how often each picture was given to the encoder, the canaries left out."""
    canaries = {digest(picture) for picture in canary.pictures()}
    return Counter(
        word for word in diary.read_text().split() if not word.startswith("+") and word not in canaries
    )


def digest(picture: Pixels) -> str:
    return blake2b(picture.tobytes(), digest_size=8).hexdigest()


def write_down_what_is_encoded(diary: int) -> None:
    encode = PaletteEncoder.encode_images

    async def encode_images(self: PaletteEncoder, pictures: Sequence[Pixels]) -> Vectors:
        os.write(diary, "".join(f"\n{digest(picture)}" for picture in pictures).encode())
        return await encode(self, pictures)

    PaletteEncoder.encode_images = encode_images


def write_down_what_is_stored(diary: int, store: type) -> None:
    write = store.upsert

    async def upsert(self: Any, collection: str, points: Sequence[Embedding]) -> None:
        await write(self, collection, points)
        os.write(diary, "".join(f"\n+{point.image.content}" for point in points).encode())

    store.upsert = upsert


def die_at(place: str, store: type) -> None:
    name, _, when = place.partition(":")
    owner = store if name.startswith("store.") else SqliteJournal
    call = getattr(owner, PLACES[name])

    async def deadly(self: Any, *arguments: Any, **named: Any) -> Any:
        answer = await call(self, *arguments, **named) if when == "after" else None
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, PLACES[name], deadly)


def live() -> None:
    """Be the daemon that the environment describes."""
    if diary := os.environ.get("DIARY"):
        notes = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write_down_what_is_encoded(notes)
        write_down_what_is_stored(notes, _store())
    if place := os.environ.get("DIES"):
        die_at(place, _store())
    main()


def _store() -> type:
    if "QDRANT_HOST" not in os.environ:
        return EdgeStore
    from state.stores.qdrant import QdrantStore

    return QdrantStore


if __name__ == "__main__":
    live()
