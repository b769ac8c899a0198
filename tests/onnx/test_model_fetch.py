import asyncio
import json
import os
from pathlib import Path

import pytest
from onnx_hub import COMMIT, TinyHub
from typer.testing import CliRunner

from daemon import model_commands
from daemon.command_line import MISCONFIGURED
from daemon.encoders import fetch as fetching
from daemon.encoders import models
from daemon.encoders.fetch import fetch
from daemon.encoders.onnx import OnnxEncoder
from state.errors import Inconsistent, Misconfigured, Occupied, Unavailable
from state.stores.lock import acquire

VISION = "vision/model.onnx"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return models.model_directory(tmp_path / "state")


class Pauses:
    """A sleep that takes no time and remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def size(hub: TinyHub, name: str = VISION) -> int:
    return (hub.directory / name).stat().st_size


async def test_what_was_fetched_is_whole_and_loads(hub: TinyHub, hub_url: str, target: Path) -> None:
    await fetch(target, hub_url)
    assert models.local_model(target.parent.parent) == target
    encoder = await OnnxEncoder.open(target, threads=1)
    await encoder.close()
    origins = json.loads((target / "manifest.json").read_text())["origins"]
    assert set(origins.values()) == {COMMIT}
    assert {path.name for path in target.rglob("*")} & {"README.md", "model.onnx"} == {"model.onnx"}
    assert not list(target.rglob("*.part"))


async def test_a_second_fetch_downloads_nothing(hub: TinyHub, hub_url: str, target: Path) -> None:
    await fetch(target, hub_url)
    sent = hub.sent.copy()
    await fetch(target, hub_url)
    assert hub.sent == sent


async def test_a_fetch_cut_half_way_goes_on_where_it_was(hub: TinyHub, hub_url: str, target: Path) -> None:
    hub.cuts[VISION] = [10_000]
    pauses = Pauses()
    await fetch(target, hub_url, sleep=pauses)
    assert hub.sent[VISION] == size(hub)
    assert pauses.seconds == [1]


async def test_a_fetch_that_was_killed_is_taken_up_by_the_next(
    hub: TinyHub, hub_url: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    hub.cuts[VISION] = [7_000]
    with pytest.raises(Unavailable, match="goes on where it is"):
        await fetch(target, hub_url)
    assert models.local_model(target.parent.parent) is None
    await fetch(target, hub_url)
    assert hub.sent == {name: size(hub, name) for name in hub.sent}
    assert models.local_model(target.parent.parent) == target


async def test_a_server_without_ranges_starts_over(hub: TinyHub, hub_url: str, target: Path) -> None:
    hub.ranges = False
    hub.cuts[VISION] = [5_000]
    await fetch(target, hub_url, sleep=Pauses())
    assert hub.sent[VISION] == 5_000 + size(hub)
    models.check(target)


@pytest.mark.parametrize("name", [VISION, "text/tokenizer.json", "text/config.json"])
async def test_a_file_that_is_not_what_was_announced_is_refused(
    hub: TinyHub, hub_url: str, target: Path, name: str
) -> None:
    hub.damaged.add(name)
    with pytest.raises(Inconsistent, match="checksum"):
        await fetch(target, hub_url)
    assert not (target / name).exists()
    assert not list(target.rglob("*.part"))
    assert models.local_model(target.parent.parent) is None
    hub.damaged.clear()
    await fetch(target, hub_url)
    models.check(target)


async def test_a_file_longer_than_announced_is_refused(hub: TinyHub, hub_url: str, target: Path) -> None:
    hub.announced = 5
    with pytest.raises(Inconsistent, match="longer"):
        await fetch(target, hub_url)


async def test_a_damaged_file_alone_is_fetched_again(hub: TinyHub, hub_url: str, target: Path) -> None:
    await fetch(target, hub_url)
    hub.sent.clear()
    data = (target / VISION).read_bytes()
    (target / VISION).write_bytes(data[:-1] + b"\0")
    await fetch(target, hub_url)
    assert hub.sent == {VISION: size(hub)}
    models.check(target)


async def test_the_rest_of_another_version_is_not_gone_on_with(
    hub: TinyHub, hub_url: str, target: Path
) -> None:
    (target / "vision").mkdir(parents=True)
    (target / "vision/.model.onnx.0123456789abcdef.part").write_bytes(b"old")
    await fetch(target, hub_url)
    assert hub.sent[VISION] == size(hub)
    assert not list(target.rglob("*.part"))


async def test_what_passes_is_waited_for(hub: TinyHub, hub_url: str, target: Path) -> None:
    hub.refusals = [503, 429, 500]
    pauses = Pauses()
    await fetch(target, hub_url, sleep=pauses)
    assert pauses.seconds == [1, 2, 4]


async def test_a_hub_that_stays_away_is_unavailable_and_its_password_unsaid(target: Path) -> None:
    pauses = Pauses()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9") as caught:
        await fetch(target, "http://somebody:secret@127.0.0.1:9", sleep=pauses)
    assert "secret" not in str(caught.value)
    assert len(pauses.seconds) == fetching.ATTEMPTS - 1


@pytest.mark.parametrize("source", ["ftp://example.org", "no address", "https://", "http://a:b"])
async def test_an_address_that_cannot_be_meant_is_misconfigured(target: Path, source: str) -> None:
    with pytest.raises(Misconfigured, match="http"):
        await fetch(target, source)


async def test_what_is_no_hub_is_misconfigured(hub_url: str, target: Path) -> None:
    with pytest.raises(Misconfigured, match="answers 404"):
        await fetch(target, f"{hub_url}/elsewhere")


UNCHECKED = {"rfilename": "model.onnx", "size": 1}
ODD = {"rfilename": "model.onnx", "size": 1, "blobId": "../../elsewhere"}


@pytest.mark.parametrize(
    "answer",
    [{}, [], {"sha": COMMIT, "siblings": [UNCHECKED]}, {"sha": COMMIT, "siblings": [ODD]}],
    ids=["nothing", "a list", "no checksum", "no checksum but a path"],
)
async def test_an_answer_that_is_no_listing_is_misconfigured(
    hub: TinyHub, hub_url: str, target: Path, answer: object
) -> None:
    hub.listing = answer
    with pytest.raises(Misconfigured, match="does not answer as a Hugging Face hub"):
        await fetch(target, hub_url)


async def test_a_repository_that_lacks_a_file_is_misconfigured(
    hub: TinyHub, hub_url: str, target: Path
) -> None:
    (hub.directory / "text/tokenizer.json").unlink()
    with pytest.raises(Misconfigured, match=r"lists no tokenizer\.json"):
        await fetch(target, hub_url)


async def test_a_disk_without_room_is_said_before_anything_is_downloaded(
    hub: TinyHub, hub_url: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: Full)
    with pytest.raises(Misconfigured, match="MiB free"):
        await fetch(target, hub_url)
    assert not hub.asked


class Full:
    free = 10


async def test_a_directory_that_cannot_be_made_is_misconfigured(tmp_path: Path, hub_url: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="--directory"):
        await fetch(tmp_path / "file/model", hub_url)


async def test_two_do_not_fetch_into_one_directory(hub_url: str, target: Path) -> None:
    target.mkdir(parents=True)
    held = acquire(target / ".lock")
    with pytest.raises(Occupied):
        await fetch(target, hub_url)
    os.close(held)


async def test_progress_is_counted_in_bytes_up_to_the_end(hub: TinyHub, hub_url: str, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    await fetch(target, hub_url, lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in hub.directory.rglob("*") if path.is_file())
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


async def command(*words: str, state_dir: Path) -> tuple[int, str]:
    """Run it in a thread, for the hub is served by this loop."""
    told = {"STATE_DIR": str(state_dir)}
    result = await asyncio.to_thread(CliRunner().invoke, model_commands.app, words, env=told)
    return result.exit_code, result.output


async def test_the_command_fetches_to_where_the_daemon_looks(
    hub: TinyHub, hub_url: str, tmp_path: Path
) -> None:
    where = models.model_directory(tmp_path)
    code, output = await command("path", state_dir=tmp_path)
    assert (code, output.strip()) == (1, str(where))
    code, output = await command("fetch", "--from", hub_url, state_dir=tmp_path)
    assert (code, f"The model is in {where}" in output) == (0, True)
    assert (await command("path", state_dir=tmp_path))[0] == 0


async def test_the_command_fetches_elsewhere_without_the_extra(
    hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    code, output = await command("fetch", "--from", hub_url, state_dir=tmp_path)
    assert (code, "requirements/all.lock" in output) == (MISCONFIGURED, True)
    code, output = await command(
        "fetch", "--from", hub_url, "--directory", str(tmp_path / "usb"), state_dir=tmp_path
    )
    assert code == 0
    models.check(tmp_path / "usb")
