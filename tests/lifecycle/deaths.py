"""The moments at which a daemon is killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import psutil
from counting_daemon import PLACES
from nursery import ForkedDaemon
from restless_folder import RestlessFolder

from daemon.failpoints import NAMES

PLACE_SECONDS = 6.0
"""So long a life may take to come to the place where it is to die; then it is killed wherever it is."""

REST_SECONDS = 10.0
"""So long it may take to come to rest; then it is killed at its work."""


@dataclass
class Victim:
    """The daemon that is killed, and the folder that changes meanwhile.

    :ivar most_new: pictures that one change adds, at most
    """

    daemon: ForkedDaemon
    folder: RestlessFolder
    random: Random
    most_new: int

    def changed(self) -> None:
        self.folder.change(self.random.randrange(self.most_new))

    def linger(self, most: float) -> None:
        time.sleep(self.random.uniform(0.0, most))

    def ready(self) -> None:
        self.daemon.launch()
        self.daemon.wait_until(lambda: "daemon.ready" in self.daemon.life, 60)


def at_a_failpoint(name: str) -> Callable[[Victim], bool]:
    def kill(victim: Victim) -> bool:
        nth = victim.random.randint(1, 3) if name.startswith("pipeline.") else 1
        victim.daemon.launch(FAILPOINTS=f"{name}=kill:{nth}")
        return died_there(victim)

    return kill


def around_a_call(name: str) -> Callable[[Victim], bool]:
    def kill(victim: Victim) -> bool:
        victim.daemon.launch(DIES=f"{name}:{victim.random.choice(('before', 'after'))}")
        return died_there(victim)

    return kill


def died_there(victim: Victim) -> bool:
    deadline = time.monotonic() + PLACE_SECONDS
    while victim.daemon.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    reached = not victim.daemon.alive
    victim.daemon.kill()
    return reached


def while_it_starts(victim: Victim) -> bool:
    victim.daemon.launch()
    victim.linger(0.5)
    victim.daemon.kill()
    return "daemon.ready" not in victim.daemon.life


def while_things_change(victim: Victim) -> bool:
    victim.ready()
    victim.changed()
    victim.linger(0.6)
    victim.daemon.kill()
    return True


def at_rest(victim: Victim) -> bool:
    victim.daemon.start()
    deadline = time.monotonic() + REST_SECONDS
    while not (rests := victim.daemon.indexed() == victim.folder.counts) and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.daemon.kill()
    return rests


def with_its_store(victim: Victim) -> bool:
    victim.ready()
    store = victim.daemon.store_child()
    victim.changed()
    victim.linger(0.6)
    store.kill()
    victim.daemon.kill()
    return True


def after_its_store(victim: Victim) -> bool:
    victim.ready()
    store = victim.daemon.store_child()
    victim.linger(0.3)
    store.kill()
    victim.linger(0.3)
    victim.daemon.kill()
    return True


def while_the_store_flushes(victim: Victim) -> bool:
    """Its end is what makes the store's process flush, which takes some milliseconds."""
    victim.ready()
    store = victim.daemon.store_child()
    victim.linger(0.6)
    victim.daemon.kill()
    victim.linger(0.02)
    flushing = store.is_running() and store.status() != psutil.STATUS_ZOMBIE
    store.kill()
    return flushing


Kill = Callable[[Victim], bool]
"""Starts the daemon and kills it; tells whether it was the moment that was meant."""

MOMENTS: Mapping[str, Kill] = {
    **{name: at_a_failpoint(name) for name in sorted(NAMES)},
    **{name: around_a_call(name) for name in PLACES},
    "while it starts": while_it_starts,
    "while things change": while_things_change,
    "at rest": at_rest,
}

AFTER_ITS_STORE = "after its store"
"""The one moment with two deaths, of which each may leave batches to be encoded again."""

MOMENTS_OF_AN_EMBEDDED_STORE: Mapping[str, Kill] = {
    **MOMENTS,
    "with its store": with_its_store,
    AFTER_ITS_STORE: after_its_store,
    "while the store flushes": while_the_store_flushes,
}
