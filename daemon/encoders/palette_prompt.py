"""How a prompt about colours and light reads.

It is read left to right into phrases such as "dark red top left", "smooth" or "no blue": what is
wanted, or not, and where.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from daemon.encoders.palette_words import (
    DEGREES,
    FAMILIES,
    FILLERS,
    IDIOMS,
    JOINTS,
    NEGATIONS,
    OTHER_COLOURS,
    PLACES,
    QUALITIES,
    SHADES,
)

Tints = tuple[str, ...]


@dataclass(slots=True)
class Phrase:
    """What is wanted or not, and where.

    :ivar colours: each by its tints, any of which will do
    :ivar qualities: how much of each, negative for the opposite
    :ivar rows: which thirds of the height; all when empty; `columns` likewise of the width
    """

    wanted: bool = True
    colours: list[Tints] = field(default_factory=list)
    qualities: dict[str, float] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    columns: set[int] = field(default_factory=set)


def read(prompt: str) -> tuple[list[Phrase], tuple[str, ...]]:
    """Return the phrases of a prompt, and the words in it that say nothing here."""
    text = prompt.casefold()
    for idiom, word in IDIOMS:
        text = idiom.sub(word, text)
    reader = _Reader()
    for word in re.findall(r"[^\W_]+|[&+,;]", text):
        reader.take(word)
    reader.end_phrase()
    return reader.phrases, tuple(reader.ignored)


class _Reader:
    """Puts words together; a new phrase starts where content and place take turns a second time."""

    def __init__(self) -> None:
        self.phrases: list[Phrase] = []
        self.ignored: list[str] = []
        self._start(wanted=True)

    def _start(self, wanted: bool) -> None:
        self._phrase = Phrase(wanted)
        self._kinds: list[str] = []
        self._places: list[str] = []
        self._shade = ""
        self._degree = 1.0

    def take(self, word: str) -> None:
        """Read one word."""
        colour = _colour(word)
        if colour is not None:
            self._turn("content")
            self._phrase.colours.append(_tints(colour, self._shade))
            self._shade = ""
        elif word in SHADES:
            self._settle_shade()
            self._shade = word
        elif word in QUALITIES:
            self._add(QUALITIES[word])
        elif word in DEGREES:
            self._degree = DEGREES[word]
        elif word in PLACES:
            self._add_place(word)
        elif word in NEGATIONS:
            self.end_phrase(wanted=False)
        elif word in JOINTS:
            self.end_phrase(wanted=self._phrase.wanted or word not in ("or", "nor"))
        elif word not in FILLERS:
            self.ignored.append(word)

    def end_phrase(self, wanted: bool = True) -> None:
        """Finish the phrase; places with nothing to place belong to the phrase before, if any."""
        self._settle_shade()
        if self._phrase.colours or self._phrase.qualities:
            self.phrases.append(self._phrase)
        elif self.phrases:
            self.phrases[-1].rows |= self._phrase.rows
            self.phrases[-1].columns |= self._phrase.columns
        else:
            self.ignored += self._places
        self._start(wanted)

    def _turn(self, kind: str) -> None:
        if kind in self._kinds and self._kinds[-1] != kind:
            shade, wanted = self._shade, self._phrase.wanted
            self._shade = ""
            self.end_phrase(wanted)
            self._shade = shade
        self._kinds.append(kind)

    def _settle_shade(self) -> None:
        shade, self._shade = self._shade, ""
        if shade:
            self._add(SHADES[shade][1])

    def _add(self, qualities: dict[str, float]) -> None:
        self._settle_shade()
        degree, self._degree = self._degree, 1.0
        self._turn("content")
        for quality, amount in qualities.items():
            self._phrase.qualities[quality] = amount * degree

    def _add_place(self, word: str) -> None:
        self._settle_shade()
        self._turn("place")
        row, column = PLACES[word]
        if (row, column) == (1, 1):  # "top centre" is in the middle of the width alone
            row, column = (None if self._phrase.rows else 1), (None if self._phrase.columns else 1)
        if row is not None:
            self._phrase.rows.add(row)
        if column is not None:
            self._phrase.columns.add(column)
        self._places.append(word)


def _colour(word: str) -> str | None:
    """Return the family or tint a word means: "blue", "bluish", "navy"."""
    stem = word.removesuffix("ish")
    candidates = (word,) if stem == word else (stem, stem + "e", stem[:-1])
    for candidate in candidates:
        if candidate in FAMILIES:
            return candidate
        if candidate in OTHER_COLOURS:
            return OTHER_COLOURS[candidate]
    return None


def _tints(colour: str, shade: str) -> Tints:
    family = FAMILIES.get(colour)
    if family is None:
        return (colour,)
    wanted = f"{SHADES[shade][0]}{colour}" if shade else ""
    return (wanted,) if wanted in family else tuple(family)
