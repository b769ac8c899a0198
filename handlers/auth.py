"""Who may ask: a bearer of ``AUTH_TOKEN``, an owner of a platform token, or a trusted neighbour.

The check has two halves. :func:`admit` looks at the connection and the token before anything is read;
:func:`permit` asks the platform about one project, once the request says which.
"""

from __future__ import annotations

import hmac
import re
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from aiohttp import web

from handlers.peers import address_of
from state.errors import Invisible, UnknownCaller
from state.ports import Platform

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

SIGNS_OF_A_PROXY = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Origin")
"""With one of these the peer's address is not the caller's: a proxy, or a web page in its browser."""

UNREGISTRABLE = (".localhost", ".local", ".internal")
"""Endings of names that nobody can have in the public DNS; nor can anybody have a name without a dot."""

PLAUSIBLE_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


class Reach(Enum):
    """Who a route is for."""

    ANYONE = "no token needed, nothing told"
    MEMBERS = "a token for the project"
    NEIGHBOURS = "a token for the project, or a trusted network"
    OPERATORS = "AUTH_TOKEN, or loopback"


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in.

    :param auth_token: opens everything; ``None`` when not configured
    :param trusted_networks: from where :attr:`Reach.NEIGHBOURS` need no token
    """

    auth_token: str | None = None
    trusted_networks: tuple[Network, ...] = LOOPBACK


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever was let in.

    :param operator: may see every project; otherwise each is asked for with `token`
    """

    operator: bool
    token: str | None = field(default=None, repr=False)


def admit(
    reach: Reach, request: web.Request, token: str | None, access: Access, platform: Platform | None
) -> Caller:
    """Let a caller in, or not.

    With neither ``AUTH_TOKEN`` nor a platform there is nobody to ask about a token, so loopback is
    open and nothing else is.

    :raises UnknownCaller: when a token is missing or cannot be one
    """
    if reach is Reach.ANYONE:
        return Caller(operator=False)
    if token is not None and access.auth_token is not None and _same(token, access.auth_token):
        return Caller(operator=True)
    if access.auth_token is None and platform is None:
        open_to = LOOPBACK
    elif token is None:
        open_to = {Reach.NEIGHBOURS: access.trusted_networks, Reach.OPERATORS: LOOPBACK}.get(reach, ())
    else:
        open_to = ()
    if _comes_from(request, open_to):
        return Caller(operator=True)
    asked = token is not None and platform is not None and reach is not Reach.OPERATORS
    if asked and PLAUSIBLE_TOKEN.fullmatch(token or ""):
        return Caller(operator=False, token=token)
    raise (
        OperatorsOnly("no token that opens this")
        if reach is Reach.OPERATORS
        else UnknownCaller("no token that opens this")
    )


class OperatorsOnly(UnknownCaller):
    """The token opens nothing here, and may be somebody's all the same."""


async def recognise(caller: Caller, platform: Platform | None) -> None:
    """Return if the caller is known, where the request names no project to ask about.

    :raises UnknownCaller: when not
    """
    if not caller.operator and platform is not None and caller.token is not None:
        await platform.recognise(caller.token)


async def permit(caller: Caller, platform: Platform | None, project_id: int) -> None:
    """Return if the caller may see the project.

    :raises Denied: as :meth:`state.ports.Platform.authorise` does
    """
    if caller.operator:
        return
    if platform is None or caller.token is None:
        raise Invisible("nobody vouches for this caller")
    await platform.authorise(caller.token, project_id)


def token_from_headers(request: web.Request) -> str | None:
    """Return the token of ``x-api-key`` or ``Authorization: Bearer``."""
    key = request.headers.get("x-api-key", "").strip()
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return key or (bearer.strip() if scheme.lower() == "bearer" else "") or None


def _same(token: str, expected: str) -> bool:
    # Headers may hold bytes that are no UTF-8; aiohttp keeps them as surrogates.
    return hmac.compare_digest(token.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass"))


def _comes_from(request: web.Request, networks: tuple[Network, ...]) -> bool:
    address = address_of(request.remote)
    if address is None or any(sign in request.headers for sign in SIGNS_OF_A_PROXY):
        return False
    if not all(map(_is_ours, request.headers.getall("Host", ()))):
        return False
    return any(address in network for network in networks)


def _is_ours(host: str) -> bool:
    """Tell an address, or a local name, from a name that somebody else may have made to lead here.

    A page of such a name (DNS rebinding) is in its browser's eyes of one origin with us, and may read the
    answers; the name is all that gives it away, as a browser sends no ``Origin`` with such a GET.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    with suppress(ValueError):
        ip_address(name)
        return True
    return "." not in name or name.endswith(UNREGISTRABLE)
