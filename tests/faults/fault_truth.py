"""What is in the store and what the platform shows, both looked at past the proxies, and what should be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from clip_emulator import Model
from platform_emulator import World
from platform_emulator.pictures import Painted, resized
from qdrant_emulator import QdrantEmulator

from daemon.pictures import decode
from daemon.platform.flags import STARTED_KEY
from daemon.platform.pictures import RESIZED

DIMENSION = 64
SAME = 0.99
"""Least cosine of two vectors of one picture: JPEG's noise and the store's precision are below it."""

THEIRS = MappingProxyType({"somebody's": "notes"})
"""Custom data of a project that is none of ours."""

Proof = tuple[str, int, str]
"""What an image's vector was made from, and where the image is: content, dataset, name."""


class Truth:
    """Compares a platform's projects with what Qdrant has of them.

    Somebody keeps `THEIRS` in each of the projects.
    """

    def __init__(self, world: World, qdrant: QdrantEmulator, project_ids: Collection[int]) -> None:
        self._world, self._engine = world, qdrant.engine
        self._project_ids = project_ids
        self._contents: dict[str, Painted] = {}
        for project_id in project_ids:
            world.set_custom_data(project_id, dict(THEIRS))

    def points(self) -> dict[int, Mapping[str, Any]]:
        """All points of images by id, with payload and vector, but those of a model of another dimension."""
        return {
            one["id"]: one
            for name in self._engine.collections
            if not name.endswith("catalogue")
            for one in self._engine.scroll(name, {"limit": 1000, "with_vector": True})["points"]
            if len(one["vector"]) == DIMENSION
        }

    def wanted(self) -> dict[int, Proof]:
        """All images the platform has, each with the proof that its point should bear."""
        with self._world.lock:
            images = [image for project_id in self._project_ids for image in self._world.by_id(project_id)]
            # The contents are remembered: a vector may be of one that its image has no more.
            self._contents |= {
                image.content.hash: image.content for image in images if isinstance(image.content, Painted)
            }
            return {image.id: (image.content.hash, image.dataset_id, image.name) for image in images}

    def differences(self) -> list[str]:
        """Say what the store has otherwise than the platform."""
        there, points = self.wanted(), self.points()
        here = {
            image_id: (proof["content"], proof["dataset_id"], proof["name"])
            for image_id, proof in ((one["id"], one["payload"]) for one in points.values())
        }
        return [
            f"image {one}: {there.get(one)} is {here.get(one)} in the store"
            for one in sorted(there.keys() | here.keys())
            if there.get(one) != here.get(one)
        ]

    def untrue(self) -> set[int]:
        """The points whose vector is not that of the content in their payload."""
        self.wanted()
        return {
            image_id
            for image_id, one in self.points().items()
            if not true_vector(self._contents[one["payload"]["content"]].seed) @ one["vector"] >= SAME
        }

    def wrongly_shown(self, problems: bool = True) -> list[str]:
        """Say what the platform shows that is not so.

        :param problems: whether an old problem of a project counts
        """
        points = self.points()
        with self._world.lock:
            return [amiss for one in self._project_ids for amiss in self._amiss(one, points, problems)]

    def _amiss(self, project_id: int, points: Collection[int], problems: bool) -> Iterator[str]:
        project = self._world.projects[project_id]
        if project.embeddings_in_progress or STARTED_KEY in project.custom_data:
            yield f"project {project_id} is shown in progress"
        if not project.custom_data.items() >= THEIRS.items():
            yield f"project {project_id} has lost what somebody else keeps in it"
        if project.error_message and problems:
            yield f"project {project_id} is shown with {project.error_message}"
        for image in self._world.by_id(project_id):
            if (image.embeddings_updated_at is not None) != (image.id in points):
                yield f"image {image.id} is shown otherwise than it is stored"


@cache
def true_vector(seed: int) -> Any:
    """The vector, of unit length, that the model gives for a painted picture as imgproxy delivers it."""
    preview, _ = resized(Painted(seed).data, RESIZED.removesuffix("/plain"))
    vector = Model(0, DIMENSION).of_picture(decode(preview, 224))
    return vector / np.linalg.norm(vector)
