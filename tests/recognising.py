"""One encoder recognised by one catalogue, as a round of recognition does for each member."""

from __future__ import annotations

from daemon.encoders import canary
from state.ports import Encoder, Store


async def recognise(encoder: Encoder, store: Store) -> str:
    """Find out which encoder of the catalogue this is, or enter it as a new one; set its id.

    :raises Inconsistent: as `enter`
    """
    live = await canary.encode(encoder)
    record = canary.match(live, await store.encoders()) or await canary.enter(encoder, live, store)
    encoder.id, encoder.dimension = record.id, record.dimension
    return record.id
