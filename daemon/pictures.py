"""Bytes to pixels: the one place where pictures are decoded, and Pillow is spoken to.

What comes in is hostile until shown otherwise: the type is read from the bytes and never from a
name, the size from the header before anything is decoded, and whatever a decoder trips over becomes
a :class:`~state.errors.Rejected` with a reason a person understands.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from state.errors import Rejected
from state.model import Pixels

CANDIDATE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif"}
)
"""Lower-case suffixes of files worth looking at; what they really are, :func:`decode` finds out."""

MAX_PIXELS = 100_000_000

MAX_SCANS = 100
"""Passes of a JPEG over its pixels; encoders make about ten. One of 30 bytes takes as long as any other."""

MAX_TILE_PIXELS = 4096 * 4096
"""A TIFF's tile may be larger than its picture; each is unpacked whole, whatever is kept of it."""

_SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"BM", "BMP"),
    (rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]", "TIFF"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "HEIC"),
)
_STRANGERS = (
    (rb"\s*<(!doctype html|html|head|body)", "HTML"),
    (rb"\s*<(\?xml|svg)", "XML or SVG"),
    (rb"\s*[{\[]", "JSON"),
    (rb"%PDF", "PDF"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"8BPS", "Photoshop"),
    (rb"....ftyp", "a video"),
    (rb"\0+\Z", "nothing but zero bytes"),
    (rb"[\t\n\r\x20-\x7e]+\Z", "text"),
)

# What decoders let through on bytes that are not what they claim to be.
_DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BLOCK_PIXELS = 2**20

_JPEG_MARKER = re.compile(rb"\xff+([^\0\xff\xd0-\xd7])")
_TILE_WIDTH, _TILE_LENGTH = 322, 323

_SRGB = re.compile(rb"s\0?R\0?G\0?B")
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


CONTENT_BYTES = 20
"""Size of the BLAKE2b digest, which in hex is the identity of a picture's bytes."""


def content_hash(data: bytes) -> str:
    """Return the identity of a picture's bytes."""
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES).hexdigest()


