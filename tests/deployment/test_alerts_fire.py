"""What an alert is about happens to a running daemon, and the series that the alert looks at moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clip_emulator import ClipEmulator
from folder_daemon import Running, paint
from prometheus_client.parser import text_string_to_metric_families
from test_monitoring import alerts


class Watched(Running):
    """A daemon whose metrics are read."""

    async def series(self, name: str, **labels: str) -> float:
        """Return the sum of a series over all labels but these."""
        async with self._http.get("/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(one.value for one in samples if labels.items() <= one.labels.items())


@pytest.fixture
async def clip() -> AsyncIterator[ClipEmulator]:
    async with ClipEmulator() as running:
        yield running


@pytest.fixture
async def daemon(tmp_path: Path, clip: ClipEmulator) -> AsyncIterator[Watched]:
    """A daemon with five pictures embedded by CLIP."""
    running = Watched(tmp_path)
    paint(running.pictures / "trip", range(5))
    await running.start(clip)
    await running.settled()
    yield running
    await running.stop()


def looks_at(alert: str) -> str:
    (expression,) = [one["expr"] for one in alerts() if one["alert"] == alert]
    return str(expression)


async def test_while_clip_is_away_images_grow_stale_it_is_named_and_searches_by_text_fail(
    daemon: Watched, clip: ClipEmulator
) -> None:
    assert await daemon.series("embedsync_circuit_open", service="clip") == 0
    await clip.stop()
    paint(daemon.pictures / "trip", range(5, 9))
    assert "embedsync_circuit_open" in looks_at("EmbedsyncServiceAway")
    await daemon.until(lambda: daemon.series("embedsync_circuit_open", service="clip"))
    assert "embedsync_oldest_stale_seconds" in looks_at("EmbedsyncStale")
    await daemon.until(lambda: daemon.series("embedsync_oldest_stale_seconds"))
    assert await daemon.series("embedsync_images_stale") == 4
    assert (await daemon.post("/search", project_id="trip", prompt="never asked before"))[0] == 503
    assert "embedsync_request_seconds_count" in looks_at("EmbedsyncRequestsFail")
    assert await daemon.series("embedsync_request_seconds_count", route="/search", status="503") == 1


async def test_a_batch_that_clip_refuses_counts_as_one(daemon: Watched, clip: ClipEmulator) -> None:
    clip.refuses = lambda pixels: True
    paint(daemon.pictures / "trip", range(5, 9))
    assert 'embedsync_encoder_batches_total{outcome!="encoded"}' in looks_at("EmbedsyncEncoderFails")
    await daemon.until(lambda: daemon.series("embedsync_encoder_batches_total", outcome="rejected"))


async def test_damaged_pictures_are_counted(daemon: Watched) -> None:
    assert "embedsync_images_quarantined" in looks_at("EmbedsyncQuarantineGrows")
    for number in range(3):
        (daemon.pictures / "trip" / f"damaged{number}.png").write_bytes(b"no picture at all")
    await daemon.until(lambda: daemon.series("embedsync_images_quarantined"))


async def test_removals_are_counted_while_they_are_held_and_no_longer(daemon: Watched) -> None:
    assert "embedsync_removals_held" in looks_at("EmbedsyncRemovalsHeld")
    (number,) = daemon.parts.surveys.projects
    await daemon.parts.controller._journal.hold(number, [1, 2], 0.0)
    assert await daemon.series("embedsync_removals_held") == 2
    status, answer = await daemon.post("/removals/cancel", project_id=number)
    assert (status, answer["count"]) == (200, 2)
    assert await daemon.series("embedsync_removals_held") == 0
