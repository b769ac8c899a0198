"""A random walk over the platform: everything people do there, and everything that goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from platform_emulator import Emulator, Fault

IMAGES_AT_ONCE = 8

CONTENTS = 50
"""How many contents are drawn again and again, so that copies abound."""


class Walk:
    """What people do, one step after the other.

    :ivar followed: projects that are there, with AI Search
    """

    def __init__(self, emulator: Emulator, seed: int, images: int, projects: int) -> None:
        self.emulator, self.world = emulator, emulator.world
        self.random = Random(seed)
        self.hidden: list[int] = []
        self.quiet: list[int] = []
        self.archived: list[int] = []
        self.followed = [self._project(number, images // projects) for number in range(projects)]
        self._most = projects + projects // 3
        self._clones = 0
        often: list[Callable[[], object]] = [
            self.add,
            self.add_links,
            self.replace,
            self.rename,
            self.label,
            self.disable,
            self.restore,
            self.delete,
            self.move,
            self.copy,
        ]
        seldom: list[Callable[[], object]] = [
            self.clone,
            self.stop_following,
            self.follow_again,
            self.archive,
            self.bring_back,
            self.clear_flags,
        ]
        self._steps = 3 * often + seldom

    def _project(self, number: int, images: int) -> int:
        project_id = self.world.project(f"project {number}", images=images - 4)
        (top,) = self.world.dataset_ids(project_id)
        nested = self.world.dataset(project_id, "nested", top)
        self.world.add_links(nested, contents=self._contents(4))
        return project_id

    def step(self) -> None:
        self.random.choice(self._steps)()

    def add(self) -> None:
        self.world.add(self._dataset(), self._contents(self.random.randint(1, IMAGES_AT_ONCE)))

    def add_links(self) -> None:
        self.world.add_links(self._dataset(), self._contents(2))

    def replace(self) -> None:
        # A link's copies lead to the same picture, and nothing tells of them when it changes.
        some = [one for one in self._images() if self.world.images[one].link is None]
        self.world.replace(some, self._contents(len(some)))

    def rename(self) -> None:
        for image_id in self._images()[:1]:
            self.world.rename(image_id, f"renamed {self.random.random()}.png")

    def label(self) -> None:
        self.world.label(self._images())

    def disable(self) -> None:
        some = self._images()
        self.world.disable(some)
        self.hidden += some

    def restore(self) -> None:
        self.random.shuffle(self.hidden)
        back, self.hidden = self.hidden[:IMAGES_AT_ONCE], self.hidden[IMAGES_AT_ONCE:]
        self.world.restore(back)

    def delete(self) -> None:
        self.world.delete(self._images()[:3])

    def move(self) -> None:
        self.world.move(self._images(), self._dataset())

    def copy(self) -> None:
        self.world.copy(self._images(), self._dataset())

    def clone(self) -> None:
        if len(self.followed) < self._most:
            self._clones += 1
            self.followed.append(self.world.clone(self._of(self.followed), f"clone {self._clones}"))

    def stop_following(self) -> None:
        if len(self.followed) > 2:
            self.quiet.append(self._taken(self.followed))
            self.world.set_ai_search(self.quiet[-1], False)

    def follow_again(self) -> None:
        if self.quiet:
            self.followed.append(self._taken(self.quiet))
            self.world.set_ai_search(self.followed[-1], True)

    def archive(self) -> None:
        if len(self.followed) > 2:
            self.archived.append(self._taken(self.followed))
            self.world.delete_project(self.archived[-1])

    def bring_back(self) -> None:
        if self.archived:
            self.followed.append(self._taken(self.archived))
            self.world.restore_project(self.followed[-1])

    def clear_flags(self) -> None:
        self.world.clear_embeddings_updated_at(self._images())

    def _of(self, some: Sequence[int]) -> int:
        return self.random.choice(some)

    def _taken(self, some: list[int]) -> int:
        return some.pop(self.random.randrange(len(some)))

    def _dataset(self) -> int:
        return self._of(self.world.dataset_ids(self._of(self.followed)))

    def _images(self) -> list[int]:
        there = self.world.image_ids(self._of(self.followed))
        return self.random.sample(there, min(len(there), self.random.randint(1, IMAGES_AT_ONCE)))

    def _contents(self, count: int) -> list[int]:
        """Draw contents: every other one is new, the rest come again and again."""
        return [
            self.random.randrange(2_000_000_000, 2_000_000_000 + CONTENTS)
            if self.random.random() < 0.5
            else self.random.randrange(3_000_000_000, 4_000_000_000)
            for _ in range(count)
        ]


PICTURES = ("imgproxy", "previews", "storage", "remote")


def storm(emulator: Emulator, methods: float, pictures: float) -> None:
    """Let answers go wrong, each kind with such a probability, until the faults are cleared."""
    for match, probability in [("*.*", methods), *((route, pictures) for route in PICTURES)]:
        for fault in (
            Fault(match, "status", None, probability, status=429, retry_after=1),
            Fault(match, "status", None, probability, status=500),
            Fault(match, "html", None, probability, status=502),
            Fault(match, "reset", None, probability),
            Fault(match, "truncated", None, probability),
            Fault(match, "cut", None, probability),
            Fault(match, "latency", None, probability, seconds=0.05),
        ):
            emulator.faults.add(fault)
    emulator.faults.add(Fault("*.list*", "early_end", None, methods))
    emulator.faults.add(Fault("*.list*", "empty", None, methods))
