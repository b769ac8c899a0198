"""Several pieces of one job at once; when one fails the rest is given up, and its failure is the job's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(pieces: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Return the results of all pieces, in their order."""
    tasks = [asyncio.create_task(piece) for piece in pieces]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
