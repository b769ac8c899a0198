"""Requests that the platform hands on: to an app's task, to its AI search, to a service under ``/net``."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, web

from .listing import Body
from .model import Refused, User
from .wants import identifier, text
from .world import World

_SECONDS = 60


async def to_task(world: World, session: ClientSession, caller: User, body: Body) -> web.Response:
    """Hand a ``send_request`` on to its app, in the envelope that apps know."""
    url = world.apps.get(identifier(body, "taskId"))
    if url is None:
        raise Refused(404, "Not found", message="Task not found or not running")
    answer = await _ask(
        session,
        f"{url}/{text(body, 'command')}",
        _envelope(world, caller, body.get("state") or {}, body.get("context") or {}),
        float(body.get("timeout") or _SECONDS),
    )
    return web.json_response({}) if body.get("skipResponse") else answer


async def to_ai_search(world: World, session: ClientSession, caller: User, body: Body) -> web.Response:
    """Hand a question of the search box on; with a ``method`` it is one for a diverse selection."""
    return await _to_service(world, session, caller, body, "diverse" if "method" in body else "search")


async def to_embeddings(world: World, session: ClientSession, caller: User, body: Body) -> web.Response:
    return await _to_service(world, session, caller, body, "embeddings")


async def _to_service(
    world: World, session: ClientSession, caller: User, body: Body, command: str
) -> web.Response:
    if world.ai_search is None:
        raise Refused(503, "AI Search is not available")
    world.readable(caller, identifier(body, "projectId"))
    return await _ask(session, f"{world.ai_search}/{command}", _envelope(world, caller, body, {}), _SECONDS)


def _envelope(world: World, caller: User, state: Body, context: Body) -> dict[str, Any]:
    return {
        "state": state,
        "context": {**context, "apiToken": caller.token},
        "api_token": caller.token,
        "server_address": world.address,
    }


async def _ask(session: ClientSession, url: str, body: dict[str, Any], seconds: float) -> web.Response:
    try:
        async with session.post(url, json=body, timeout=ClientTimeout(seconds)) as response:
            return await _passed_on(response)
    except TimeoutError as error:
        raise Refused(504, "The app did not answer in time") from error
    except ClientError as error:
        raise Refused(502, "The app cannot be reached") from error


async def to_net(world: World, session: ClientSession, request: web.Request) -> web.Response:
    """Pass a request on to the service behind ``/net/<token>``."""
    url = world.services.get(request.match_info["token"])
    if url is None:
        raise Refused(404, "Not found")
    kept = {
        name: request.headers[name] for name in ("Content-Type", "Authorization") if name in request.headers
    }
    target = f"{url}/{request.match_info['tail']}"
    try:
        async with session.request(
            request.method, target, data=await request.read(), headers=kept, timeout=ClientTimeout(_SECONDS)
        ) as response:
            return await _passed_on(response)
    except (TimeoutError, ClientError) as error:
        raise Refused(502, "The service cannot be reached") from error


async def _passed_on(response: Any) -> web.Response:
    kept = {
        name: response.headers[name] for name in ("Content-Type", "Retry-After") if name in response.headers
    }
    return web.Response(status=response.status, body=await response.read(), headers=kept)


def dumped(answer: object) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")
