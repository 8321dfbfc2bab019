"""What Linux knows of a TCP socket, and is told of it.  Elsewhere the answers are the careful ones.

The sockets of an event loop's transports are meant too: they have `getsockopt` and `setsockopt`.
"""

from __future__ import annotations

import socket
import struct
from typing import Protocol

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# struct tcp_info of linux/tcp.h: eight bytes of flags, then numbers of 32 bits, of which the
# tenth is tcpi_last_data_sent.
_LAST_DATA_SENT = struct.Struct("=44xI")


class Options(Protocol):
    """A socket, as far as it is needed here."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...


def reset_on_close(sock: Options) -> None:
    """From now on its end is a reset, and what was not sent is thrown away (socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def sent_ago_s(sock: Options) -> float | None:
    """Seconds since it was last sent a byte of data; None where nobody can say."""
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_SENT.size)
        (milliseconds,) = _LAST_DATA_SENT.unpack(told)
    except (AttributeError, OSError, struct.error):
        return None
    return float(milliseconds) / 1000
