"""The Supervisely platform, as far as embedsync speaks with it: it really listens, and the real SDK
talks to it unmodified.

``Emulator()`` serves a ``World`` in a thread. A test changes the world by its methods, makes answers go
wrong by ``emulator.faults`` and reads what something cost from ``emulator.counters``.
"""

from .clip_app import ClipApp
from .clock import Clock
from .emulator import Emulator
from .faults import Fault, Faults
from .pictures import Painted, hash_of
from .tables import Rules
from .world import World

__all__ = ["ClipApp", "Clock", "Emulator", "Fault", "Faults", "Painted", "Rules", "World", "hash_of"]
