"""Vectors of texts, asked of the encoder once each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from state.errors import Inconsistent
from state.model import Vectors
from state.ports import TextEncoder


@dataclass(frozen=True, slots=True, eq=False)
class EncodedText:
    """A text's vector, shape ``(dimension,)``, and the words that did not count."""

    vector: Vectors
    ignored: tuple[str, ...]


class TextCache:
    """Keeps the latest texts by (encoder, text).

    :param size: how many, least recently used ones leave first
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[tuple[str, str], EncodedText] = OrderedDict()

    async def encode(self, encoder: TextEncoder, encoder_id: str, texts: Sequence[str]) -> list[EncodedText]:
        """Encode texts with exactly that encoder.

        :raises Unavailable: when it cannot be asked
        :raises Rejected: when a text means nothing to it
        """
        known = {text: self._known[key] for text in texts if (key := (encoder_id, text)) in self._known}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        for text in known:
            self._known.move_to_end((encoder_id, text))
        if missing:
            answers = await _ask(encoder, encoder_id, missing)
            known |= answers
            self._known.update({(encoder_id, text): answer for text, answer in answers.items()})
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return [known[text] for text in texts]

    def forget(self) -> None:
        """Forget all texts: another model may have read some of them."""
        self._known.clear()


async def _ask(encoder: TextEncoder, encoder_id: str, texts: Sequence[str]) -> Mapping[str, EncodedText]:
    answer = await encoder.encode_texts_as(encoder_id, texts)
    if len(answer.vectors) != len(texts) or not np.isfinite(answer.vectors).all():
        raise Inconsistent("the encoder's vectors are not those of the texts")
    ignored = answer.ignored or ((),) * len(texts)
    return {
        text: EncodedText(vector, words)
        for text, vector, words in zip(texts, answer.vectors, ignored, strict=True)
    }
