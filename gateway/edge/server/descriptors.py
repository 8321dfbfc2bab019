"""File descriptors of a worker: as many as the machine allows, and some that no client can take.

A client's connection takes one, and so may its call at an upstream.  Stores, files, listeners
and the admin listener need theirs whatever strangers do.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

RESERVED = 256
"""For stores, files, listeners and the admin listener."""
ADMIN_CONNECTIONS = 1_024
"""Of the admin listener, where the proxies ask that want decisions."""
LEAST_ADMIN_CONNECTIONS = 64
"""The same where descriptors are few: within RESERVED."""


def raise_limit() -> None:
    """The soft limit becomes the hard one, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Refused where the hard limit is past what the kernel lets anybody have (fs.nr_open).
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_clients(wanted: int) -> int:
    """How many connections of clients a worker may hold: `wanted`, or as many as leave
    RESERVED (a quarter, where there are few), what the admin listener takes beyond that, and one
    descriptor for an upstream to every two clients."""
    soft = _soft_limit()
    return min(wanted, (soft - min(RESERVED, soft // 4) - _more_for_admin(soft)) * 2 // 3)


def room_for_admin() -> int:
    """How many connections the admin listener may hold: a sixteenth of what there is, at most
    ADMIN_CONNECTIONS."""
    return LEAST_ADMIN_CONNECTIONS + _more_for_admin(_soft_limit())


def are_scarce() -> bool:
    """Whether so few are left that none may be taken for an upstream: those are for stores and
    files, whatever clients call.

    POSIX gives the lowest that is free (open, section 2.6): all below that number are taken.
    """
    soft = _soft_limit()
    spare = min(RESERVED, max(soft - RESERVED, 0) // 8) + _more_for_admin(soft)
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(lowest)
    return lowest >= soft - spare


def _soft_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _more_for_admin(soft: int) -> int:
    return (
        min(ADMIN_CONNECTIONS, max(soft // 16, LEAST_ADMIN_CONNECTIONS)) - LEAST_ADMIN_CONNECTIONS
    )
