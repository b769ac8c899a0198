"""From a failure to an answer: what of it the caller is told, and with which status.

What a service said, where it lives and what broke inside stays in the log; the caller learns who is
away, which field is wrong, or the request id to report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web
from pydantic import ValidationError

from handlers.answers import reply
from state.errors import (
    EmbedsyncError,
    Inconsistent,
    Invisible,
    NotInPlan,
    Rejected,
    Unavailable,
    UnknownCaller,
)

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5
"""What ``Retry-After`` says where the service away did not say itself."""

MAX_PROBLEMS = 20
"""Of more problems than these nobody reads the rest."""

INVISIBLE = "There is no such project, or it is not yours to see."


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field of a request."""

    field: str
    problem: str


class BadRequest(EmbedsyncError):
    """The request itself is wrong.

    :param field: the field at fault, ``body`` for the whole of it
    :param status: 400, or 422 where it is well formed but means nothing
    """

    def __init__(self, field: str, problem: str, status: int = 400) -> None:
        super().__init__(f"{field}: {problem}")
        self.problems = [Problem(field, problem)]
        self.status = status


class Busy(EmbedsyncError):
    """As many requests of this kind as are allowed are being answered already, or came lately.

    :param seconds: until it is worth trying again
    """

    def __init__(self, problem: str, seconds: float = 1.0) -> None:
        super().__init__(problem)
        self.seconds = seconds


class NotYet(Unavailable):
    """What was asked for is being made; unlike a service's own words, `problem` is for the caller."""


class NoEmbeddings(EmbedsyncError):
    """The project has no collection that could answer."""


def answer_to(failure: Exception, request_id: str) -> web.Response:
    """Say what went wrong to the caller, and what is ours to mend to the log."""
    match failure:
        case web.HTTPException():
            return _from_aiohttp(failure)
        case BadRequest():
            return _wrong(failure.problems, failure.status)
        case ValidationError():
            return _wrong(_problems(failure), 400)
        case UnknownCaller():
            return _refusal(401, "A valid token is needed.", {"WWW-Authenticate": "Bearer"})
        case Invisible():
            return _refusal(404, INVISIBLE)
        case NoEmbeddings():
            return _refusal(404, str(failure))
        case NotInPlan():
            return _refusal(403, str(failure))
        case Busy():
            seconds = math.ceil(failure.seconds)
            return _refusal(429, f"{failure} Try again in {seconds} s.", {"Retry-After": str(seconds)})
        case NotYet():
            return _later(failure.problem, failure.retry_after)
        case Unavailable():
            log.warning("service.unavailable", service=failure.service, problem=failure.problem)
            return _later(f"{failure.service} cannot answer now; try again later.", failure.retry_after)
        case Inconsistent():
            log.warning("evidence.inconsistent", problem=str(failure))
            return _later("The evidence does not add up just now; try again.", None)
        case Rejected():
            return _refusal(422, str(failure))
        case _:
            log.error("request.failed", exc_info=failure)
            return reply(
                {
                    "message": f"The fault is ours; it is logged under request id {request_id}.",
                    "request_id": request_id,
                },
                500,
            )


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return reply({"message": message}, status, headers)


def _later(message: str, seconds: float | None) -> web.Response:
    wait = RETRY_SECONDS if seconds is None or not math.isfinite(seconds) else max(1, math.ceil(seconds))
    return _refusal(503, message, {"Retry-After": str(wait)})


def _wrong(problems: Sequence[Problem], status: int) -> web.Response:
    return reply(
        {
            "message": "; ".join(f"{wrong.field}: {wrong.problem}" for wrong in problems),
            "errors": [{"field": wrong.field, "problem": wrong.problem} for wrong in problems],
        },
        status,
    )


def _problems(failure: ValidationError) -> list[Problem]:
    found = failure.errors(include_url=False, include_context=False, include_input=False)[:MAX_PROBLEMS]
    return [
        Problem(".".join(map(str, error["loc"])) or "body", error["msg"].removeprefix("Value error, "))
        for error in found
    ]


def _from_aiohttp(failure: web.HTTPException) -> web.Response:
    """Give aiohttp's own refusals (no such route, wrong method, too large) the shape of ours."""
    messages = {
        404: "There is nothing at this address; GET /openapi.json lists what there is.",
        405: "This address does not take that method.",
        413: "The body is too large.",
    }
    allowed = failure.headers.get("Allow")
    return _refusal(
        failure.status, messages.get(failure.status, failure.reason), {"Allow": allowed} if allowed else None
    )
