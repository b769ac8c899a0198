"""What became of a look, and of each batch in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from state.errors import Unavailable
from state.model import Change


@dataclass(slots=True)
class Outcome:
    """What a look did; `left` are images to look at again: they changed meanwhile, or could not be had.

    :param problem: why some could not be had
    :param doubtful: images whose download came damaged, and may come whole another time
    """

    encoded: int = 0
    reused: int = 0
    retagged: int = 0
    quarantined: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    problem: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    :param changes: all it was about
    :param image_ids: those of its images that have their vector now
    """

    changes: Sequence[Change]
    image_ids: Sequence[int]
    encoded: int
    reused: int
