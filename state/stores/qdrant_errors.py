"""What a failed call to a Qdrant server means, over REST or gRPC, in our own words."""

from __future__ import annotations

import grpc
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from state.errors import EmbedsyncError, Inconsistent, Unavailable

SERVICE = "qdrant"

FAILURES = (ApiException, QdrantException, grpc.RpcError, ValueError, AssertionError)
"""All that the client raises: ``ValueError`` for an answer cut short or that is no JSON,
``AssertionError`` for one without a result."""

REFUSED = (401, 403)
DISK_RETRY_SECONDS = 60.0
KEY_RETRY_SECONDS = 60.0
LONGEST_MESSAGE = 300

NO_ANSWER = 0
"""Stands for the status where there is none: no connection, or an answer that could not be read."""

STATUS_OF_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def status_of(error: Exception) -> int:
    """Return the HTTP status of a failure, or what would be it in HTTP."""
    if isinstance(error, ResourceExhaustedResponse):
        return 429
    if isinstance(error, UnexpectedResponse):
        return error.status_code or NO_ANSWER
    if isinstance(error, grpc.RpcError):
        return STATUS_OF_CODE.get(error.code(), 500)
    return NO_ANSWER


def passes(error: Exception) -> bool:
    """Tell whether the same call may well succeed a moment later; after a time-out it may not."""
    if isinstance(error, ResponseHandlingException):
        return "Timeout" not in type(error.source).__name__
    return status_of(error) in (NO_ANSWER, 429, 502, 503)


def retry_after(error: Exception) -> float | None:
    """Return the seconds the server asked to be left alone for."""
    return float(error.retry_after_s) if isinstance(error, ResourceExhaustedResponse) else None


def translated(error: Exception, writing: bool) -> EmbedsyncError:
    """Return the error of ours that says the same.

    A 404 that is not in the server's own words is of a proxy whose server is away, and no evidence.
    """
    status, message = status_of(error), _message(error)
    if status in REFUSED:
        refused = "may not write" if writing else "was refused"
        return Unavailable(SERVICE, f"the key in QDRANT_API_KEY {refused}: {message}", KEY_RETRY_SECONDS)
    if "already exists" in message or (status == 404 and "Not found:" in message):
        return Inconsistent(f"{SERVICE}: {message}")
    if "No space left on device" in message:
        return Unavailable(SERVICE, f"the server's disk is full: {message}", DISK_RETRY_SECONDS)
    return Unavailable(SERVICE, message, retry_after(error))


def _message(error: Exception) -> str:
    if isinstance(error, ResponseHandlingException):
        kind = type(error.source).__name__
        what = "no connection to what QDRANT_HOST names" if kind == "ConnectError" else kind
        message = f"{what}: {error.source}"
    elif isinstance(error, UnexpectedResponse):
        message = f"{error.status_code}: {_said(error)}"
    elif isinstance(error, grpc.RpcError):
        message = f"{error.code().name}: {error.details()}"
    else:
        message = f"{type(error).__name__}: {error}"
    return " ".join(message.split())[:LONGEST_MESSAGE]


def _said(error: UnexpectedResponse) -> str:
    """Return the server's own words, or what somebody else said in its place."""
    try:
        return str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return error.content.decode(errors="replace")