def decode(data: bytes, side: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode a picture, upright, in sRGB, its longest side at most `side`; never enlarged.

    Transparent pixels are laid on white, as on paper. Of an animation it is the first frame. Colour
    profiles are honoured; integers and floats without a white point are stretched over their range.
    It takes CPU and memory in step with the picture's own size, so it belongs into a thread.

    :param side: in pixels
    :param max_pixels: pictures with more by their header are refused undecoded
    :raises Rejected: when the bytes are no whole picture of an allowed type
    """
    kind = _kind(data)
    _ignore_pillow_warnings()
    # A library that shares the process may have had half pictures taken for whole ones.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image = _opener(kind)(io.BytesIO(data))
        pixels = image.width * image.height
        if pixels > max_pixels:
            raise Rejected(f"{pixels} pixels by its header, over the limit of {max_pixels}")
        _refuse_toil(image, data, pixels)
        return np.array(_render(image, side))
    except _DECODER_ERRORS as error:
        raise Rejected(_reason(kind, error)) from error


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the picture stretched to exactly `width` by `height` pixels, averaged where it shrinks."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def encode_jpeg(pixels: Pixels) -> bytes:
    """Return the picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _kind(data: bytes) -> str:
    if not data:
        raise Rejected("empty file")
    head = data[:256]
    for signature, kind in _SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return kind
    for signature, stranger in _STRANGERS:
        if re.match(signature, head, re.DOTALL | re.IGNORECASE):
            raise Rejected(f"not a picture (looks like {stranger})")
    raise Rejected("not a picture of a type embedsync reads")


def _opener(kind: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Return the one decoder for `kind`.

    Asking it directly leaves out ``Image.open``, whose pixel limit is a global of the whole process.
    """
    match kind:
        case "JPEG":
            return JpegImagePlugin.JpegImageFile
        case "PNG":
            return PngImagePlugin.PngImageFile
        case "GIF":
            return GifImagePlugin.GifImageFile
        case "WebP":
            return WebPImagePlugin.WebPImageFile
        case "BMP":
            return BmpImagePlugin.BmpImageFile
        case "TIFF":
            return TiffImagePlugin.TiffImageFile
        case "AVIF" if features.check("avif"):
            return AvifImagePlugin.AvifImageFile
        case "HEIC" if find_spec("pillow_heif"):
            heif = import_module("pillow_heif")
            return cast(Callable[[io.BytesIO], ImageFile.ImageFile], heif.HeifImageFile)
    raise Rejected(f"{kind} needs the extra `heif`")


def _refuse_toil(image: ImageFile.ImageFile, data: bytes, pixels: int) -> None:
    """Return if decoding takes time and memory in step with the number of pixels.

    :raises Rejected: when it takes far more
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # The pair of bytes is looked for first: it is all that most files need.
        if data.count(b"\xff\xda") > MAX_SCANS and _scans(data) > MAX_SCANS:
            raise Rejected(f"JPEG with more than {MAX_SCANS} scans")
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = image.tag_v2.get(_TILE_WIDTH, 1) * image.tag_v2.get(_TILE_LENGTH, 1)
        if tile > max(pixels, MAX_TILE_PIXELS):
            raise Rejected(f"TIFF with a tile of {tile} pixels")


def _scans(data: bytes) -> int:
    """Count the scans of a JPEG's first picture: thumbnails in it, and what follows it, do not count."""
    scans, at = 0, 2
    while (marker := _JPEG_MARKER.search(data, at)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def _ignore_pillow_warnings() -> None:
    """Keep Pillow's remarks on odd metadata off the terminal.

    ``warnings.catch_warnings`` swaps the filters of the whole process and is unsound in threads. A
    filter for Pillow's modules alone that is only ever added is sound; others who do swap filters
    may drop it, hence the look each time.
    """
    if warnings.filters[:1] != [_PILLOW_WARNINGS]:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _render(image: Image.Image, side: int) -> Image.Image:
    # JPEG alone can decode at a fraction of its size; twice the wanted size loses nothing visible.
    image.draft(None, (2 * side, 2 * side))
    image.load()
    # Asked after loading: a decoder that turns the picture itself then has taken the mark away.
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    profile = image.info.get("icc_profile")
    small = _scalable(image)
    small.thumbnail((side, side))
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    small = _to_srgb(small, profile)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return small if turn is None else small.transpose(turn)


def _scalable(image: Image.Image) -> Image.Image:
    """Return the picture in a mode whose pixels may be averaged: L, RGB, RGBA or CMYK."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Stretch integers or floats over their range, some rows at a time: they take eight bytes each."""
    rows = max(1, _BLOCK_PIXELS // image.width)
    tops = range(0, image.height, rows)

    def values(top: int) -> NDArray[np.float64]:
        block = image.crop((0, top, image.width, min(top + rows, image.height)))
        return np.nan_to_num(np.asarray(block, np.float64), posinf=0, neginf=0)

    ranges = [(block.min(), block.max()) for block in map(values, tops)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    stretched = np.empty((image.height, image.width), np.uint8)
    for top in tops:
        stretched[top : top + rows] = (values(top) - low) * (255 / max(high - low, 1e-300))
    return Image.fromarray(stretched)


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    # Most profiles say sRGB; building a transform for them would cost more than decoding does.
    if isinstance(profile, bytes) and not _SRGB.search(profile):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            managed = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            return cast(Image.Image, managed)
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile is no reason to refuse the picture it came with
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(kind: str, error: BaseException) -> str:
    problem = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"{kind} with too many pixels by its header"
    if isinstance(error, EOFError) or re.search(r"truncat|unexpected end|not enough", problem, re.IGNORECASE):
        return f"truncated {kind}"
    return f"broken {kind}: {problem}"
