"""Ports of 127.0.0.1 for what a test starts."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench.rig import PORTS

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000


def free_port() -> int:
    """One that nobody listens on now, that no connection is given as its own end, and that nobody
    else is given by this function until this process ends.

    The kernel takes ends of connections from a range of their own, and would take one that is
    chosen before it is bound.  So would another process of pytest-xdist, which chooses too, and
    so would a bench that a test runs: its ports are always the same.
    """
    last = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    for _ in range(1_000):
        # Within a property, hypothesis makes the usual draws of all processes the same.
        port = random.SystemRandom().randrange(_LOWEST, last)
        if port in PORTS or not _OURS.take(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no port from {_LOWEST} to {last} is free")


@dataclass
class _Taken:
    """The ports that this process was given.  Each is a byte of a file that all processes of this
    user lock; the kernel lets go of the locks of one that has ended, however it has."""

    path: Path
    ports: set[int] = field(default_factory=set)
    descriptor: int = -1
    """Kept: to close any descriptor of the file would give up all locks of the process."""

    def take(self, port: int) -> bool:
        """Whether nobody had it."""
        if port in self.ports:
            return False
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self.ports.add(port)
        return True


_OURS = _Taken(Path(tempfile.gettempdir()) / f"authgate-test-ports-{os.geteuid()}")
