"""The HTTP application: from a request to the function that answers it, and back.

What comes in passes, in this order: an id and a clock; the way errors take; the body; a place among those
being answered; the caller; the model; the handler.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from functools import cache
from typing import Literal

import orjson
import structlog
from aiohttp import web
from aiohttp.log import server_logger
from aiohttp.typedefs import Handler as WebHandler
from aiohttp.typedefs import Middleware

from handlers.auth import Access, Reach, admit, token_from_headers
from handlers.bodies import Body, read_body
from handlers.calibration import Samples
from handlers.errors import BadRequest, NotYet, answer_to
from handlers.metrics import Metrics
from handlers.openapi import describe
from handlers.parts import PARTS, Call, Limits, Parts, Ports
from handlers.rates import Rate, Rates
from handlers.routes import ROUTES, Route
from handlers.texts import TextCache
from handlers.unreadable import without_quotes
from handlers.work import Gate, WorkPool

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(
    ports: Ports,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    metrics: Metrics | None = None,
    search_image_ids: Literal["query", "scope"] = "query",
    path_prefix: str = "",
    version: str = "0",
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
) -> web.Application:
    """Build the application.

    :param search_image_ids: what ``image_ids`` beside a prompt means in ``/search``
    :param path_prefix: where every route is served as well
    :param clock: seconds, for durations
    :param now: seconds since 1970, to be shown
    :param new_id: ids of requests that bring none
    """
    limits = limits or Limits()
    path_prefix = path_prefix.strip("/") and f"/{path_prefix.strip('/')}"
    parts = Parts(
        ports=ports,
        limits=limits,
        access=access or Access(),
        metrics=metrics or Metrics(),
        search_image_ids=search_image_ids,
        light=WorkPool("light", limits.threads, limits.concurrent_requests),
        heavy=WorkPool("heavy", 1, limits.waiting_selections),
        gate=Gate(limits.concurrent_requests),
        reading=Gate(limits.concurrent_requests),
        waiting=Gate(limits.waiting_for_vectors),
        rates=Rates(
            Rate(max(1.0, limits.requests_per_second * limits.burst_seconds), limits.requests_per_second),
            Rate(limits.guesses_at_once, limits.guesses_per_second),
            Rate(limits.repeats_at_once, limits.repeats_per_second),
            clock,
        ),
        texts=TextCache(limits.cached_texts),
        samples=Samples(limits.cached_samples, clock),
        now=now,
        description=cache(lambda: orjson.dumps(describe(ROUTES, limits, version))),
    )
    app = web.Application(
        middlewares=[_observed(parts.metrics, path_prefix, limits.transfer_seconds, clock, new_id)],
        client_max_size=limits.body_bytes,
        handler_args={"keepalive_timeout": limits.idle_seconds, "lingering_time": limits.linger_seconds},
    )
    app[PARTS] = parts
    server_logger.addFilter(without_quotes)
    app.cleanup_ctx.append(_pools)
    for base in dict.fromkeys(("", path_prefix)):
        for route in ROUTES:
            app.router.add_route(route.method, base + route.path, _endpoint(route))
    return app


def _endpoint(route: Route) -> WebHandler:
    """Make the function aiohttp calls for a route."""
    probe = route.reach is Reach.ANYONE

    async def answer(request: web.Request) -> web.StreamResponse:
        parts = request.app[PARTS]
        if probe:
            return await _call(route, request, parts, Body({}))
        try:
            async with asyncio.timeout(parts.limits.request_seconds) as deadline:
                body = await _body(route, request, parts)
                with parts.gate.entered():
                    return await _call(route, request, parts, body)
        except TimeoutError:
            if not deadline.expired():
                raise
            seconds = parts.limits.request_seconds
            raise NotYet("generator", f"No answer within {seconds:g} s; ask for less, or later.") from None

    return answer


async def _body(route: Route, request: web.Request, parts: Parts) -> Body:
    """Read what a request brings; whoever dribbles takes no place from those whose body is here."""
    if route.method == "GET":
        return Body(request.query)
    seconds = parts.limits.transfer_seconds
    whole = request.content.is_eof()
    try:
        with nullcontext() if whole else parts.reading.entered():
            async with asyncio.timeout(seconds):
                return await read_body(request, parts.limits.body_values)
    except TimeoutError:
        raise BadRequest("body", f"did not arrive within {seconds:g} s", 408) from None


async def _call(route: Route, request: web.Request, parts: Parts, body: Body) -> web.Response:
    token = None if route.reach is Reach.ANYONE else body.token or token_from_headers(request)
    with parts.rates.proving(request.remote, token):
        caller = admit(route.reach, request, token, parts.access, parts.ports.platform)
        if route.metered:
            parts.rates.spend(request.remote, token)
        wish = route.takes.model_validate({**body.fields, **request.match_info}, context=parts.limits)
        return await route.handler(Call(parts, caller, body.camel), wish)


def _observed(
    metrics: Metrics,
    path_prefix: str,
    transfer_seconds: float,
    clock: Callable[[], float],
    new_id: Callable[[], str],
) -> Middleware:
    """Make the middleware that times, logs and names every request, and turns failures into answers."""

    @web.middleware
    async def observe(request: web.Request, handler: WebHandler) -> web.StreamResponse:
        started = clock()
        given = request.headers.get("X-Request-Id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = await handler(request)
            except Exception as failure:  # noqa: BLE001 (the root of a request: nothing is above it)
                response = answer_to(failure, request_id)
            seconds = clock() - started
            route = _route_name(request, path_prefix)
            metrics.request_seconds.labels(route, response.status).observe(seconds)
            level = log.debug if route in QUIET else log.info
            level(
                "request.answered",
                method=request.method,
                route=route,
                status=response.status,
                seconds=seconds,
            )
        response.headers["X-Request-Id"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        await _deliver(request, response, request_id, transfer_seconds)
        return response

    return observe


async def _deliver(
    request: web.Request, response: web.StreamResponse, request_id: str, seconds: float
) -> None:
    """Write the answer here and not after us, where nothing limits how long a caller may leave it unread."""
    try:
        async with asyncio.timeout(seconds):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        log.info("request.cut_off", request_id=request_id, seconds=seconds)
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        return  # aiohttp finds out by itself, and quietly


QUIET = frozenset(route.path for route in ROUTES if route.reach is Reach.ANYONE)


def _route_name(request: web.Request, path_prefix: str) -> str:
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical.removeprefix(path_prefix)


async def _pools(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[PARTS].light.close()
    await app[PARTS].heavy.close()
