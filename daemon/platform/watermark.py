"""How far a project's changes are known: the latest `updatedAt`, and which images have that very time.

The platform writes its times in milliseconds, and a bulk import gives thousands of images the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from state.model import ImageRef

FEW = 100
"""So many images of one time are cheaper listed again than told from later ones by a call of their own."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """As text, watermarks are in the order of what they cover.

    :param time: the latest `updatedAt`, as the server wrote it
    :param count: how many images are known to have it
    :param last: the highest id among those
    """

    time: str = ""
    count: int = 0
    last: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what was written as text."""
        time, _, last = text.partition("#")
        return cls(time, FEW + 1, int(last)) if last else cls(time)

    def __str__(self) -> str:
        """Write it, with the id only where images of the same time are told apart by it."""
        return f"{self.time}#{self.known:020}" if self.known else self.time

    @property
    def known(self) -> int:
        """Up to which id the images of that very time need no second look; 0 where they are so few."""
        return self.last if self.count > FEW else 0

    @property
    def later(self) -> str:
        """The first time that is past it."""
        return moved(self.time, timedelta(milliseconds=1))

    def past(self, images: Iterable[ImageRef]) -> Watermark:
        """Return the watermark once these images are known too."""
        time, count, last = self.time, self.count, self.last
        for image in images:
            if image.updated_at > time:
                time, count, last = image.updated_at, 1, image.id
            elif image.updated_at == time:
                count, last = count + 1, max(last, image.id)
        return Watermark(time, count, last)


def moved(time: str, by: timedelta) -> str:
    """Return a time of the server's so much later, written as the server writes it."""
    return (datetime.fromisoformat(time) + by).isoformat(timespec="milliseconds").replace("+00:00", "Z")
