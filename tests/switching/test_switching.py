"""Another encoder takes over while everything runs: nothing goes dark, and nothing is mixed."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
import pytest
from clip_emulator import ClipEmulator, Fault
from folder_daemon import Running, paint
from switched_folder import ALL, CATS

from daemon import recognition
from state.model import Within


async def test_clip_takes_over_from_palette_project_by_project_and_no_search_stops(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start()
    await running.settled()
    [image_id, *_] = await running.ids("cats")
    clip.seconds = 0.1
    await running.restart(clip, encoder="clip", encode_batch=8)
    assert await running.answering() == {"palette-199-1"}
    answered = set()
    while await running.answering() != {"clip-64-1"}:
        status, found = await running.post("/search", project_id="cats", by_image_ids=[image_id], limit=5)
        assert (status, len(found["items"])) == (200, 5)
        status, found = await running.post("/search", project_id="dogs", prompt="red", limit=5)
        assert (status, len(found["items"])) == (200, 5)
        status, found = await running.post("/diverse", project_id="dogs", sample_size=3)
        assert (status, len(found["items"])) == (200, 3)
        answered |= await running.answering()
        await asyncio.sleep(0.02)
    assert "palette-199-1" in answered
    await running.settled()
    assert await running.foreign("clip-64-1", 0) == []
    encoder = (await running.get("/encoders"))["encoders"][0]
    assert (encoder["id"], encoder["projects"], encoder["images"]) == ("clip-64-1", 2, ALL)


async def test_the_model_behind_the_url_changes_while_it_is_at_work(
    running: Running, clip: ClipEmulator
) -> None:
    clip.seconds = 0.1
    await running.start(clip, encode_batch=8)
    await running.until(lambda: _has(running, "clip-64-1", 16))
    clip.model = 1
    [image_id, *_] = await running.ids("cats")
    while "clip-64-2" not in await running.answering():
        status, _ = await running.post("/diverse", project_id="cats", sample_size=3)
        assert status in (200, 404)
        if running.parts.encoder.id == "clip-64-2":
            assert await running.foreign("clip-64-1", 0) == []
        await asyncio.sleep(0.1)
    await running.settled()
    assert await running.foreign("clip-64-1", 0) == []
    assert await running.foreign("clip-64-2", 1) == []
    status, found = await running.post("/search", project_id="cats", by_image_ids=[image_id], limit=5)
    assert (status, len(found["items"])) == (200, 5)


async def test_texts_wait_for_the_first_project_and_say_how_far_it_is(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip, encode_batch=4)
    await running.settled()
    await running.vouched_for()
    clip.seconds, clip.model = 0.1, 1
    await running.until(lambda: _at_work(running, "clip-64-2"))
    said = []
    while (answer := await running.post("/search", project_id="cats", prompt="a red cat"))[0] != 200:
        status, body = answer
        assert status == 503
        said.append(body["message"])
        found = await running.post("/search", project_id="cats", by_image_ids=(await running.ids("cats"))[:1])
        assert found[0] == 200
        await asyncio.sleep(0.05)
    assert any(f"of {CATS} images are ready" in message for message in said), said
    assert {"clip-64-2"} <= await running.answering()


async def test_the_project_that_is_searched_comes_first(running: Running, clip: ClipEmulator) -> None:
    for number in range(6):
        paint(running.pictures / f"more-{number}", range(1000 * number, 1000 * number + 8))
    await running.start(clip, encode_batch=8, sync_concurrency=1)
    await running.settled()
    await running.vouched_for()
    clip.seconds, clip.model = 0.2, 1
    await running.until(lambda: _at_work(running, "clip-64-2"))
    await running.post("/search", project_id="more-5", prompt="a red cat")
    project = await running.parts.source.project("more-5")
    assert project
    moved: list[int] = []

    async def its_turn() -> bool:
        pointers = await running.parts.store.pointers()
        moved[:] = [one for one, encoder in pointers.items() if encoder == "clip-64-2"]
        return project.id in moved

    await running.until(its_turn)
    assert len(moved) <= 3


async def test_going_back_is_one_command_and_lasts(running: Running, clip: ClipEmulator) -> None:
    await running.start(clip)
    await running.settled()
    await running.vouched_for()
    clip.model = 1
    await running.until(lambda: _at_work(running, "clip-64-2"))
    await running.settled()
    status, answer = await running.post("/encoders/use", encoder_id="clip-64-1")
    assert (status, answer["count"]) == (200, 2)
    running.parts.surveys.want_sweep()
    await running.parts.surveys.survey()
    await running.parts.controller.idle()
    assert await running.answering() == {"clip-64-1"}
    await running.restart(clip)
    await running.until(lambda: _at_work(running, "clip-64-2"))
    await running.parts.surveys.survey()
    await running.parts.controller.idle()
    assert await running.answering() == {"clip-64-1"}
    await running.post("/encoders/use")
    await running.settled()
    assert await running.answering() == {"clip-64-2"}


async def test_the_old_model_that_comes_back_encodes_only_what_changed(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip)
    await running.settled()
    await running.vouched_for()
    clip.model = 1
    await running.until(lambda: _at_work(running, "clip-64-2"))
    await running.settled()
    paint(running.pictures / "cats", [999])
    await running.until(lambda: _has(running, "clip-64-2", ALL + 1))
    await running.settled()
    await running.vouched_for()
    before = running.encoded
    clip.model = 0
    await running.until(lambda: _at_work(running, "clip-64-1"))
    await running.settled()
    assert running.encoded - before == 1


async def test_what_happens_to_images_meanwhile_happens_in_the_old_collection_too(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip, encode_batch=4)
    await running.settled()
    files = {one.name: one for one in (running.pictures / "cats").iterdir()}
    await running.vouched_for()
    clip.seconds, clip.model = 0.3, 1
    await running.until(lambda: _at_work(running, "clip-64-2"))
    await clip.stop()
    files["3.png"].unlink()
    files["4.png"].rename(files["4.png"].with_name("renamed.png"))
    files["5.png"].write_bytes(files["6.png"].read_bytes()[:-1] + b"\0\0")
    project = await running.parts.source.project("cats")
    assert project

    async def kept_true() -> bool:
        pages = running.parts.store.scroll("clip-64-1", project.id)
        names = {one.name for page in [page async for page in pages] for one in page}
        return {"renamed.png"} <= names and not {"3.png", "4.png", "5.png"} & names

    await running.until(kept_true)
    assert await running.answering() == {"clip-64-1"}


async def test_a_switch_that_is_interrupted_again_and_again_goes_on(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip, encode_batch=4, encode_concurrency=1)
    await running.settled()
    await running.vouched_for()
    before, lives = running.encoded, []
    clip.seconds, clip.model = 0.1, 1
    for stop_at in (8, 16, 24, 32):
        await running.until(partial(_has, running, "clip-64-2", stop_at))
        await running.stop()
        lives.append(running.encoded)
        await running.start(clip)
    await running.settled()
    assert await running.foreign("clip-64-2", 1) == []
    assert min(lives[1:]) > 0
    assert sum(lives) + running.encoded - before == ALL
    assert await running.count("clip-64-1") == ALL


async def test_vectors_that_tell_nothing_apart_do_not_take_over(
    running: Running, clip: ClipEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.start(clip)
    await running.settled()
    await running.vouched_for()
    same = np.ones(64, np.float32)
    monkeypatch.setattr("clip_emulator.model.Model.of_picture", lambda self, pixels: same)
    clip.model = 1
    await running.until(lambda: _at_work(running, "clip-64-2"))

    async def refused() -> bool:
        states = (await running.get("/status"))["projects"]
        return all("most images have the same vector" in (one["waiting_for"] or "") for one in states)

    await running.until(refused)
    assert await running.answering() == {"clip-64-1"}


async def test_an_encoder_that_nobody_uses_is_forgotten_after_its_time(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip, keep_old_hours=0.0)
    await running.settled()
    await running.vouched_for()
    clip.model = 1
    await running.until(lambda: _at_work(running, "clip-64-2"))
    await running.settled()

    async def forgotten() -> bool:
        running.parts.surveys.want()
        return [one.id for one in await running.parts.store.encoders()] == ["clip-64-2"]

    await running.until(forgotten)


async def test_clip_away_is_a_brownout_and_what_waited_goes_on_by_itself(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip)
    await running.settled()
    await clip.stop()
    [image_id, *_] = await running.ids("cats")
    paint(running.pictures / "cats", range(200, 210))
    status, answer = await running.post("/search", project_id="cats", prompt="a cat")
    assert (status, "clip" in answer["message"]) == (503, True)
    for path, body in (
        ("/search", {"by_image_ids": [image_id]}),
        ("/diverse", {"sample_size": 3}),
        ("/clusters", {"num_clusters": 2}),
    ):
        assert (await running.post(path, project_id="cats", **body))[0] == 200
    assert (await running.get("/health"))["status"] == "degraded"

    async def waits() -> bool:
        states = (await running.get("/status"))["projects"]
        [cats] = [one for one in states if one["name"] == "cats"]
        return "clip" in (cats["waiting_for"] or "") and cats["stale"] == 10

    await running.until(waits)
    await clip.start()
    await running.settled()
    assert await running.count("clip-64-1") == ALL + 10
    assert (await running.post("/search", project_id="cats", prompt="a cat"))[0] == 200


async def test_without_clip_at_the_start_everything_else_is_served(
    running: Running, clip: ClipEmulator
) -> None:
    await running.start(clip)
    await running.settled()
    await clip.stop()
    await running.restart(clip)
    [image_id, *_] = await running.ids("cats")
    assert (await running.post("/search", project_id="cats", by_image_ids=[image_id]))[0] == 200
    assert (await running.get("/readyz"))["status"] == "ready"
    assert "clip" in (await running.get("/health"))["checks"]
    await clip.start()
    await running.settled()


async def test_of_three_addresses_one_dies_and_the_others_take_over_within_a_second(
    running: Running, clip: ClipEmulator
) -> None:
    async with ClipEmulator(dimension=64) as second, ClipEmulator(dimension=64) as third:
        clips = clip, second, third
        for one in clips:
            one.seconds = 0.1
        await running.start(*clips, encode_batch=4, encode_concurrency=6)
        await running.until(lambda: _has(running, "clip-64-1", 12))
        await running.until(lambda: _has_in_hand(second, 2))  # of which one may be its canaries
        await second.stop()
        async with asyncio.timeout(3):  # a second, on a machine that does nothing else
            await running.until(lambda: _has(running, "clip-64-1", ALL))
        await running.settled()
        assert await running.foreign("clip-64-1", 0) == []
        assert (await running.get("/status"))["projects"][0]["quarantined"] == 0


async def test_an_address_that_runs_another_model_is_left_out_and_named(
    running: Running, clip: ClipEmulator
) -> None:
    async with ClipEmulator(1, dimension=64) as other:
        await running.start(clip, other)
        await running.settled()
        assert await running.foreign("clip-64-1", 0) == []
        places = (await running.get("/encoders"))["addresses"]
        assert {place["problem"] for place in places} == {None, "it runs another model"}


async def test_a_503_every_third_time_delays_and_harms_nothing(running: Running, clip: ClipEmulator) -> None:
    clip.faults.add(Fault("status", every=3))
    await running.start(clip, encode_batch=8)
    await running.settled()
    assert await running.foreign("clip-64-1", 0) == []
    assert await running.count("clip-64-1") == ALL


async def test_without_a_change_nothing_is_encoded_twice(running: Running, clip: ClipEmulator) -> None:
    await running.start(clip)
    await running.settled()
    assert running.encoded == ALL
    await asyncio.sleep(2 * recognition.BUSY_CHECK_SECONDS)
    await running.restart(clip)
    await running.settled()
    assert running.encoded == 0
    project = await running.parts.source.project("cats")
    assert project
    assert await running.parts.store.count("clip-64-1", Within(project.id)) == CATS


async def _has(running: Running, encoder_id: str, images: int) -> bool:
    known = [one.id for one in await running.parts.store.encoders()]
    return encoder_id in known and await running.count(encoder_id) >= images


async def _has_in_hand(clip: ClipEmulator, requests: int) -> bool:
    return clip.requests - clip.batches >= requests


async def _at_work(running: Running, encoder_id: str) -> bool:
    return running.parts.encoder.id == encoder_id
