"""What the master knows of its workers, and what it tells systemd (sd_notify(3)).

A service is ready once every worker can decide, which is when `/readyz` is 200: a worker that
can says so through a pipe that all of them inherit.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import suppress

_STARTING_FOR_US = 10_000_000
"""How much longer systemd is asked to wait, each second: a store that is away delays the start
without failing it (in microseconds, as EXTEND_TIMEOUT_USEC counts)."""


class Systemd:
    """Silent where the process was not started by systemd."""

    def __init__(self, address: str | None) -> None:
        """`address` is NOTIFY_SOCKET: a path, or an abstract name behind `@`."""
        self._address = address
        self._told = ""

    def starting(self, ready: int, workers: int) -> None:
        self._tell(
            f"EXTEND_TIMEOUT_USEC={_STARTING_FOR_US}\n"
            f"STATUS={ready} of {workers} workers can decide"
        )

    def ready(self, workers: int) -> None:
        self._tell(f"READY=1\nSTATUS={workers} workers can decide")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=draining")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        name = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text.encode(), name)


class Readiness:
    """Which workers have been able to decide.  Made before any fork."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._ready: set[int] = set()

    def tell(self) -> None:
        """In a worker: it can decide."""
        with suppress(OSError):
            os.write(self._write, b"%d\n" % os.getpid())

    def among(self, workers: Iterable[int]) -> int:
        """In the master: how many of the workers that live have told so."""
        with suppress(BlockingIOError):
            self._ready |= {int(pid) for pid in os.read(self._read, 65_536).split()}
        self._ready &= set(workers)
        return len(self._ready)


class Deaths:
    """How many workers have died since the start: one number, which the master steps and every
    worker reads, so that it does not end with the worker that told it.  Made before any fork."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    def add(self) -> None:
        """In the master alone."""
        self._shared[:8] = (self.count + 1).to_bytes(8, "little")

    @property
    def count(self) -> int:
        return int.from_bytes(self._shared[:8], "little")


def how_it_ended(pid: int) -> str | None:
    """`SIGKILL`, `exit code 1`; None while it lives, or where it is no child of ours any more.
    The child is left to whoever waits for it."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return f"exit code {ended.si_status}"
    try:
        return signal.Signals(ended.si_status).name
    except ValueError:
        return f"signal {ended.si_status}"
