"""The account that is kept of what every death cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deaths import AFTER_ITS_STORE


@dataclass
class Account:
    """What the diary says of all lives so far.

    :param diary: of the counting daemon
    :param digests: how the diary calls the pixels of bytes, by their identity
    :param departed: how it calls pictures of which a file went, whose copies may be encoded again
    :ivar lost: other pictures encoded again although the store had acknowledged their vectors
    :ivar copies: how often a picture was encoded again of which a file had gone
    :ivar repeated: how many pictures each life left to be encoded again, by its number
    :ivar moments: when each life ended, and whether that was the moment that was meant
    """

    diary: Path
    digests: Mapping[str, str]
    departed: Collection[str]
    lost: list[str] = field(default_factory=list)
    copies: int = 0
    repeated: Counter[int] = field(default_factory=Counter)
    moments: list[tuple[str, bool]] = field(default_factory=list)
    _acknowledged: set[str] = field(default_factory=set)
    _encoded_in: dict[str, int] = field(default_factory=dict)
    _read: int = 0

    def read(self) -> None:
        """Enter what the life after the last death wrote down."""
        known = set(self.digests.values())
        with self.diary.open("rb") as diary:
            diary.seek(self._read)
            words = diary.read()
        self._read += len(words)
        for word in words.decode().split():
            if word.startswith("+"):
                self._acknowledged.add(self.digests.get(word[1:], ""))
            elif word in known:
                self._encoded(word)

    def died(self, moment: str, meant: bool) -> None:
        """Enter a death, and what the life before it wrote down."""
        self.read()
        self.moments.append((moment, meant))

    def beyond(self, in_flight: int) -> dict[int, int]:
        """Return the lives that left more to be encoded again than was in flight when they ended."""
        return {
            life: count
            for life, count in self.repeated.items()
            if count > in_flight * (2 if self.moments[life][0] == AFTER_ITS_STORE else 1)
        }

    @property
    def missed(self) -> int:
        """How many lives did not end when they were meant to."""
        return sum(not meant for _, meant in self.moments)

    def figures(self) -> dict[str, object]:
        """Return what a report wants to know."""
        return {
            "deaths": len(self.moments),
            "lost": len(self.lost),
            "encoded again after a file went": self.copies,
            "repeated": self.repeated.total(),
            "most repeated for one death": max(self.repeated.values(), default=0),
            "encoded": len(self._encoded_in),
            "acknowledged": len(self._acknowledged),
            "moments": dict(Counter(name for name, meant in sorted(self.moments) if meant)),
            "missed": dict(Counter(name for name, meant in sorted(self.moments) if not meant)),
        }

    def _encoded(self, picture: str) -> None:
        if picture in self._acknowledged:
            if picture in self.departed:
                self.copies += 1
            else:
                self.lost.append(picture)
        elif picture in self._encoded_in:
            self.repeated[self._encoded_in[picture]] += 1
        self._encoded_in[picture] = len(self.moments)
