"""The daemon, but it writes down each picture it encodes: at once, so that no death loses the note.

``DIARY`` names the file; a line of it is the digest of one picture's pixels.
"""

import os
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from daemon.__main__ import main
from daemon.encoders import canary
from daemon.encoders.palette import PaletteEncoder
from daemon.pipeline import Limits
from state.model import Pixels, Vectors

IN_FLIGHT = Limits().batches * PaletteEncoder.batch_size
"""Pictures that are being encoded and written at the moment of an end, at most."""


def encodings(diary: Path) -> Counter[str]:
    """Return how often each picture was given to the encoder, the canaries left out."""
    counts = Counter(diary.read_text().split())
    for picture in canary.pictures():
        counts.pop(digest(picture), None)
    return counts


def digest(picture: Pixels) -> str:
    return blake2b(picture.tobytes(), digest_size=8).hexdigest()


def write_down_what_is_encoded(diary: int) -> None:
    encode = PaletteEncoder.encode_images

    async def encode_images(self: PaletteEncoder, pictures: Sequence[Pixels]) -> Vectors:
        os.write(diary, "".join(f"{digest(picture)}\n" for picture in pictures).encode())
        return await encode(self, pictures)

    PaletteEncoder.encode_images = encode_images


if __name__ == "__main__":
    write_down_what_is_encoded(os.open(os.environ["DIARY"], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    main()
