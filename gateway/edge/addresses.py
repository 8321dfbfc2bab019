"""Where the name of an upstream leads now."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Protocol

from gateway.access.upstreams import UpstreamTarget

RESOLVE_EVERY_S = 5.0
"""How soon a busy upstream is left whose name leads elsewhere; idle ones are dialled anew."""


class Resolver(Protocol):
    async def addresses(self, host: str, port: int) -> list[str]:
        """In the order in which they are tried.  OSError when the name is not known."""


class SystemResolver:
    """As the machine resolves: `/etc/hosts`, DNS and whatever else it was told to ask."""

    async def addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


def has_name(target: UpstreamTarget) -> bool:
    """Whether there is anything to resolve: no unix socket and no address."""
    if target.socket_path is not None:
        return False
    try:
        ipaddress.ip_address(target.host)
    except ValueError:
        return True
    return False
