"""The host of a call (RFC 3986 section 3.2.2), as a `Host` field or a target names it."""

from __future__ import annotations

import ipaddress
import re

MAX_HOST_BYTES = 254
_HOST = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9._~-]+)|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?"
)


def canonical_host(raw: bytes) -> tuple[str, int | None] | None:
    """Host in lower case without final dot, and the port; None when it is no host.

    An IPv6 literal stands in brackets, in its shortest spelling (RFC 5952).
    """
    if len(raw) > MAX_HOST_BYTES:
        return None
    match = _HOST.fullmatch(raw)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65_536:
        return None
    if match["v6"]:
        ip = plain_ip(match["v6"].decode("ascii"), mapped=False)
        return None if ip is None else (f"[{ip}]", port)
    name = match["name"].decode("ascii").lower()
    if ".." in name or name[0] == ".":
        return None
    return name.removesuffix("."), port


def plain_ip(text: str, *, mapped: bool = True) -> str | None:
    """The shortest spelling of an address; None when it is none.

    With `mapped`, `::ffff:10.0.0.1` is `10.0.0.1`: a dual-stack socket shows IPv4 peers so,
    and an address list must not miss them.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if mapped and isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
