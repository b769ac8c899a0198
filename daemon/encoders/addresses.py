"""Where CLIP listens, as ``CLIP_HOST`` says it: URLs, or the number of an app's task on the platform.

A path may hold the token of a session, so no message and no ``repr`` shows one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from state.errors import Misconfigured, Rejected

SETTING = "CLIP_HOST"

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "grpc": 51000, "grpcs": 443}
"""By scheme; 51000 is what ``clip_server`` listens on unless told otherwise."""

SHORTEST_SECRET = 16
"""A part of a path is taken for a token from so many characters on."""

_TASK = re.compile(r"[1-9][0-9]{0,17}")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?")
_PATH = re.compile(r"(?:/[\w.~%!$&'()*+,;=:@-]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """One place where a CLIP service listens.

    :ivar host: a name, or a number; one of IPv6 without brackets
    :ivar path: what stands before every path of the service; empty, or ``/`` and more, with no ``/`` at
        its end
    """

    scheme: str
    host: str
    port: int
    path: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The address for people and logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address for those who connect; it may hold a secret."""
        return self.name + self.path

    @property
    def secrets(self) -> tuple[str, ...]:
        """What the path holds that may be a token, to be kept out of logs."""
        return tuple(part for part in self.path.split("/") if len(part) >= SHORTEST_SECRET)

    def under(self, path: str) -> Address:
        """Return the address of `path` below this one.

        :raises Rejected: when it is no plain path; the message does not show it
        """
        below = f"{self.path}/{path.strip('/')}".rstrip("/")
        if not _PATH.fullmatch(below) or {".", ".."} & {*below.split("/")}:
            raise Rejected("a path with characters or parts that none can have")
        return replace(self, path=below)


@dataclass(frozen=True, slots=True)
class Task:
    """An app of the platform, by the number of its task."""

    id: int


Find = Callable[[], Awaitable[tuple[Address, ...]]]
"""Says where CLIP is now, most probably where it was before; raises ``Unavailable`` when it is nowhere."""


def fixed(addresses: tuple[Address, ...]) -> Find:
    """Return a `Find` for addresses that do not change."""

    async def find() -> tuple[Address, ...]:
        return addresses

    return find


def parse(text: str) -> tuple[Address, ...] | Task:
    """Read ``CLIP_HOST``.

    :raises Misconfigured: when it is neither a task's number nor a list of different URLs
    """
    text = text.strip()
    if _TASK.fullmatch(text):
        return Task(int(text))
    parts = text.split(",")
    if any(part.strip().isdecimal() for part in parts):
        raise Misconfigured(SETTING, "a task's number stands alone, and is at least 1")
    addresses = tuple(map(address_of, parts))
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            raise Misconfigured(SETTING, f"{address.name} stands there twice")
    return addresses


def address_of(url: str, setting: str = SETTING, scheme: str = "grpc") -> Address:
    """Read one URL.

    :param setting: where it comes from
    :param scheme: the one it has when it says none
    :raises Misconfigured: when it is none that a CLIP service can have
    """
    url = url.strip()
    if not url:
        raise Misconfigured(setting, "a part is empty")
    if not url.isprintable() or " " in url:
        raise Misconfigured(setting, "has a blank or a control character within")
    try:
        parts = urlsplit(url if "://" in url else f"{scheme}://{url}")
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            host = IPv6Address(host).compressed
    except ValueError:
        # The parser's own words would quote what is wrong, which may be a token out of place.
        raise Misconfigured(
            setting, "has a host or port that cannot be read; IPv6 is written [::1]:51000"
        ) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise Misconfigured(setting, f"unknown scheme; known are {', '.join(DEFAULT_PORTS)}")
    if "@" in parts.netloc:
        raise Misconfigured(setting, "a user in it is not supported; a token goes into CLIP_AUTH_TOKEN")
    if "?" in url or "#" in url:
        raise Misconfigured(setting, "a query or fragment means nothing here")
    if not (":" in host or _HOST.fullmatch(host)) or port == 0:
        raise Misconfigured(setting, "has a host or port that cannot be; IPv6 is written [::1]:51000")
    address = Address(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme])
    if parts.path.strip("/") and parts.scheme.startswith("grpc"):
        raise Misconfigured(setting, f"{address.name}: gRPC has no paths")
    try:
        return address.under(parts.path)
    except Rejected as problem:
        raise Misconfigured(setting, f"{address.name}: {problem}") from problem
