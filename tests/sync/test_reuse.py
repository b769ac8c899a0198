from __future__ import annotations

from sync_pictures import picture
from sync_world import World


async def test_every_picture_is_embedded_once(world: World) -> None:
    world.source.add_many(map(picture, range(10)))
    await world.sweep()
    assert world.stored() == world.wanted()
    assert sorted(world.encoder.encoded.values()) == [1] * 10
