"""Every interleaving of changes, faults, restarts and jumps of the clock that a machine can think of."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sync_pictures import DISTORTIONS, away, broken, picture, poison
from sync_source import FakeSource
from sync_time import VirtualLoop
from sync_world import World

from state.errors import EmbedsyncError

MEMORY = Path("/dev/shm")
DAY = 24 * 3600.0

PROJECTS = st.sampled_from([1, 2, 3])
WHICH = st.integers(0, 11)
NAMES = st.sampled_from(["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"])
GOOD = st.integers(0, 9).map(picture)
BAD = st.integers(0, 1).map(broken) | st.integers(0, 1).map(poison)
NEWS = st.booleans()
PAUSES = st.sampled_from([0, 1, 3, 8, 20, 50, 200]) | st.sampled_from([0.5, 6.0, 62.0])
"""Steps of the event loop as whole numbers, seconds as fractions."""


class SyncMachine(RuleBasedStateMachine):
    """A daemon in a world that never rests. However it was treated, it ends with store == source."""

    source_type: ClassVar[type[FakeSource]] = FakeSource
    proves_absence: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self._loop = VirtualLoop()
        self._world = World(Path(self._directory.name), self.source_type(self.proves_absence))
        self._source = self._world.source

    @initialize(pictures=st.lists(GOOD, max_size=9), pause=PAUSES)
    def begin(self, pictures: list[bytes], pause: float) -> None:
        for number, data in enumerate(pictures):
            self._source.add(data, 1 + number % 2)
        self._do(self._world.start())
        self._go(pause)

    # What people do.

    @rule(data=GOOD | BAD, project=PROJECTS, name=NAMES, dataset=st.integers(0, 1), news=NEWS, pause=PAUSES)
    def add(self, data: bytes, project: int, name: str, dataset: int, news: bool, pause: float) -> None:
        self._changed(news, pause, self._source.add(data, project, name, dataset))

    @rule(data=GOOD, project=PROJECTS, name=NAMES, news=NEWS, pause=PAUSES)
    def add_link(self, data: bytes, project: int, name: str, news: bool, pause: float) -> None:
        link = not self.proves_absence
        self._changed(news, pause, self._source.add(data, project, name, link=link))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, data=GOOD | BAD, news=NEWS, pause=PAUSES)
    def replace_bytes(self, which: int, data: bytes, news: bool, pause: float) -> None:
        self._changed(news, pause, self._source.replace(self._image(which), data))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, name=NAMES, news=NEWS, pause=PAUSES)
    def rename(self, which: int, name: str, news: bool, pause: float) -> None:
        image = self._image(which)
        self._changed(news, pause, image, self._source.rename(image, name))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, project=PROJECTS, dataset=st.integers(0, 1), news=NEWS, pause=PAUSES)
    def move(self, which: int, project: int, dataset: int, news: bool, pause: float) -> None:
        image = self._image(which)
        before = self._source.files[image].project_id
        self._changed(news, pause, image, self._source.move(image, project, dataset), before=before)

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, project=PROJECTS, name=NAMES, news=NEWS, pause=PAUSES)
    def copy(self, which: int, project: int, name: str, news: bool, pause: float) -> None:
        self._changed(news, pause, self._source.copy(self._image(which), project, name))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, news=NEWS, pause=PAUSES)
    def delete(self, which: int, news: bool, pause: float) -> None:
        image = self._image(which)
        before = self._source.files[image].project_id
        self._source.delete(image)
        self._changed(news, pause, image, before=before)

    @rule(project=PROJECTS, news=NEWS, pause=PAUSES)
    def delete_all(self, project: int, news: bool, pause: float) -> None:
        images = [file.id for file in self._source.files.values() if file.project_id == project]
        self._source.delete(*images)
        self._changed(news, pause, *images, before=project)

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, news=NEWS, pause=PAUSES)
    def label(self, which: int, news: bool, pause: float) -> None:
        self._changed(news, pause, self._source.label(self._image(which)))

    @precondition(lambda self: len(self._source.hidden) < 2)
    @rule(project=PROJECTS, pause=PAUSES)
    def lose_project(self, project: int, pause: float) -> None:
        self._source.hidden.add(project)
        self._go(pause)

    @precondition(lambda self: self._source.hidden)
    @rule(pause=PAUSES)
    def find_projects(self, pause: float) -> None:
        self._source.hidden.clear()
        self._go(pause)

    # What they ask for.

    @rule(project=PROJECTS, which=st.none() | WHICH, pause=PAUSES)
    def force(self, project: int, which: int | None, pause: float) -> None:
        images = None if which is None or not self._source.files else [self._image(which)]
        self._world.forced = True
        self._ask(self._world.daemon.controller.start(project, images, force=True), pause)

    @rule(project=PROJECTS, pause=PAUSES)
    def ask_for_a_sync(self, project: int, pause: float) -> None:
        if project not in self._source.hidden:
            self._ask(self._world.daemon.controller.start(project, None, force=False), pause)

    @rule(project=PROJECTS, pause=PAUSES)
    def cancel(self, project: int, pause: float) -> None:
        self._ask(self._world.daemon.controller.cancel(project), pause)

    @rule(project=PROJECTS, cancel=st.booleans(), pause=PAUSES)
    def settle_removals(self, project: int, cancel: bool, pause: float) -> None:
        controller = self._world.daemon.controller
        settle = controller.cancel_removals if cancel else controller.confirm_removals
        self._ask(settle(project, None), pause)

    @rule(project=st.none() | PROJECTS, pause=PAUSES)
    def retry_quarantine(self, project: int | None, pause: float) -> None:
        self._ask(self._world.daemon.controller.retry(project, None), pause)

    # What befalls it.

    @rule(fault=st.sampled_from(["unavailable", "partial", "empty"]), pause=PAUSES)
    def break_a_listing(self, fault: str, pause: float) -> None:
        self._source.faults.append(fault)
        self._world.daemon.surveys.want_sweep()
        self._go(pause)

    @rule(down=st.booleans(), pause=PAUSES)
    def break_or_mend_source(self, down: bool, pause: float) -> None:
        self._source.down = down
        self._go(pause)

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, pause=PAUSES)
    def lose_a_picture(self, which: int, pause: float) -> None:
        self._source.unreachable.add(self._image(which))
        self._go(pause)

    @rule(fault=st.sampled_from([away(), *DISTORTIONS]), lasting=st.booleans(), pause=PAUSES)
    def break_encoder(self, fault: Any, lasting: bool, pause: float) -> None:
        if lasting:
            self._world.encoder.sickness = fault
        else:
            self._world.encoder.faults.append(fault)
        self._go(pause)

    @rule(when=st.sampled_from(["before", "after"]), pause=PAUSES)
    def break_a_write(self, when: str, pause: float) -> None:
        self._world.store.faults.append(when)
        self._go(pause)

    @rule(down=st.booleans(), pause=PAUSES)
    def break_or_mend_store(self, down: bool, pause: float) -> None:
        self._world.store.down = down
        self._go(pause)

    @rule()
    def mend_all(self) -> None:
        self._world.heal()
        self._go(50)

    @rule(seconds=st.sampled_from([-2 * DAY, -3600.0, 3600.0, 2 * DAY]))
    def set_clock(self, seconds: float) -> None:
        self._world.ahead += seconds

    @rule(pause=PAUSES)
    def kill(self, pause: float) -> None:
        self._go(pause)
        self._do(self._world.stop())
        down, self._world.store.down = self._world.store.down, False
        self._do(self._world.start())
        self._world.store.down = down

    # And time goes by.

    @rule(whole=st.booleans(), pause=PAUSES)
    def survey(self, whole: bool, pause: float) -> None:
        surveys = self._world.daemon.surveys
        (surveys.want_sweep if whole else surveys.want)()
        self._go(pause)

    @rule(seconds=st.sampled_from([0.5, 6.0, 31.0, 62.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @invariant()
    def promises_are_kept(self) -> None:
        self._world.check()

    def teardown(self) -> None:
        try:
            if self._world.running:
                self._do(self._converge())
        finally:
            self._do(self._world.stop())
            self._do(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._directory.cleanup()

    async def _converge(self) -> None:
        """End all faults, sweep until everything had its second look and its second day, and compare."""
        world, journal = self._world, self._world.daemon.journal
        world.heal()
        for seconds in (700.0, 700.0, DAY, 700.0, 700.0):
            await world.sweep(seconds)
        world.check()
        for project_id in world.source.projects:
            kept = await journal.kept(project_id)
            stored = world.stored(project_id)
            assert stored.keys() >= kept or project_id in world.source.hidden
            assert {one: stored[one] for one in stored if one not in kept} == world.wanted(project_id)
            held = (await journal.held_counts()).get(project_id, 0)
            assert held == 0, f"project {project_id} holds removals back"
        assert await world.quarantined() == world.unreadable()
        encoded = world.encoder.encoded.total()
        await world.sweep()
        assert world.encoder.encoded.total() == encoded, "a sweep without changes cost encodings"

    def _image(self, which: int) -> int:
        images = sorted(self._source.files)
        return images[which % len(images)]

    def _changed(self, news: bool, pause: float, *images: int, before: int | None = None) -> None:
        if news:
            self._source.announce(*images, project_ids=[] if before is None else [before])
        self._go(pause)

    def _ask(self, question: Coroutine[Any, Any, object], pause: float) -> None:
        """Ask the daemon, which may be unable to answer, and go on without waiting for it."""

        async def ask() -> None:
            try:
                async with asyncio.timeout(600):
                    await question
            except (EmbedsyncError, TimeoutError):
                return

        task = self._loop.create_task(ask())
        self._go(pause)
        self._do(asyncio.wait([task]))

    def _go(self, pause: float) -> None:
        async def steps() -> None:
            for _ in range(int(pause)):
                await asyncio.sleep(0)

        self._do(asyncio.sleep(pause) if isinstance(pause, float) else steps())

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop.run_until_complete(work)
