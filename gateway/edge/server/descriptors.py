"""File descriptors of a worker: as many as the machine allows, and some that no client can take.

A client's connection takes one, and so may its call at an upstream.  Stores, files, listeners
and the admin listener need theirs whatever strangers do.
"""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED = 256
"""For stores, files, listeners and the admin listener."""
ADMIN_CONNECTIONS = 64
"""Of the admin listener, within those."""


def raise_limit() -> None:
    """The soft limit becomes the hard one, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Refused where the hard limit is past what the kernel lets anybody have (fs.nr_open).
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_clients(wanted: int) -> int:
    """How many connections of clients a worker may hold: `wanted`, or as many as leave
    RESERVED (a quarter, where there are few) and one descriptor for an upstream to every two
    clients."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, (soft - min(RESERVED, soft // 4)) * 2 // 3)
