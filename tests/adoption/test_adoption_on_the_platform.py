"""The whole way: a platform, its CLIP, a server with the earlier service's collections, and a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from clip_emulator import ClipEmulator, Model
from platform_emulator import Emulator
from qdrant_client import AsyncQdrantClient, models
from qdrant_emulator import QdrantEmulator

from daemon.adopting import adopt_all, open_incumbent
from daemon.adoption import Adopted
from daemon.pictures import decode
from daemon.service import synchronising
from daemon.settings import Settings
from daemon.wiring import Parts, wired
from state.errors import Misconfigured, Rejected
from state.model import Within

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

PREVIEW = "q/ext:jpeg/resize:fit:224:224:0/q:70/plain"
IMAGES = 40
PATIENCE = 20.0


@pytest.fixture
async def clip() -> AsyncIterator[ClipEmulator]:
    async with ClipEmulator() as running:
        yield running


@pytest.fixture
def settings(
    emulator: Emulator,
    sly: Any,
    clip: ClipEmulator,
    qdrant: QdrantEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    monkeypatch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "1")
    return Settings(
        source="supervisely",
        server_address=emulator.address,
        api_token=emulator.world.admin_token,
        clip_host=clip.url,
        qdrant_host=qdrant.url,
        state_dir=tmp_path / "state",
        news_seconds=0.2,
    )


async def embed_as_before(emulator: Emulator, url: str, project_id: int, model: int = 0) -> None:
    """Do what the earlier service does with a project: fetch previews, encode them, store the vectors."""
    world, maker = emulator.world, Model(model)
    images = [world.images[one] for one in world.image_ids(project_id)]
    vectors, payloads = [], []
    async with aiohttp.ClientSession() as session:
        for image in images:
            row = await listed(emulator, session, project_id, image.id)
            path = row["fullStorageUrl"].removeprefix(emulator.address)
            async with session.get(f"{emulator.address}/previews/{PREVIEW}{path}") as answer:
                vectors.append(maker.of_picture(decode(await answer.read(), 224)).tolist())
            payloads.append(
                {
                    "dataset_id": row["datasetId"],
                    "full_url": row["fullStorageUrl"],
                    "cas_url": row["fullStorageUrl"],
                    "updated_at": row["updatedAt"],
                }
            )
    client = AsyncQdrantClient(url, check_compatibility=False)
    await client.create_collection(
        str(project_id), vectors_config=models.VectorParams(size=512, distance=models.Distance.COSINE)
    )
    await client.create_payload_index(str(project_id), "dataset_id", models.PayloadSchemaType.KEYWORD)
    points = [
        models.PointStruct(id=image.id, vector=vector, payload=payload)
        for image, vector, payload in zip(images, vectors, payloads, strict=True)
    ]
    await client.upsert(str(project_id), points)
    await client.close()


async def listed(emulator: Emulator, session: aiohttp.ClientSession, project_id: int, image_id: int) -> Any:
    async with session.post(
        f"{emulator.address}/public/api/v3/images.list",
        json={"projectId": project_id, "filter": [{"field": "id", "operator": "=", "value": image_id}]},
        headers={"x-api-key": emulator.world.admin_token},
    ) as answer:
        (row,) = (await answer.json())["entities"]
        return row


async def until(ask: Callable[[], Awaitable[int]], number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await ask() >= number:
                return
            await asyncio.sleep(0.05)


async def adopted(parts: Parts, settings: Settings, project_id: int | None = None) -> dict[int, Adopted]:
    reports: list[Adopted] = []
    incumbent = await open_incumbent(settings)
    try:
        await adopt_all(
            parts, settings, incumbent, project_id, False, reports.append, lambda done, total: None
        )
    finally:
        await incumbent.close()
    return {one.project_id: one for one in reports}


async def test_a_platform_moves_over_at_the_cost_of_a_sample(
    emulator: Emulator, settings: Settings, clip: ClipEmulator, qdrant: QdrantEmulator
) -> None:
    world = emulator.world
    good, foreign, without = (world.project(name, images=IMAGES) for name in ("good", "foreign", "without"))
    await embed_as_before(emulator, qdrant.url, good)
    await embed_as_before(emulator, qdrant.url, foreign, model=1)
    world.label(world.image_ids(good)[:3])
    world.add(world.dataset_ids(good)[0], count=2)
    async with wired(settings) as parts:
        before = clip.pictures
        reports = await adopted(parts, settings)
        assert clip.pictures - before == 20 + 20
        assert reports.keys() == {good, foreign}
        assert (reports[good].adopted, reports[good].left) == (
            IMAGES - 3,
            {"changed since": 3, "not in it": 2},
        )
        assert "another model" in (reports[foreign].refused or "")
        encoder_id = parts.encoder.id
        assert encoder_id
        assert await parts.store.projects(encoder_id) == {good: IMAGES - 3}
        async with synchronising(parts):
            await until(lambda: parts.store.count(encoder_id, Within(without)), IMAGES)
            async with asyncio.timeout(PATIENCE):
                await parts.controller.idle()
                await parts.settled()
        assert parts.metrics.registry.get_sample_value("embedsync_images_encoded_total") == 5 + 2 * IMAGES
        assert await parts.store.projects(encoder_id) == {good: IMAGES + 2, foreign: IMAGES, without: IMAGES}
        assert all(world.images[one].embeddings_updated_at for one in world.image_ids(good))
    assert {str(good), str(foreign)} <= qdrant.engine.collections.keys()
    assert qdrant.engine.count(str(good), {}) == {"count": IMAGES}


async def test_a_project_that_is_not_followed_is_said_so(emulator: Emulator, settings: Settings) -> None:
    quiet = emulator.world.project("quiet", images=3, enabled=False)
    async with wired(settings) as parts:
        with pytest.raises(Rejected, match="not followed"):
            await adopted(parts, settings, quiet)


async def test_without_a_server_there_is_nothing_to_adopt_from() -> None:
    with pytest.raises(Misconfigured, match="QDRANT_HOST"):
        await open_incumbent(Settings())
