"""CLIP as Service over HTTP, as far as embedsync speaks with it: it really listens, and needs no weights.

``async with ClipEmulator() as clip`` serves ``clip.url``. A test switches ``clip.model`` while it runs,
makes answers go wrong by ``clip.faults.add(Fault(…))``, has it refuse pictures by ``clip.refuses``, and
reads what was asked of it from ``clip.batches``, ``clip.pictures`` and ``clip.texts``.
"""

from .emulator import ClipEmulator
from .faults import Fault
from .model import Model

__all__ = ["ClipEmulator", "Fault", "Model"]
