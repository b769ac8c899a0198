import asyncio
from collections.abc import Sequence

import numpy as np

from handlers.texts import TextCache
from state.model import TextEmbeddings


class Reader:
    """Reads every text as the same number, once it may."""

    def __init__(self) -> None:
        self.model = 1.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def encode_texts_as(self, encoder_id: str, texts: Sequence[str]) -> TextEmbeddings:
        await self.gate.wait()
        return TextEmbeddings(np.full((len(texts), 2), self.model, np.float32))


async def test_what_another_model_may_have_read_is_read_again() -> None:
    cache, reader = TextCache(10), Reader()
    await cache.encode(reader, "clip-2-1", ["a dog"])
    reader.model = 2.0
    cache.forget()
    [text] = await cache.encode(reader, "clip-2-1", ["a dog"])
    assert text.vector[0] == 2.0


async def test_a_request_under_way_brings_nothing_back_that_was_forgotten() -> None:
    cache, reader = TextCache(10), Reader()
    await cache.encode(reader, "clip-2-1", ["a dog"])
    reader.gate.clear()
    asking = asyncio.create_task(cache.encode(reader, "clip-2-1", ["a dog", "a cat"]))
    await asyncio.sleep(0)
    cache.forget()
    reader.model = 2.0
    reader.gate.set()
    await asking
    [text] = await cache.encode(reader, "clip-2-1", ["a dog"])
    assert text.vector[0] == 2.0
