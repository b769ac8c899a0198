"""A sample folder of real photographs, for whoever has not named a folder yet.

scikit-image and scikit-learn ship some in their wheels. They are copied as they are, and cut into
details besides, so that there is something to search among.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from daemon.pictures import CANDIDATE_SUFFIXES, decode, encode_jpeg
from state.errors import Misconfigured
from state.model import Pixels

_ANY_SIDE = 1_000_000  # as large as it comes

# Package, folder in it, file: and where the picture goes, as project/dataset/name.
_PHOTOGRAPHS = {
    ("sklearn", "datasets/images", "china.jpg"): "everyday/places/pagoda",
    ("sklearn", "datasets/images", "flower.jpg"): "everyday/nature/dahlia",
    ("skimage", "data", "chelsea.png"): "everyday/nature/cat",
    ("skimage", "data", "rocket.jpg"): "everyday/places/rocket-at-dusk",
    ("skimage", "data", "astronaut.png"): "everyday/people/astronaut",
    ("skimage", "data", "camera.png"): "everyday/people/photographer",
    ("skimage", "data", "coffee.png"): "everyday/things/coffee",
    ("skimage", "data", "coins.png"): "everyday/things/coins",
    ("skimage", "data", "motorcycle_left.png"): "everyday/things/motorcycle-left",
    ("skimage", "data", "motorcycle_right.png"): "everyday/things/motorcycle-right",
    ("skimage", "data", "clock_motion.png"): "everyday/things/clock-in-motion",
    ("skimage", "data", "hubble_deep_field.jpg"): "science/space/hubble-deep-field",
    ("skimage", "data", "moon.png"): "science/space/moon",
    ("skimage", "data", "retina.jpg"): "science/medicine/retina",
    ("skimage", "data", "ihc.png"): "science/medicine/stained-tissue",
    ("skimage", "data", "cell.png"): "science/medicine/cell",
    ("skimage", "data", "brick.png"): "textures/surfaces/brick",
    ("skimage", "data", "grass.png"): "textures/surfaces/grass",
    ("skimage", "data", "gravel.png"): "textures/surfaces/gravel",
}


def fill(directory: Path) -> int:
    """Put the sample pictures into `directory`, as projects and datasets of the folder source.

    What is there already is left alone, so it may run at every start.

    :returns: how many pictures the directory holds
    :raises Misconfigured: when no photographs are installed, or the directory cannot be written
    """
    found = list(_photographs())
    if not found:
        raise Misconfigured(
            "IMAGES_DIR", "not set, and neither scikit-learn nor scikit-image has brought photographs"
        )
    try:
        for origin, place in found:
            _add(directory, origin, place)
        return sum(path.suffix in CANDIDATE_SUFFIXES for path in directory.rglob("*"))
    except OSError as error:
        raise Misconfigured("IMAGES_DIR", f"cannot fill the sample folder {directory}: {error}") from error


def _photographs() -> Iterator[tuple[Path, str]]:
    # Finding a package is cheap; importing one of these takes seconds.
    specs = {package: find_spec(package) for package in ("sklearn", "skimage")}
    for (package, folder, file), place in _PHOTOGRAPHS.items():
        spec = specs[package]
        for root in (spec.submodule_search_locations or ()) if spec else ():
            origin = Path(root, folder, file)
            if origin.is_file():
                yield origin, place


def _add(directory: Path, origin: Path, place: str) -> None:
    copy = directory / f"{place}{origin.suffix}"
    data = origin.read_bytes()
    if not copy.exists():
        _write(copy, data)
    details = [copy.parent / "details" / f"{copy.stem}-{number}.jpg" for number in range(1, 6)]
    if not all(detail.exists() for detail in details):
        for detail, part in zip(details, _cut(decode(data, _ANY_SIDE)), strict=True):
            if not detail.exists():
                _write(detail, encode_jpeg(part))


def _cut(photograph: Pixels) -> Iterator[Pixels]:
    """Yield the four quarters and the middle of a photograph."""
    height, width = photograph.shape[0] // 2, photograph.shape[1] // 2
    for top, left in ((0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)):
        yield photograph[top : top + height, left : left + width]


def _write(path: Path, data: bytes) -> None:
    """Write whole or not at all: until it is whole the file has no picture's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    partial.replace(path)
