import io
import re
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from daemon import pictures
from daemon.pictures import CANDIDATE_SUFFIXES, content_hash, decode, resize
from state.errors import Rejected

WHITE, RED = [255, 255, 255], [255, 0, 0]


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 3, y * 4, 255 - x * 2], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n"
        + (struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
        + (struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data)))
    )


@cache
def formats() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    picture = gradient()
    return {
        "jpeg": encoded(picture, "JPEG", exif=exif),
        "progressive jpeg": encoded(picture, "JPEG", progressive=True),
        "cmyk jpeg": encoded(picture.convert("CMYK"), "JPEG"),
        "png": encoded(picture, "PNG", exif=exif),
        "palette png": encoded(picture.quantize(16), "PNG", transparency=3),
        "16 bit png": encoded(Image.fromarray(np.arange(3072, dtype=np.uint16).reshape(48, 64)), "PNG"),
        "gif": encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)]),
        "webp": encoded(picture, "WEBP", exif=exif),
        "lossless webp": encoded(picture.convert("RGBA"), "WEBP", lossless=True),
        "bmp": encoded(picture, "BMP"),
        "tiff": encoded(picture, "TIFF"),
        "lzw tiff": encoded(picture, "TIFF", compression="tiff_lzw"),
        "jpeg tiff": encoded(picture, "TIFF", compression="jpeg"),
        "avif": encoded(picture, "AVIF"),
    }


@pytest.mark.parametrize("name", formats())
def test_every_allowed_format_is_decoded(name: str) -> None:
    pixels = decode(formats()[name], 32)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert max(pixels.shape) == 32


@pytest.mark.parametrize("name", ["png", "webp", "bmp", "tiff", "gif", "jpeg tiff", "cmyk jpeg", "avif"])
def test_colours_survive_decoding(name: str) -> None:
    upright = np.asarray(gradient().rotate(-90, expand=True) if name in ("png", "webp") else gradient())
    assert np.abs(decode(formats()[name], 64).astype(int) - upright).mean() < 12


