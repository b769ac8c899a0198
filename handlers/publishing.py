"""Leaving an answer on the platform, for callers who came with a platform's token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from handlers.parts import Call
from state.model import Hit


async def publish(
    call: Call, kind: Literal["search", "diverse"], project_id: int, items: Sequence[Hit]
) -> Mapping[str, int | None]:
    """Leave `items` as a collection; return the answer's part that names it, spelled as the request was."""
    collection_id = None
    if call.ports.platform is not None and call.caller.token is not None:
        collection_id = await call.ports.platform.publish(kind, project_id, call.caller.token, items)
    named = {"collection_id": collection_id}
    return {**named, "collectionId": collection_id} if call.camel else named
