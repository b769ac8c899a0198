"""Single images and their pictures, as the real SDK sees them."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
import requests
from PIL import Image
from platform_emulator import Emulator, Painted, World, hash_of
from platform_emulator.fixtures import Api

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")


def test_an_image_is_found_by_its_id(api: Api, world: World, project: int) -> None:
    image_id = world.image_ids(project)[3]
    image = api.image.get_info_by_id(image_id)
    assert (image.id, image.project_id, image.width, image.mime) == (image_id, project, 48, "image/png")
    assert api.image.get_info_by_id(999_999) is None
    assert api.image.get_project_id(image_id) == project


def test_images_are_found_by_their_ids_together(api: Api, world: World, project: int) -> None:
    wanted = world.image_ids(project)[::-2]
    assert [image.id for image in api.image.get_info_by_id_batch(wanted)] == wanted
    with pytest.raises(KeyError):
        api.image.get_info_by_id_batch([wanted[0], 999_999])


def test_a_hash_is_that_of_the_bytes_downloaded(api: Api, world: World, project: int) -> None:
    images = api.image.get_list(project_id=project)
    pictures = api.image.download_bytes(world.dataset_ids(project)[0], [image.id for image in images])
    assert [hash_of(picture) for picture in pictures] == [image.hash for image in images]
    assert api.image.download_np(images[0].id).shape == (48, 48, 3)


def test_pictures_are_streamed_with_their_checksum(api: Api, world: World, project: int) -> None:
    async def downloaded() -> list[bytes]:
        found = await api.image.download_bytes_many_async(world.image_ids(project))
        await api.async_httpx_client.aclose()
        return list(found)

    assert len(set(asyncio.run(downloaded()))) == 7


def test_the_original_is_served_without_a_token(api: Api, world: World, project: int) -> None:
    image = api.image.get_info_by_id(world.image_ids(project)[0])
    answer = requests.get(image.full_storage_url, timeout=5)
    assert hash_of(answer.content) == image.hash
    assert answer.headers["Content-Type"] == image.mime


@pytest.mark.parametrize("base", ["/previews", "/imgproxy"])
def test_a_preview_is_a_smaller_jpeg(api: Api, world: World, emulator: Emulator, base: str) -> None:
    large = io.BytesIO()
    Image.fromarray(np.full((300, 600, 3), 90, np.uint8)).save(large, "PNG")
    (image_id,) = world.add(world.dataset(world.project("large"), "images"), [large.getvalue()])
    path = api.image.get_info_by_id(image_id).full_storage_url.removeprefix(emulator.address)
    url = f"{emulator.address}{base}/q/ext:jpeg/resize:fit:224:224:0/q:70/plain{path}"
    with Image.open(io.BytesIO(requests.get(url, timeout=5).content)) as preview:
        assert (preview.format, preview.size) == ("JPEG", (224, 112))


def test_the_sdks_own_preview_url_is_served(api: Api, world: World, project: int) -> None:
    image = api.image.get_info_by_id(world.image_ids(project)[0])
    assert requests.get(image.preview_url, timeout=5).headers["Content-Type"] == "image/jpeg"


def test_bytes_that_are_no_picture_have_no_preview(api: Api, world: World, project: int) -> None:
    (image_id,) = world.add(world.dataset_ids(project)[0], [b"no picture"])
    image = api.image.get_info_by_id(image_id)
    assert image.hash == hash_of(b"no picture")
    assert requests.get(image.preview_url, timeout=5).status_code == 422


def test_a_link_has_no_hash_and_a_size_only_when_it_is_read(api: Api, world: World, project: int) -> None:
    (image_id,) = world.add_links(world.dataset_ids(project)[0], [5])
    linked = [{"field": "id", "operator": "=", "value": image_id}]
    (unread,) = api.image.get_list(project_id=project, filters=linked, force_metadata_for_links=False)
    (image,) = api.image.get_list(project_id=project, filters=linked)
    assert (image.hash, unread.size, image.size) == (None, None, Painted.size)
    assert requests.get(image.link, timeout=5).content == Painted(5).data
    assert image.link == image.full_storage_url


def test_a_link_has_a_preview_only_where_the_instance_makes_one(api: Api, world: World, project: int) -> None:
    (image_id,) = world.add_links(world.dataset_ids(project)[0])
    preview = api.image.get_info_by_id(image_id).preview_url
    assert requests.get(preview, timeout=5).status_code == 404
    world.rules.links_have_previews = True
    assert requests.get(preview, timeout=5).status_code == 200
