"""The local CLIP's files: which they are, where they lie, and whether they are whole.

A model is whole when its manifest is there: it is written last, and names every file's size and
checksum. A damaged weight would move every vector a little, and pass for another model; hence the
checksums are compared again before each loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from state.errors import Misconfigured

NAME = "clip-ViT-B-32"

REPOSITORIES = {"vision": "Qdrant/clip-ViT-B-32-vision", "text": "Qdrant/clip-ViT-B-32-text"}
"""The directory of each half of the model, and the repository its files come from."""

REQUIRED = {
    "vision": frozenset({"model.onnx", "preprocessor_config.json"}),
    "text": frozenset({"model.onnx", "tokenizer.json", "tokenizer_config.json"}),
}
OPTIONAL = frozenset({"config.json", "special_tokens_map.json"})

FETCH = "embedsync model fetch"
INSTALL = "pip install --require-hashes --no-deps -r requirements/all.lock"

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file as it was fetched; `size` is in bytes, `sha256` in hex."""

    size: int
    sha256: str


def model_directory(state_dir: Path) -> Path:
    """Return where the local CLIP lies: one for all folders of pictures."""
    return state_dir.expanduser() / "models" / NAME


def local_model(state_dir: Path) -> Path | None:
    """Return the directory of the local CLIP if it has been fetched whole; costs no reading of weights."""
    directory = model_directory(state_dir)
    try:
        files = read_manifest(directory)
        whole = all((directory / name).stat().st_size == file.size for name, file in files.items())
    except (OSError, Misconfigured):
        return None
    return directory if whole else None


def check(directory: Path) -> None:
    """Return if the model in `directory` is whole and undamaged; reads all of it.

    :raises Misconfigured: when it is not; the message says how to fetch it
    """
    for name, file in read_manifest(directory).items():
        path = directory / name
        try:
            if path.stat().st_size == file.size and sha256(path) == file.sha256:
                continue
            problem = "is damaged"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        raise Misconfigured("ENCODER", f"{path} {problem}: run `{FETCH}`")


def read_manifest(directory: Path) -> Mapping[str, ModelFile]:
    """Map the path of each file, relative to `directory`, to what it must be.

    :raises Misconfigured: when no model was fetched into `directory`, or not to its end
    """
    try:
        listed = json.loads((directory / _MANIFEST).read_text())["files"]
        files = {name: ModelFile(**file) for name, file in listed.items()}
    except FileNotFoundError:
        raise Misconfigured("ENCODER", f"there is no local model in {directory}: run `{FETCH}`") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Misconfigured("ENCODER", f"{directory / _MANIFEST} is damaged: run `{FETCH}`") from error
    if missing := {f"{half}/{name}" for half, names in REQUIRED.items() for name in names} - files.keys():
        raise Misconfigured("ENCODER", f"{directory} lacks {', '.join(sorted(missing))}: run `{FETCH}`")
    return files


def write_manifest(directory: Path, files: Mapping[str, ModelFile], origins: Mapping[str, str]) -> None:
    """Declare the model whole.

    :param origins: the address of each repository, with its commit; for people
    """
    written = {"model": NAME, "origins": origins, "files": {name: asdict(one) for name, one in files.items()}}
    partial = directory / f".{_MANIFEST}.part"
    partial.write_text(json.dumps(written, indent=1))
    partial.replace(directory / _MANIFEST)


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hint() -> str:
    """Return what whoever runs on the palette encoder is told: the one line that gets a real CLIP."""
    way = FETCH if find_spec("fastembed") else "`make model`, or docs/encoders.md"
    return f"palette knows colour, light and texture, and no objects; for a real CLIP: {way}"


def check_extra() -> None:
    """Return if the libraries that run the model are installed; imports nothing.

    :raises Misconfigured: when they are not
    """
    if find_spec("fastembed") is None:
        raise Misconfigured("ENCODER", f"onnx needs the extra `onnx`: {INSTALL}")
