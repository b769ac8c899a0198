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
STEPS = st.sampled_from([0, 1, 3, 8, 20, 50, 200])


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

    @initialize(pictures=st.lists(GOOD, max_size=6), steps=STEPS)
    def begin(self, pictures: list[bytes], steps: int) -> None:
        for number, data in enumerate(pictures):
            self._source.add(data, 1 + number % 2)
        self._do(self._world.start())
        self._go(steps)

    # What people do.

    @rule(data=GOOD | BAD, project=PROJECTS, name=NAMES, dataset=st.integers(0, 1), news=NEWS, steps=STEPS)
    def add(self, data: bytes, project: int, name: str, dataset: int, news: bool, steps: int) -> None:
        self._changed(news, steps, self._source.add(data, project, name, dataset))

    @rule(data=GOOD, project=PROJECTS, name=NAMES, news=NEWS, steps=STEPS)
    def add_link(self, data: bytes, project: int, name: str, news: bool, steps: int) -> None:
        link = not self.proves_absence
        self._changed(news, steps, self._source.add(data, project, name, link=link))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, data=GOOD | BAD, news=NEWS, steps=STEPS)
    def replace_bytes(self, which: int, data: bytes, news: bool, steps: int) -> None:
        self._changed(news, steps, self._source.replace(self._image(which), data))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, name=NAMES, news=NEWS, steps=STEPS)
    def rename(self, which: int, name: str, news: bool, steps: int) -> None:
        image = self._image(which)
        self._changed(news, steps, image, self._source.rename(image, name))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, project=PROJECTS, dataset=st.integers(0, 1), news=NEWS, steps=STEPS)
    def move(self, which: int, project: int, dataset: int, news: bool, steps: int) -> None:
        image = self._image(which)
        before = self._source.files[image].project_id
        self._changed(news, steps, image, self._source.move(image, project, dataset), before=before)

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, project=PROJECTS, name=NAMES, news=NEWS, steps=STEPS)
    def copy(self, which: int, project: int, name: str, news: bool, steps: int) -> None:
        self._changed(news, steps, self._source.copy(self._image(which), project, name))

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, news=NEWS, steps=STEPS)
    def delete(self, which: int, news: bool, steps: int) -> None:
        image = self._image(which)
        before = self._source.files[image].project_id
        self._source.delete(image)
        self._changed(news, steps, image, before=before)

    @rule(project=PROJECTS, news=NEWS, steps=STEPS)
    def delete_all(self, project: int, news: bool, steps: int) -> None:
        images = [file.id for file in self._source.files.values() if file.project_id == project]
        self._source.delete(*images)
        self._changed(news, steps, *images, before=project)

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, news=NEWS, steps=STEPS)
    def label(self, which: int, news: bool, steps: int) -> None:
        self._changed(news, steps, self._source.label(self._image(which)))

    @precondition(lambda self: len(self._source.hidden) < 2)
    @rule(project=PROJECTS, steps=STEPS)
    def lose_project(self, project: int, steps: int) -> None:
        self._source.hidden.add(project)
        self._go(steps)

    @precondition(lambda self: self._source.hidden)
    @rule(steps=STEPS)
    def find_projects(self, steps: int) -> None:
        self._source.hidden.clear()
        self._go(steps)

    # What they ask for.

    @rule(project=PROJECTS, which=st.none() | WHICH, steps=STEPS)
    def force(self, project: int, which: int | None, steps: int) -> None:
        images = None if which is None or not self._source.files else [self._image(which)]
        self._world.forced = True
        self._ask(self._world.daemon.controller.start(project, images, force=True), steps)

    @rule(project=PROJECTS, steps=STEPS)
    def ask_for_a_sync(self, project: int, steps: int) -> None:
        if project not in self._source.hidden:
            self._ask(self._world.daemon.controller.start(project, None, force=False), steps)

    @rule(project=PROJECTS, steps=STEPS)
    def cancel(self, project: int, steps: int) -> None:
        self._ask(self._world.daemon.controller.cancel(project), steps)

    @rule(project=PROJECTS, cancel=st.booleans(), steps=STEPS)
    def settle_removals(self, project: int, cancel: bool, steps: int) -> None:
        controller = self._world.daemon.controller
        settle = controller.cancel_removals if cancel else controller.confirm_removals
        self._ask(settle(project, None), steps)

    @rule(project=st.none() | PROJECTS, steps=STEPS)
    def retry_quarantine(self, project: int | None, steps: int) -> None:
        self._ask(self._world.daemon.controller.retry(project, None), steps)

    # What befalls it.

    @rule(fault=st.sampled_from(["unavailable", "partial", "empty"]), steps=STEPS)
    def break_a_listing(self, fault: str, steps: int) -> None:
        self._source.faults.append(fault)
        self._go(steps)

    @rule(down=st.booleans(), steps=STEPS)
    def break_or_mend_source(self, down: bool, steps: int) -> None:
        self._source.down = down
        self._go(steps)

    @precondition(lambda self: self._source.files)
    @rule(which=WHICH, steps=STEPS)
    def lose_a_picture(self, which: int, steps: int) -> None:
        self._source.unreachable.add(self._image(which))
        self._go(steps)

    @rule(fault=st.sampled_from([away(), *DISTORTIONS]), lasting=st.booleans(), steps=STEPS)
    def break_encoder(self, fault: Any, lasting: bool, steps: int) -> None:
        if lasting:
            self._world.encoder.sickness = fault
        else:
            self._world.encoder.faults.append(fault)
        self._go(steps)

    @rule(when=st.sampled_from(["before", "after"]), steps=STEPS)
    def break_a_write(self, when: str, steps: int) -> None:
        self._world.store.faults.append(when)
        self._go(steps)

    @rule(down=st.booleans(), steps=STEPS)
    def break_or_mend_store(self, down: bool, steps: int) -> None:
        self._world.store.down = down
        self._go(steps)

    @rule()
    def mend_all(self) -> None:
        self._world.heal()
        self._go(50)

    @rule(seconds=st.sampled_from([-2 * DAY, -3600.0, 3600.0, 2 * DAY]))
    def set_clock(self, seconds: float) -> None:
        self._world.ahead += seconds

    @rule(steps=STEPS)
    def kill(self, steps: int) -> None:
        self._go(steps)
        self._do(self._world.stop())
        down, self._world.store.down = self._world.store.down, False
        self._do(self._world.start())
        self._world.store.down = down

    # And time goes by.

    @rule(whole=st.booleans(), steps=STEPS)
    def survey(self, whole: bool, steps: int) -> None:
        controller = self._world.daemon.controller
        (controller.want_sweep if whole else controller.want_survey)()
        self._go(steps)

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
            assert held == len(kept), f"project {project_id} holds removals back"
        assert await world.quarantined() == world.unreadable()
        encoded = world.encoder.encoded.total()
        await world.sweep()
        assert world.encoder.encoded.total() == encoded, "a sweep without changes cost encodings"

    def _image(self, which: int) -> int:
        images = sorted(self._source.files)
        return images[which % len(images)]

    def _changed(self, news: bool, steps: int, *images: int, before: int | None = None) -> None:
        if news:
            self._source.announce(*images, project_ids=[] if before is None else [before])
        self._go(steps)

    def _ask(self, question: Coroutine[Any, Any, object], steps: int) -> None:
        """Ask the daemon, which may be unable to answer, and go on without waiting for it."""

        async def ask() -> None:
            try:
                async with asyncio.timeout(600):
                    await question
            except (EmbedsyncError, TimeoutError):
                return

        task = self._loop.create_task(ask())
        self._go(steps)
        self._do(asyncio.wait([task]))

    def _go(self, steps: int) -> None:
        async def go() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self._do(go())

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop.run_until_complete(work)
