from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from daemon.folder import samples
from daemon.pictures import CANDIDATE_SUFFIXES, decode
from state.errors import Misconfigured


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in CANDIDATE_SUFFIXES)


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    }


def test_the_samples_are_whole_photographs_in_projects_and_datasets(tmp_path: Path) -> None:
    count = samples.fill(tmp_path)
    found = pictures(tmp_path)
    assert count == len(found) >= 12
    for path in found:
        assert len(path.relative_to(tmp_path).parts) >= 3
        height, width, _ = decode(path.read_bytes(), 10_000).shape
        assert min(height, width) >= 140
    assert all(path in found for path in files(tmp_path))


def test_with_scikit_image_there_is_enough_to_search_among(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    assert 60 <= samples.fill(tmp_path) <= 150
    assert {path.name for path in tmp_path.iterdir()} == {"everyday", "science", "textures"}


def test_filling_again_touches_nothing(tmp_path: Path) -> None:
    count = samples.fill(tmp_path)
    before = files(tmp_path)
    assert samples.fill(tmp_path) == count
    assert files(tmp_path) == before


def test_what_is_missing_is_put_back_and_what_was_changed_is_kept(tmp_path: Path) -> None:
    count = samples.fill(tmp_path)
    mine, *gone = pictures(tmp_path)
    mine.write_bytes(b"mine")
    for path in gone[:5]:
        path.unlink()
    assert samples.fill(tmp_path) == count
    assert mine.read_bytes() == b"mine"


def test_a_half_written_file_has_no_picture_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def fail_half_way(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail_half_way)
    with pytest.raises(Misconfigured, match=r"IMAGES_DIR.*No space left"):
        samples.fill(tmp_path)
    assert pictures(tmp_path) == []
    assert len(files(tmp_path)) == 1
    monkeypatch.undo()
    samples.fill(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_scikit_learn_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = samples.find_spec
    monkeypatch.setattr(samples, "find_spec", lambda name: find(name) if name == "sklearn" else None)
    assert samples.fill(tmp_path) == 12


@pytest.mark.parametrize("spec", [None, ModuleSpec("empty", None)])
def test_without_photographs_a_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None
) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: spec)
    with pytest.raises(Misconfigured, match="IMAGES_DIR"):
        samples.fill(tmp_path)
