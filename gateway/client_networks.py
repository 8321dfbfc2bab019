"""Tells whose calls are counted together: the holder of an IP address, and its neighbourhood.

Law: an address counts as what its holder cannot choose among.  The holder of one address of an
IPv6 /64 has all of it; an IPv4 address that is embedded in an IPv6 one is that IPv4 address,
whoever translated it, so that a translator in front of the gateway makes neither one caller of
all its users nor 65,536 callers of one.
"""

from __future__ import annotations

import ipaddress
from contextvars import ContextVar

UNKNOWN = "unknown"
"""What is no address counts together."""

OWN_TASKS = "own tasks"
asking_for: ContextVar[str] = ContextVar("asking_for", default="")
"""The neighbourhood of the call of `/auth` for which a store is asked; empty for any other call,
`OWN_TASKS` where a worker asks of itself."""

# RFC 6052 section 2.1 (NAT64), RFC 4291 section 2.5.5.2 (mapped), RFC 7915 section 2.1
# (translated): the IPv4 address is the last 32 bits.
_LAST_32 = frozenset(
    int(ipaddress.IPv6Address(prefix)) >> 32
    for prefix in ("64:ff9b::", "::ffff:0:0", "::ffff:0:0:0")
)
# RFC 8215: where in it the IPv4 address stands is the operator's choice.  Each IPv4 host has
# one address of it, and none has a /64.
_LOCAL_NAT64 = int(ipaddress.IPv6Address("64:ff9b:1::")) >> 80

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def holder(client_ip: str) -> str:
    """The IPv4 address, also one inside of IPv6; else the IPv6 /64.  A zone is no part of it."""
    address = _parse(client_ip)
    if address is None:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address) or int(address) >> 80 == _LOCAL_NAT64:
        return str(address)
    return _network(address, 64)


def nearby(client_ip: str) -> str:
    """The IPv4 /24 or the IPv6 /64: where one client's calls come from within some seconds."""
    address = _parse(client_ip)
    return (
        _network(address, 24) if isinstance(address, ipaddress.IPv4Address) else holder(client_ip)
    )


def neighbourhood(client_ip: str) -> str:
    """The IPv4 /24 or the IPv6 /48."""
    address = _parse(client_ip)
    if address is None:
        return UNKNOWN
    return _network(address, 24 if isinstance(address, ipaddress.IPv4Address) else 48)


def _network(address: _Address, bits: int) -> str:
    kept = address.max_prefixlen - bits
    return f"{type(address)(int(address) >> kept << kept)}/{bits}"


def _parse(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if int(address) >> 32 in _LAST_32:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    # 6to4 (RFC 3056 section 2) holds the IPv4 address in its second to fifth byte, Teredo
    # (RFC 4380 section 4) the client's in its last four, inverted.
    if address.sixtofour is not None:
        return address.sixtofour
    return address.teredo[1] if address.teredo is not None else address
