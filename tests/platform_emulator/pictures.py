"""Pictures that cost next to nothing, and pictures resized as imgproxy does it.

A painted picture is an indexed PNG: the pixels are the same for all of them, the palette comes from a
seed. So its bytes, its hash and its colours are its own, made in microseconds, and nothing is kept.
"""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from PIL import Image

SIDE = 48
_PATCHES = 6


def hash_of(data: bytes) -> str:
    """Return the platform's content hash: SHA-256, base64."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


class Content(Protocol):
    """What an image consists of; `key` is its name in the storage."""

    @property
    def key(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def hash(self) -> str: ...
    @property
    def mime(self) -> str: ...
    @property
    def extension(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _indices() -> bytes:
    patch = SIDE // _PATCHES
    rows = (bytes(_PATCHES * (y // patch) + x // patch for x in range(SIDE)) for y in range(SIDE))
    return zlib.compress(b"".join(b"\0" + row for row in rows))


_HEAD = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 3, 0, 0, 0))
_TAIL = _chunk(b"IDAT", _indices()) + _chunk(b"IEND", b"")
_PALETTE_BYTES = 3 * _PATCHES**2


class Painted:
    """A picture of 36 patches whose colours follow from `seed`."""

    __slots__ = ("_hash", "seed")
    mime, extension = "image/png", "png"
    width = height = SIDE
    size = len(_HEAD) + len(_chunk(b"PLTE", bytes(_PALETTE_BYTES))) + len(_TAIL)

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._hash: str | None = None

    @property
    def key(self) -> str:
        return f"painted-{self.seed}"

    @property
    def data(self) -> bytes:
        colours = hashlib.shake_128(str(self.seed).encode()).digest(_PALETTE_BYTES)
        return _HEAD + _chunk(b"PLTE", colours) + _TAIL

    @property
    def hash(self) -> str:
        if self._hash is None:
            self._hash = hash_of(self.data)
        return self._hash


class Uploaded:
    """Bytes somebody uploaded; they need not be a picture."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.hash = hash_of(data)
        self.key = f"uploaded-{hashlib.sha256(data).hexdigest()[:32]}"
        self.size = len(data)
        self.mime, self.extension = "image/jpeg", "jpg"
        self.width: int | None = None
        self.height: int | None = None
        try:
            with Image.open(io.BytesIO(data)) as picture:
                self.width, self.height = picture.size
                kind = str(picture.format)
        except (OSError, Image.DecompressionBombError):
            return
        self.mime = Image.MIME[kind]
        self.extension = "jpg" if kind == "JPEG" else kind.lower()


def content_of(given: int | bytes) -> Content:
    """Return what a test names by a seed or gives as bytes."""
    return Painted(given) if isinstance(given, int) else Uploaded(given)


def resized(data: bytes, options: str) -> tuple[bytes, str]:
    """Make the picture that imgproxy makes for `options`, such as ``q/resize:fit:224:224:0/q:70``.

    :returns: its bytes and their type
    :raises OSError: when `data` is no picture
    """
    chosen = dict(part.partition(":")[::2] for part in options.split("/") if ":" in part)
    kind = chosen.get("ext", "jpeg").upper()
    with Image.open(io.BytesIO(data)) as picture:
        small = picture.convert("RGB")
    _, width, height, *_ = [*chosen.get("resize", "fit:0:0").split(":"), "0", "0"]
    small.thumbnail((int(width) or small.width, int(height) or small.height))
    buffer = io.BytesIO()
    small.save(buffer, kind, quality=int(chosen.get("q") or 80))
    return buffer.getvalue(), Image.MIME[kind]


def photographs() -> Iterator[tuple[str, bytes]]:
    """Yield the photographs that installed packages bring along, by name."""
    for package, folder in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(root, folder).glob("*.*")):
                if file.suffix in {".jpg", ".jpeg", ".png"}:
                    yield file.name, file.read_bytes()
