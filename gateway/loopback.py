"""Tells which hosts are this very machine, by how they are written.

Law: a name is never looked up: what it means may be anywhere, and may change after we have asked.
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """`localhost` and the loopback addresses; an IPv6 address without its brackets."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_or_below(host: str) -> bool:
    """The names below `localhost` too (RFC 6761 section 6.3); in lower case."""
    return is_loopback(host) or host.endswith(".localhost")
