"""The functions that conditions have besides CEL's own."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any

from gateway.access.roles import matches
from gateway.model import Principal

# What is read once is remembered, and a caller may write it: an IPv6 address, its zone, a length.
_LONGEST_ADDRESS = 128


def in_cidr(address: Any, block: Any) -> bool | None:
    """Whether `address` lies in `block`; None, which fails the condition, if either is none.

    An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    """
    if not isinstance(address, str) or not isinstance(block, str):
        return None
    network = _network(block) if len(block) <= _LONGEST_ADDRESS else None
    read = address_of(address)
    if network is None or read is None:
        return None
    return read.version == network.version and read in network


@lru_cache(maxsize=1024)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address; None for what is none, and for more text than one can have."""
    return _address(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def has_scope(principal: Principal | None, action: Any) -> bool:
    """Whether the credential may be used for `action`: any may that is limited to nothing."""
    if principal is None or not isinstance(action, str):
        return False
    if principal.scopes is None:
        return True
    return any(matches(scope, action) for scope in principal.scopes)
