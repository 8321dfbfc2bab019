"""Ports of 127.0.0.1 for what a test starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000


def free_port() -> int:
    """One that nobody listens on now, and that no connection is given as its own end: the kernel
    takes those from a range of their own, and would take one that is chosen before it is bound."""
    last = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    for _ in range(1_000):
        port = random.randrange(_LOWEST, last)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port from {_LOWEST} to {last} is free")