def test_the_longest_side_is_fitted_and_nothing_is_enlarged() -> None:
    assert decode(encoded(gradient(300, 100), "PNG"), 60).shape == (20, 60, 3)
    assert decode(encoded(gradient(100, 300), "JPEG"), 60).shape == (60, 20, 3)
    assert decode(encoded(gradient(20, 10), "PNG"), 60).shape == (10, 20, 3)
    assert decode(encoded(gradient(2000, 1), "PNG"), 60).shape == (1, 60, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_camera_s_orientation_is_applied(orientation: int, kind: str) -> None:
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    turns |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    upright = gradient(64, 32)
    stored = upright.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, kind, exif=exif, quality=95), 64)
    assert pixels.shape == (32, 64, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    assert decode(encoded(image, "PNG"), 8)[4, 4].tolist() == WHITE


def test_a_transparent_palette_colour_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert decode(encoded(image, "PNG"), 8)[4, 4].tolist() == RED
    assert decode(encoded(image, "PNG", transparency=1), 8)[4, 4].tolist() == WHITE
    assert decode(encoded(image, "GIF", transparency=1), 8)[4, 4].tolist() == WHITE


def test_a_palette_with_many_transparencies_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert decode(encoded(image, "PNG", transparency=b"\0\x80"), 8)[4, 4].tolist() == [255, 127, 127]


def test_sixteen_bit_greys_keep_their_brightness() -> None:
    image = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    for kind in ("PNG", "TIFF"):
        assert decode(encoded(image, kind), 8)[4, 4].tolist() == [128, 128, 128]


def test_floats_are_stretched_over_their_range() -> None:
    values = np.linspace(-5, 5, 64, dtype=np.float32).reshape(8, 8)
    values[0, 1] = np.nan
    pixels = decode(encoded(Image.fromarray(values), "TIFF"), 8)
    assert (pixels.min(), pixels.max()) == (0, 255)
    constant = Image.fromarray(np.full((8, 8), 3.0, np.float32))
    assert decode(encoded(constant, "TIFF"), 8).max() == 0


def test_one_bit_pictures_become_black_and_white() -> None:
    image = Image.fromarray(np.eye(8) > 0)
    assert sorted(np.unique(decode(encoded(image, "PNG"), 8))) == [0, 255]


def test_cmyk_red_is_red() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        pixel = decode(encoded(image, kind), 16)[8, 8].astype(int)
        assert np.abs(pixel - RED).max() < 8


def test_a_colour_profile_is_honoured() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = bytearray(re.sub(rb"s\0?R\0?G\0?B", lambda match: b"x" * len(match[0]), bytes(profile)))
    red, blue = (struct.unpack_from(">4s2I", profile, profile.index(tag)) for tag in (b"rXYZ", b"bXYZ"))
    columns = [bytes(profile[offset : offset + size]) for _, offset, size in (red, blue)]
    profile[red[1] : red[1] + red[2]], profile[blue[1] : blue[1] + blue[2]] = columns[::-1]
    image = Image.new("RGB", (8, 8), "red")
    pixel = decode(encoded(image, "PNG", icc_profile=bytes(profile)), 8)[4, 4]
    assert pixel[2] > 200 > 50 > pixel[0]


def test_a_broken_colour_profile_is_no_reason_to_refuse() -> None:
    image = Image.new("RGB", (8, 8), "red")
    assert decode(encoded(image, "PNG", icc_profile=b"nonsense"), 8)[4, 4].tolist() == RED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"  <html>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b'{"error": 1}', "JSON"),
        (b"%PDF-1.7", "PDF"),
        (b"not found\n", "text"),
        (b"\0" * 500, "zero bytes"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\xde\xad\xbe\xef", "not a picture"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 32, "HEIC"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        decode(data, 32)


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "png", "gif", "bmp", "tiff"])
def test_a_truncated_picture_is_called_truncated(name: str) -> None:
    data = formats()[name]
    with pytest.raises(Rejected, match="truncated"):
        decode(data[: len(data) // 3], 32)


@pytest.mark.parametrize("name", ["webp", "lzw tiff", "avif"])
def test_other_truncated_pictures_are_rejected_all_the_same(name: str) -> None:
    data = formats()[name]
    with pytest.raises(Rejected):
        decode(data[: len(data) // 2], 32)


@pytest.mark.parametrize("side", [20_000, 2_000_000_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    started = time.perf_counter()
    with pytest.raises(Rejected, match=f"{side * side} pixels by its header, over the limit of 100000000"):
        decode(png_header(side, side), 32)
    assert time.perf_counter() - started < 0.5


def test_the_limit_of_pixels_is_the_caller_s() -> None:
    data = encoded(gradient(20, 10), "PNG")
    assert decode(data, 32, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(Rejected, match="200 pixels by its header, over the limit of 199"):
        decode(data, 32, max_pixels=199)


def test_heic_is_decoded_where_its_extra_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(gradient()).save(buffer, quality=90)
    assert decode(buffer.getvalue(), 32).shape == (24, 32, 3)


def test_without_the_extra_heic_is_rejected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(Rejected, match="HEIC needs the extra `heif`"):
        decode(b"\0\0\0\x18ftypheic" + b"\0" * 32, 32)


def test_a_name_says_nothing_about_the_content() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= CANDIDATE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in CANDIDATE_SUFFIXES)


def test_odd_metadata_makes_no_warning_in_any_thread() -> None:
    data = bytearray(formats()["jpeg"])
    at = data.index(b"Exif\0\0") + 6
    data[at + 10 : at + 40] = b"\xff" * 30
    with ThreadPoolExecutor(4) as executor, warnings.catch_warnings():
        warnings.simplefilter("error")
        barrier = threading.Barrier(4)

        def work(_: int) -> tuple[int, ...]:
            barrier.wait(5)
            return decode(bytes(data), 32).shape

        assert len(list(executor.map(work, range(4)))) == 4


def attempt(data: bytes) -> np.ndarray | Rejected:
    try:
        pixels = decode(data, 32, max_pixels=1_000_000)
    except Rejected as rejection:
        return rejection
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert max(pixels.shape[:2]) <= 32
    return pixels


@given(
    name=st.sampled_from(sorted(formats())),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=6)), max_size=4),
    end=st.floats(0, 1) | st.just(1.0),
)
@example(name="jpeg tiff", cuts=[(0.001, 0, b"\xff")], end=1.0)
@settings(max_examples=400, deadline=None)
def test_mutated_bytes_give_pixels_or_a_rejection(
    name: str, cuts: list[tuple[float, int, bytes]], end: float
) -> None:
    data = bytearray(formats()[name])
    for place, removed, inserted in cuts:
        at = int(place * min(len(data), 400 if removed % 2 else len(data)))
        data[at : at + removed] = inserted
    outcome = attempt(bytes(data[: int(end * len(data))]))
    assert isinstance(outcome, np.ndarray) or 0 < len(str(outcome)) < 200


@given(
    st.sampled_from([b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF89a", b"BM", b"\x89PNG\r\n\x1a\n"]),
    st.binary(),
)
@settings(max_examples=200, deadline=None)
def test_noise_behind_a_signature_is_rejected_or_decoded(signature: bytes, noise: bytes) -> None:
    assert attempt(signature + noise) is not None


def test_the_hash_is_of_the_bytes() -> None:
    assert content_hash(b"a") == content_hash(b"a") != content_hash(b"b")
    assert re.fullmatch("[0-9a-f]{40}", content_hash(b""))


def test_resizing_averages() -> None:
    checks = np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 255)
    small = resize(checks.astype(np.uint8), 4, 2)
    assert small.shape == (2, 4, 3)
    assert np.abs(small.astype(int) - 128).max() < 8
