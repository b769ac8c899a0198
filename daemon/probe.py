"""Asking the daemon of this machine whether it lives: for a container's health check, light and quick."""

from __future__ import annotations

import http.client
from ipaddress import ip_address

from state.errors import Misconfigured, Unavailable

SECONDS = 4.0
"""Longest an answer may take."""


def check_lives(host: str, port: int) -> None:
    """Return if the daemon that was told to listen there answers.

    :raises Misconfigured: when the port is left to chance
    :raises Unavailable: when it does not answer, or does not answer that it runs
    """
    if port == 0:
        raise Misconfigured("PORT", "0 takes any port, so nobody knows which to ask")
    connection = http.client.HTTPConnection(_on_this_machine(host), port, timeout=SECONDS)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable("daemon", f"{host}:{port} does not answer: {error}") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise Unavailable("daemon", f"{host}:{port} answers with status {status}")


def _on_this_machine(host: str) -> str:
    """Return where a daemon that listens on `host` is asked: on loopback, if it listens everywhere."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
