"""What is found in a directory tree, whatever is in it."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from daemon.folder.listing import Stamp, inside, outermost, path_id, project_of, shown
from daemon.folder.scan import Folder, Seen
from daemon.pictures import content_hash
from state.errors import Inconsistent, Rejected, Unavailable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def folder(root: Path) -> Folder:
    return Folder(root)


def write(root: Path, name: str | bytes, data: bytes = b"picture") -> Path:
    path = root / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def found(folder: Folder, top: bytes = b"p") -> set[bytes]:
    return {entry.path for entry in folder.walk(top, Seen())}


def test_pictures_are_found_by_suffix_in_either_case_at_any_depth(root: Path, folder: Folder) -> None:
    names = ["p/a.jpg", "p/b.JPEG", "p/d/c.Png", "p/d/e/f/g.webp"]
    others = ["p/readme.txt", "p/a.jpg.json", "p/jpg", "p/d/movie.mp4", "p/x.jpg~", "q/z.jpg"]
    for name in names + others:
        write(root, name)
    assert found(folder) == {name.encode() for name in names}


def test_what_is_hidden_is_not_looked_at(root: Path, folder: Folder) -> None:
    for name in ("p/.a.jpg", "p/._a.jpg", "p/.git/a.jpg", "p/d/.thumbs/b.jpg", ".p/a.jpg", "p/.jpg"):
        write(root, name)
    write(root, "p/not.hidden.jpg")
    assert found(folder) == {b"p/not.hidden.jpg"}
    assert folder.projects() == [b"p"]


@pytest.mark.parametrize(
    "name",
    [
        b"line\nbreak.jpg",
        b"\xff\xfe.jpg",
        b"\xed\xa0\x80.jpg",
        "😀 ü 图.jpg".encode(),
        b"e\xcc\x81.jpg",
        b" .jpg",
        b"-rf *.jpg",
        b"quote'\".jpg",
        b"%s{}.jpg",
        b"\\xff.jpg",
        b"x" * 251 + b".jpg",
    ],
)
def test_any_name_the_file_system_takes_is_found_read_and_shown(
    root: Path, folder: Folder, name: bytes
) -> None:
    write(root, b"p/" + name, b"bytes of " + name)
    (entry,) = folder.walk(b"p", Seen())
    assert entry.path == b"p/" + name
    assert folder.content(entry.path, entry.stamp) == content_hash(b"bytes of " + name)
    assert folder.read(entry.path, 1_000) == b"bytes of " + name
    shown(entry.path).encode()


def test_names_that_look_alike_have_ids_of_their_own() -> None:
    names = [b"\xff.jpg", b"\\xff.jpg", b"\xc3\xa9.jpg", b"e\xcc\x81.jpg", b"E.jpg", b"e.jpg"]
    assert len({path_id(name) for name in names}) == len(names)
    assert all(0 < path_id(name) < 2**48 for name in names)


def test_a_link_is_followed_to_a_file_inside_and_nowhere_else(root: Path, folder: Folder) -> None:
    outside = write(root.parent, "outside/secret.jpg")
    write(root, "p/real.jpg")
    (root / "p/inside.jpg").symlink_to("real.jpg")
    (root / "p/out.jpg").symlink_to(outside)
    (root / "p/out_again.jpg").symlink_to("../../outside/secret.jpg")
    (root / "p/dangling.jpg").symlink_to("nothing.jpg")
    (root / "p/folder").symlink_to(outside.parent)
    (root / "p/folder.jpg").symlink_to(".")
    (root / "project").symlink_to(outside.parent)
    assert found(folder) == {b"p/real.jpg", b"p/inside.jpg"}
    assert folder.projects() == [b"p"]


def test_a_link_that_goes_round_in_circles_leads_nowhere(root: Path, folder: Folder) -> None:
    write(root, "p/real.jpg")
    (root / "p/self.jpg").symlink_to("self.jpg")
    (root / "p/one.jpg").symlink_to("two.jpg")
    (root / "p/two.jpg").symlink_to("one.jpg")
    (root / "p/long.jpg").symlink_to("x" * 300)
    (root / "p/up").symlink_to("..")
    assert found(folder) == {b"p/real.jpg"}


def test_a_file_that_became_a_link_out_is_not_read(root: Path, folder: Folder) -> None:
    outside = write(root.parent, "outside/secret.jpg", b"secret")
    (root / "p").mkdir()
    (root / "p/a.jpg").symlink_to(outside)
    with pytest.raises(Rejected, match="link"):
        folder.read(b"p/a.jpg", 100)
    assert folder.content(b"p/a.jpg", Stamp(1, 2, 3, 4)) != content_hash(b"secret")


def test_pipes_sockets_and_folders_named_like_pictures_are_no_pictures(root: Path, folder: Folder) -> None:
    write(root, "p/folder.jpg/inside.jpg")
    os.mkfifo(root / "p/pipe.jpg")
    os.mknod(root / "p/socket.jpg", stat.S_IFSOCK | 0o600)
    assert found(folder) == {b"p/folder.jpg/inside.jpg"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_file_that_became_something_else_holds_nobody_up(
    root: Path, folder: Folder, make: Callable[[Path], None]
) -> None:
    (root / "p").mkdir()
    make(root / "p/a.jpg")
    handles = len(os.listdir("/proc/self/fd"))
    with suppress(Unavailable):
        assert folder.read(b"p/a.jpg", 100) == b""
    folder.content(b"p/a.jpg", Stamp(1, 2, 3, 4))
    assert len(os.listdir("/proc/self/fd")) == handles


def test_a_file_over_the_limit_is_rejected_after_reading_no_more_than_that(
    root: Path, folder: Folder
) -> None:
    write(root, "p/a.jpg", b"x" * 100)
    assert folder.read(b"p/a.jpg", 100) == b"x" * 100
    with pytest.raises(Rejected, match="limit of 99 bytes"):
        folder.read(b"p/a.jpg", 99)


def test_a_file_that_went_is_an_inconsistency(root: Path, folder: Folder) -> None:
    with pytest.raises(Inconsistent, match="gone"):
        folder.read(b"p/a.jpg", 100)


def fail_for(path: bytes, call: Callable[..., object], number: int) -> Callable[..., object]:
    """Return the call, failing for one path; a superuser may read everything, so failures are made."""

    def failing(where: bytes, *args: object, **named: object) -> object:
        if where == path:
            raise OSError(number, os.strerror(number), where)
        return call(where, *args, **named)

    return failing


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize(
    ("call", "path", "unknown"),
    [("scandir", b"p/d", b"p/d"), ("scandir", b"p", b"p"), ("lstat", b"p/d/a.jpg", b"p/d")],
)
def test_a_folder_that_cannot_be_read_is_unknown_and_the_others_are_found(
    root: Path,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    call: str,
    path: bytes,
    unknown: bytes,
) -> None:
    for name in ("p/d/a.jpg", "p/d/c.jpg", "p/b.jpg", "p/e/f/g.jpg"):
        write(root, name)
    monkeypatch.setattr(os, call, fail_for(os.path.join(folder.root, path), getattr(os, call), number))
    seen = Seen()
    paths = {entry.path for entry in folder.walk(b"p", seen)}
    assert seen.unknown == {unknown: f"{folder.shown(path)}: {os.strerror(number)}"}
    if unknown == b"p/d":
        assert paths >= {b"p/b.jpg", b"p/e/f/g.jpg"}


def test_a_folder_whose_files_do_not_answer_is_asked_once(
    root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write(root, f"p/d/{number}.jpg")
    write(root, "p/e/a.jpg")
    asked, lstat = [], os.lstat

    def slow_to_fail(where: bytes) -> os.stat_result:
        if b"/p/d/" in where:
            asked.append(where)
            raise OSError(errno.EIO, os.strerror(errno.EIO), where)
        return lstat(where)

    monkeypatch.setattr(os, "lstat", slow_to_fail)
    assert found(folder) == {b"p/e/a.jpg"}
    assert len(asked) == 1


def test_folders_on_another_device_are_mounts_and_empty_ones_that_are_not_are_emptied(
    root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "p/d/e/a.jpg")
    write(root, "p/f/b.jpg")
    (root / "p/g").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "_device", lambda _, path: 1 + (b"p/d" in path) + (path == b"p/g"))
        for _ in folder.walk(b"p", seen := Seen()):
            pass
        assert seen.mounts == {b"p/d", b"p/g"}
        assert not folder.is_emptied(b"p/g")
    emptied = [path for path in (b"p/d", b"p/f", b"p/g", b"p/nowhere") if folder.is_emptied(path)]
    assert emptied == [b"p/g"]


@pytest.mark.parametrize(
    ("path", "folders", "lies_inside"),
    [
        (b"p/d/a.jpg", [b"p/d"], True),
        (b"p/d/e/a.jpg", [b"p"], True),
        (b"p/dd/a.jpg", [b"p/d"], False),
        (b"p/d", [b"p/d"], False),
        (b"a.jpg", [b""], True),
        (b"a.jpg", [], False),
    ],
)
def test_a_path_lies_in_each_folder_on_its_way(path: bytes, folders: list[bytes], lies_inside: bool) -> None:
    assert inside(path, folders) is lies_inside


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR])
def test_a_folder_that_vanishes_under_way_is_passed_over(
    root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write(root, "p/d/a.jpg")
    write(root, "p/b.jpg")
    monkeypatch.setattr(os, "scandir", fail_for(folder.root + b"/p/d", os.scandir, number))
    assert found(folder) == {b"p/b.jpg"}


def test_problems_are_told_in_valid_text(root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, b"p/\xff/a.jpg")
    monkeypatch.setattr(os, "scandir", fail_for(folder.root + b"/p/\xff", os.scandir, errno.EIO))
    for _ in folder.walk(b"p", seen := Seen()):
        pass
    (problem,) = seen.unknown.values()
    assert problem.encode()


def test_an_unreadable_file_has_a_content_of_its_own_that_changes_with_its_stamp(
    root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "p/a.jpg")
    monkeypatch.setattr(os, "open", fail_for(folder.root + b"/p/a.jpg", os.open, errno.EACCES))
    one, other = (folder.content(b"p/a.jpg", Stamp(size, 2, 3, 4)) for size in (1, 2))
    assert one != other
    assert one != content_hash(b"picture")
    with pytest.raises(Rejected, match="Permission denied"):
        folder.read(b"p/a.jpg", 100)


def test_the_stamp_changes_whenever_the_bytes_may_have(root: Path, folder: Folder) -> None:
    path = write(root, "p/a.jpg", b"old")
    before = folder.look(b"p/a.jpg")
    kept = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    after = folder.look(b"p/a.jpg")
    assert before is not None
    assert after is not None
    assert (before.stamp.size, before.stamp.mtime_ns) == (after.stamp.size, after.stamp.mtime_ns)
    assert before != after


def test_pictures_in_the_root_form_the_project_default(root: Path, folder: Folder) -> None:
    write(root, "b/x.jpg")
    (root / "a").mkdir()
    assert folder.projects() == [b"a", b"b"]
    write(root, "loose.jpg")
    assert folder.projects() == [b"a", b"b", b"default"]
    write(root, "default/sub/y.jpg")
    assert folder.projects() == [b"a", b"b", b"default"]
    assert {entry.path for entry in folder.walk_project(b"default", Seen())} == {
        b"loose.jpg",
        b"default/sub/y.jpg",
    }
    assert {entry.path for entry in folder.walk_project(b"b", Seen())} == {b"b/x.jpg"}


@pytest.mark.parametrize(
    ("path", "project"), [(b"a.jpg", b"default"), (b"p/a.jpg", b"p"), (b"p/d/e/a.jpg", b"p")]
)
def test_a_files_project_is_the_first_folder_on_its_way(path: bytes, project: bytes) -> None:
    assert project_of(path) == project


def test_a_root_that_is_gone_proves_nothing(root: Path, folder: Folder) -> None:
    root.rmdir()
    with pytest.raises(Unavailable):
        folder.check_root()
    assert folder.identity() is None
    assert folder.has_project(b"p")


@pytest.mark.parametrize("left", [None, ".keep"])
def test_a_root_without_anything_visible_proves_nothing(root: Path, folder: Folder, left: str | None) -> None:
    if left:
        write(root, left)
    with pytest.raises(Inconsistent, match="empty"):
        folder.check_root()
    write(root, "notes.txt")
    folder.check_root()


def test_another_directory_in_the_place_of_the_root_is_told_from_it(root: Path, folder: Folder) -> None:
    before = folder.identity()
    root.rename(root.with_name("kept"))
    root.mkdir()
    assert folder.identity() != before


def test_no_more_than_one_directory_is_open_at_a_time(root: Path, folder: Folder) -> None:
    write(root, "p/" + "d/" * 40 + "a.jpg")
    most = 0
    before = len(os.listdir("/proc/self/fd"))
    for _ in folder.walk(b"p", Seen()):
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert most <= 1


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        ([], []),
        ([b"a/b", b"a", b"a/b/c"], [b"a"]),
        ([b"a", b"a-b", b"a.b", b"ab"], [b"a-b", b"a.b", b"a", b"ab"]),
        ([b"a/b", b"a/c", b"b"], [b"a/b", b"a/c", b"b"]),
    ],
)
def test_folders_within_others_are_not_walked_twice(paths: list[bytes], kept: list[bytes]) -> None:
    assert outermost(paths) == kept
