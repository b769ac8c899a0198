"""Small files that would take minutes or gigabytes to decode: refused before that, or decoded in little."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from daemon.pictures import MAX_SCANS, MAX_TILE_PIXELS, decode
from state.errors import Rejected

START_OF_SCAN = b"\xff\xda"
END = b"\xff\xd9"


def jpeg(scans: int, **how: object) -> bytes:
    """Return a JPEG whose last scan, a few bytes that refine nothing, comes so often."""
    buffer = io.BytesIO()
    Image.new("L", (256, 256), 128).save(buffer, "JPEG", progressive=True, **how)
    whole = buffer.getvalue().removesuffix(END)
    last = whole[whole.rindex(START_OF_SCAN) :]
    return whole + last * (scans - whole.count(START_OF_SCAN)) + END


def tiff(width: int, height: int, data: bytes, **tags: int) -> bytes:
    """Return a deflated TIFF of one strip or tile."""
    named = {"bits": 258, "format": 339, "rows": 278, "offset": 273, "bytes": 279}
    named |= {"tile_width": 322, "tile_length": 323, "tile_offset": 324, "tile_bytes": 325}
    place = "tile_" if "tile_width" in tags else ""
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, named[f"{place}bytes"]: len(data)}
    entries |= {named[name]: value for name, value in tags.items()}
    begin = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries[named[f"{place}offset"]] = begin
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4) + data


@pytest.mark.parametrize("how", [{}, {"exif": b"Exif\0\0" + START_OF_SCAN * 500}], ids=["plain", "exif"])
def test_a_jpeg_of_very_many_scans_is_refused_undecoded(how: dict) -> None:
    assert decode(jpeg(MAX_SCANS, **how), 64).shape == (64, 64, 3)
    started = time.perf_counter()
    with pytest.raises(Rejected, match="more than 100 scans"):
        decode(jpeg(200_000, **how), 64)
    assert time.perf_counter() - started < 2


def test_what_looks_like_scans_but_is_none_does_not_count() -> None:
    after = jpeg(20) + b"\0video" + START_OF_SCAN * 500
    within = jpeg(20, comment=START_OF_SCAN * 500)
    for data in (after, within):
        assert decode(data, 64).shape == (64, 64, 3)


def test_a_tiff_whose_tile_is_far_larger_than_the_picture_is_refused() -> None:
    tile = {"tile_width": 4096, "tile_length": 4096}
    data = zlib.compress(bytes(MAX_TILE_PIXELS))
    assert decode(tiff(3, 2, data, **tile), 64).shape == (2, 3, 3)
    with pytest.raises(Rejected, match="a tile of 2145911040 pixels"):
        decode(tiff(3, 2, b"x", tile_width=65_520, tile_length=32_752), 64)


@pytest.mark.parametrize("width", [b"\x02", b"\x05"], ids=["a text", "a fraction"])
def test_a_tile_whose_size_is_no_number_is_rejected(width: bytes) -> None:
    data = tiff(3, 2, zlib.compress(bytes(256)), tile_width=16, tile_length=16)
    broken = data.replace(struct.pack("<HH", 322, 4), struct.pack("<H", 322) + width + b"\0")
    with pytest.raises(Rejected):
        decode(broken, 64)


def test_floats_are_stretched_a_part_at_a_time() -> None:
    side = 4_000
    values = np.zeros((side, side), np.float32)
    values[:, side // 2 :] = 7.0
    data = tiff(side, side, zlib.compress(values.tobytes(), 1), bits=32, format=3, rows=side)
    del values
    tracemalloc.start()
    try:
        pixels = decode(data, 64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pixels[:, 0].max() == 0
    assert pixels[:, -1].min() == 255
    assert peak < 6 * side * side
