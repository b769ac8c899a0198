"""Which encoders there are, which of them answers, and going back to another."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from handlers.answers import reply
from handlers.parts import Call
from handlers.requests import EncoderRequest, NoFields


async def list_encoders(call: Call, _: NoFields) -> web.Response:
    """List the encoders there are vectors of, and where encoders are asked."""
    syncs = call.ports.syncs
    return reply(
        {
            "encoders": [asdict(one) for one in await syncs.encoders()],
            "addresses": [asdict(one) for one in syncs.encoder_addresses()],
        }
    )


async def use_encoder(call: Call, wish: EncoderRequest) -> web.Response:
    """Have an encoder answer for every project it has vectors of, or whichever is at work."""
    count = await call.ports.syncs.use_encoder(wish.encoder_id)
    if wish.encoder_id is None:
        message = "No encoder is preferred any more: the one at work takes over, project by project."
    else:
        message = (
            f"{wish.encoder_id} answers for every project it has vectors of, whatever is at work, until you"
            f" say otherwise; {count} went over to it."
        )
    return reply({"message": message, "count": count})
