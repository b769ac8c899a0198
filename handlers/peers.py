"""Whose address a connection comes from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

NETWORK_OF_ONE = 64
"""Bits of an IPv6 address that its owner did not choose; below them are as many addresses as they like."""


def address_of(remote: str | None) -> IPv4Address | IPv6Address | None:
    """Return the address, of IPv4 also where it came in the clothes of IPv6; ``None`` where it is none."""
    try:
        address = ip_address(remote or "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def household(remote: str | None) -> str:
    """Return what all addresses of one owner have in common, as far as it can be told from them."""
    address = address_of(remote)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), NETWORK_OF_ONE), strict=False))
    return str(address or "")
