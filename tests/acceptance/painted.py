"""Generated pictures, good and broken ones; every seed gives other bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (205, 28, 32), "green": (45, 150, 55), "blue": (35, 85, 205), "yellow": (245, 222, 45)}


def painted(
    seed: int, kind: str = "jpeg", side: int = 48, colour: tuple[int, int, int] | None = None
) -> bytes:
    """Return a picture of coarse patches, around `colour` when one is given."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (6, 6, 3))
    if colour is not None:
        patches = np.clip(np.array(colour) + patches // 16 - 8, 0, 255)
    image = Image.fromarray(patches.astype(np.uint8)).resize((side, side))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def fill(folder: Path, seeds: Iterable[int], kind: str = "jpeg") -> None:
    """Paint a picture for each seed into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed}.{kind}").write_bytes(painted(seed, kind))


def bomb(side: int) -> bytes:
    """Return a small PNG that claims to be a square of `side` pixels."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
    ]
    chunks = (struct.pack(">I", len(data)) + kind + data for kind, data in (*parts, (b"IEND", b"")))
    sums = (zlib.crc32(kind + data) for kind, data in (*parts, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk + struct.pack(">I", check) for chunk, check in zip(chunks, sums, strict=True)
    )


BROKEN = {
    "truncated": ("jpg", lambda seed: painted(seed, side=200)[:-900], "truncated JPEG"),
    "page": ("jpg", lambda seed: b"<!DOCTYPE html><html>%d</html>" % seed, "looks like HTML"),
    "bomb": ("png", lambda seed: bomb(50_000 + seed), "pixels by its header, over the limit"),
    "empty": ("png", lambda seed: b"", "empty file"),
    "noise": ("jpg", lambda seed: np.random.default_rng(seed).bytes(4_000), "not a picture"),
}
"""What can be wrong with a file, by name: its suffix, its bytes by seed, and what the reason says."""


def break_some(folder: Path, of_each: int) -> None:
    """Put so many files of each kind of broken picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (suffix, content, _) in BROKEN.items():
        for seed in range(of_each):
            (folder / f"{name}-{seed}.{suffix}").write_bytes(content(seed))
