"""Who has sent much at once is read a little at a time, and everybody else in between.

Law: of what one connection has sent, SHARE is taken before others have their turn, and all who
wait for the rest of theirs share TURN_S of each turn of the loop.  A loop reads one socket up
to 32 times before it looks at the next: who has to wait is not read meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol, cast

SHARE = 256
"""Of chunks, or of WebSocket frames: what takes a millisecond or two."""
HEAD_SHARE = 16
"""What one request counts, in chunks."""
TURN_S = 0.002


class _TlsTransport(Protocol):
    def set_read_buffer_limits(self, high: int) -> None: ...


def hold_tls_back(transport: asyncio.BaseTransport) -> None:
    """While its reading is paused no more than one read of its socket waits in it.

    Over TLS both loops read on meanwhile, 256 KiB; and where the end is next, uvloop throws away
    what it has read and not told yet.
    """
    if transport.get_extra_info("sslcontext") is not None:
        cast(_TlsTransport, transport).set_read_buffer_limits(high=1)


class Turns:
    """Those of one listener, or of all upstreams."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._due = False

    def wait(self, go_on: Callable[[], None]) -> None:
        """Calls `go_on` once others were read."""
        self._waiting.append(go_on)
        self._call_soon()

    def _call_soon(self) -> None:
        if self._waiting and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        until = monotonic() + TURN_S
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if monotonic() >= until:
                    break
        finally:
            self._call_soon()
