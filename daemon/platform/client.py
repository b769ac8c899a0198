"""Calls to the platform's methods, through its SDK, on our loop and under our time limits.

The SDK's own retries sleep for up to a minute and its high-level calls guess what to ask; so its
transport is used, with the bodies written out here and in the neighbours. Importing the SDK takes
seconds, which is why it happens in a thread and only when a client is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import structlog

from state.errors import Denied, Inconsistent, Invisible, Misconfigured, Rejected, Unavailable, UnknownCaller

SERVICE = "source"

CALL_SECONDS = 60.0
"""Longest a call may take."""

TRIES = 4
"""How often a call that may be repeated is tried, before its project waits."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds between two tries; a server that asks for more makes the project wait instead."""

Body = Mapping[str, Any]

log = structlog.get_logger()


class Client:
    """The platform, asked with one token: the daemon's own, or that of a caller.

    :param api: the SDK's ``Api``
    :param http: the SDK's HTTP library, for its exceptions
    :param token: a caller's
    """

    def __init__(
        self, api: Any, http: Any, sleep: Callable[[float], Awaitable[None]], token: str | None = None
    ) -> None:
        self._api = api
        self._http = http
        self._sleep = sleep
        self._headers = None if token is None else {"x-api-key": token}
        self._closing = asyncio.Event()

    @classmethod
    async def open(
        cls,
        server: str,
        token: str | None,
        api_server: str | None = None,
        access_token: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Client:
        """Open a client.

        :param server: the platform's address, as people know it
        :param token: the daemon's own
        :param api_server: its address within a network, which includes ``/public/api``
        :param access_token: what the server gives a token for, when there is none
        :raises Misconfigured: when the SDK is not installed, or refuses the address
        """
        try:
            sdk, http = await asyncio.to_thread(_import)
        except ImportError as error:
            raise Misconfigured("SOURCE", f"supervisely needs the extra `platform`: {error}") from error
        try:
            api = await asyncio.to_thread(
                sdk.Api, server, token, api_server_address=api_server, ignore_task_id=True
            )
        except (ValueError, TypeError) as error:
            raise Misconfigured("SERVER_ADDRESS", f"{server}: {error}") from error
        # After the first error the SDK would ask for the server's version, blocking the loop.
        api._version_check_completed = True
        client = cls(api, http, sleep)
        api._close_client_gracefully = client._retire
        if token is None:
            answer = await client.post("instance.admin-info", {"accessToken": access_token})
            api.token = fields_of(answer, "apiToken")["apiToken"]
            api.headers["x-api-key"] = api.token
        return client

    @property
    def server(self) -> str:
        """The platform's address."""
        return str(self._api.server_address)

    def on_behalf_of(self, token: str) -> Client:
        """Return a client over the same connections that asks with this token, and never with ours."""
        return Client(self._api, self._http, self._sleep, token)

    async def post(self, method: str, body: Body, *, repeatable: bool = True) -> Any:
        """Call a method and return its answer.

        :param repeatable: whether doing it twice does no harm
        :raises Unavailable: when the server does not answer, or asks to wait
        :raises UnknownCaller, Invisible: when the token is unknown, or may not see what is asked for
        :raises Rejected: when the server does not accept the body
        """
        return await self._tried(method, body, TRIES if repeatable else 1, lambda response: response.json())

    async def post_text(self, method: str, body: Body) -> str:
        """Call a method that answers in plain text, once, and return that; raises as `post` does."""
        return str(await self._tried(method, body, 1, lambda response: response.text))

    async def _tried(self, method: str, body: Body, tries: int, read: Callable[[Any], Any]) -> Any:
        pause = FIRST_PAUSE
        for last in (*[False] * (tries - 1), True):
            try:
                return await self._once(method, body, read)
            except Unavailable as problem:
                if last or (problem.retry_after or 0.0) > LONGEST_PAUSE:
                    raise
                await self._sleep(max(pause, problem.retry_after or 0.0))
                pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("a last try either answers or raises")

    async def _once(self, method: str, body: Body, read: Callable[[Any], Any]) -> Any:
        self._refuse_cookies()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                response = await self._api.post_async(
                    method,
                    json=dict(body),
                    headers=self._headers,
                    retries=1,
                    raise_error=True,
                    timeout=CALL_SECONDS,
                )
            return read(response)
        except self._http.HTTPStatusError as error:
            raise _failure(method, error.response) from error
        except (self._http.RequestError, TimeoutError) as error:
            raise Unavailable(SERVICE, f"{method}: {type(error).__name__}") from error
        except ValueError as error:
            raise Unavailable(SERVICE, f"{method}: the answer is no JSON") from error

    def _refuse_cookies(self) -> None:
        """Keep a session that the server may open for one token out of the calls with another."""
        self._api._set_async_client()
        self._api.async_httpx_client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    async def pages(self, method: str, body: Body) -> AsyncIterator[list[dict[str, Any]]]:
        """Read a listing that goes by page number: for short ones, which nothing is concluded from.

        :raises Inconsistent: when it does not add up to what the server says
        """
        count, number, pages = 0, 1, 1
        total = 0
        while number <= pages:
            answer = await self.post(method, {**body, "page": number})
            entities = rows_of(answer)
            count += len(entities)
            total, pages = number_of(answer.get("total", count)), number_of(answer.get("pagesCount", 1))
            yield entities
            number += 1
        if count != total:
            raise Inconsistent(f"{method}: {count} listed of {total}")

    async def _retire(self, connections: Any, delay: float = 30.0) -> None:
        """Close connections that the SDK has replaced, after what is asked over them, or when we close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._closing.wait()
        await connections.aclose()

    async def close(self) -> None:
        """Close the connections."""
        self._closing.set()
        if self._api.async_httpx_client is not None:
            await self._api.async_httpx_client.aclose()


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """Return the rows of a listing's answer.

    :raises Unavailable: when it is something else, such as a page of a proxy
    """
    rows = answer.get("entities") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unavailable(SERVICE, "a listing without rows")
    return rows


def fields_of(answer: Any, *names: str) -> Mapping[str, Any]:
    """Return an answer that is an object with these fields.

    :raises Unavailable: when it is something else, such as a page of a proxy
    """
    if not isinstance(answer, Mapping) or not all(name in answer for name in names):
        raise Unavailable(SERVICE, "an answer without what was asked for")
    return answer


def number_of(value: Any) -> int:
    """Return a number of an answer.

    :raises Unavailable: when it is none
    """
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Unavailable(SERVICE, "an answer with something else where a number belongs") from None


def _import() -> tuple[Any, Any]:
    import httpx
    import supervisely

    return supervisely, httpx


def _failure(method: str, response: Any) -> Unavailable | Denied | Rejected:
    """Say what an error status means."""
    status = response.status_code
    if status == 401:
        return UnknownCaller(f"{method}: the token is unknown")
    if status in (403, 404):
        return Invisible(f"{method}: not there, or not to be seen")
    if status == 429 or status >= 500:
        return Unavailable(
            SERVICE, f"{method}: status {status}", _seconds(response.headers.get("retry-after"))
        )
    return Rejected(f"{method}: status {status}: {response.text[:200]}")


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None
