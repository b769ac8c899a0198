"""Death after death of a daemon over a folder that changes meanwhile, and what came of it all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
from counting_daemon import IN_FLIGHT
from death_account import Account
from deaths import Kill, Victim
from nursery import ForkedDaemon
from restless_folder import RestlessFolder

from daemon.encoders.palette import PaletteEncoder
from daemon.encoders.palette_space import Space
from daemon.pictures import decode

SIZE = 300
"""Pictures in the folder: several batches of them in a first sync."""


def die_again_and_again(
    daemon: ForkedDaemon, diary: Path, kills: int, seed: int, moments: Mapping[str, Kill]
) -> tuple[Account, RestlessFolder]:
    """Kill one life after the other, let the last one live, and return what the diary says of all."""
    random = Random(seed)
    daemon.environment |= {"SETTLE_SECONDS": "0.02"}
    folder = RestlessFolder(daemon.images, random, SIZE)
    folder.change(SIZE)
    victim = Victim(daemon, folder, random, 3 * IN_FLIGHT)
    diary.touch()
    account = Account(diary, folder.digests, folder.departed)
    order: list[str] = []
    for _ in range(kills):
        order = order or random.sample(sorted(moments), len(moments))
        moment = order.pop()
        account.died(moment, moments[moment](victim))
        victim.changed()
    daemon.start()
    daemon.wait_for(folder.counts, 60)
    account.read()
    return account, folder


def check_whole(daemon: ForkedDaemon, folder: RestlessFolder) -> None:
    """Check that the index is what one made anew of this folder would be."""
    space = Space()
    for project in folder.counts:
        assert daemon.wanting(project) == {}
        wish = {"project_id": project, "prompt": "bright", "limit": 2 * SIZE}
        paths = {item["image_id"]: item["path"] for item in daemon.post("/search", wish).json["items"]}
        assert set(paths.values()) == {path for path in folder.good if path.startswith(project)}
        answer = daemon.post("/embeddings", {"project_id": project, "return_vectors": True}).json
        for image_id, vector in zip(answer["image_ids"], answer["vectors"], strict=True):
            made = space.describe(decode(folder.good[paths[image_id]], PaletteEncoder.picture_side))
            assert made @ vector > 0.999 * np.linalg.norm(made) * np.linalg.norm(vector), paths[image_id]
    assert daemon.get("/quarantine?limit=100").json["total"] == len(folder.broken)
