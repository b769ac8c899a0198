"""Leaving out copies: twenty files of the same bytes are one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from state.model import Hit

MORE = 3
"""How many times as many are asked for each time that copies took the places of others."""

Ask = Callable[[int], Awaitable[list[list[Hit]]]]
"""Asks for so many answers to each query, best first."""


async def without_copies(ask: Ask, limit: int, most: int) -> list[list[Hit]]:
    """Return up to `limit` answers of different content to each query.

    :param most: so many are asked for at the most; behind as many copies of few pictures, some are missed
    """
    wanted = limit
    while True:
        answers = await ask(wanted)
        found = [first_of_each(answer) for answer in answers]
        short = any(
            len(few) < limit and len(all_) >= wanted for few, all_ in zip(found, answers, strict=True)
        )
        if not short or wanted >= most:
            return [few[:limit] for few in found]
        wanted = min(MORE * wanted, most)


def first_of_each(hits: Sequence[Hit]) -> list[Hit]:
    """Keep the first hit of each content."""
    seen: dict[str, Hit] = {}
    for hit in hits:
        seen.setdefault(hit.image.content, hit)
    return list(seen.values())
