"""What Linux knows of a TCP socket, and is told of it.  Elsewhere the answers are the careful ones.

The sockets of an event loop's transports are meant too: they have `getsockopt` and `setsockopt`.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from typing import Protocol

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# struct tcp_info of linux/tcp.h: eight bytes of flags, then numbers of 32 bits, of which the
# tenth is tcpi_last_data_sent.
_LAST_DATA_SENT = struct.Struct("=44xI")


class Options(Protocol):
    """A socket, as far as it is needed here."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...

    def fileno(self) -> int: ...


def tune(sock: Options | None) -> None:
    """Answers leave at once, however small; and who has vanished is found out by the kernel."""
    if sock is None:
        return
    on = struct.pack("i", 1)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, on)
    # A unix socket has no such option.
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, on)


def reset_on_close(sock: Options) -> None:
    """From now on its end is a reset, and what was not sent is thrown away (socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


# BPF, on a TCP segment that came for a listening socket: load the byte of its flags; where SYN is
# set drop it, else let it pass.
_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x45, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)
_SO_ATTACH_FILTER = 26


def refuse_new(listening: Options) -> bool:
    """From now on nobody begins to connect; who has begun is connected all the same.

    To close a listening socket resets whoever is in its queue.  Until then SYNs are dropped
    (socket(7), SO_ATTACH_FILTER): who dials tries again after a second, and finds another
    worker, or nobody.  False where the machine cannot do that.
    """
    if not sys.platform.startswith("linux"):
        return False
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    told = struct.pack("HL", len(_NO_SYN) // 8, ctypes.addressof(program))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)
    except OSError:
        return False
    return True


def has_taken_all(sock: Options) -> bool:
    """Whether its peer has confirmed every byte that was sent (SIOCOUTQ of tcp(7)); True where
    nobody can say."""
    try:
        told = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (AttributeError, OSError):
        return True
    return not any(told)


def sent_ago_s(sock: Options, unknown_s: float) -> float:
    """Seconds since it was last sent a byte of data; `unknown_s` where nobody can say."""
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_SENT.size)
        (milliseconds,) = _LAST_DATA_SENT.unpack(told)
    except (AttributeError, OSError, struct.error):
        return unknown_s
    return float(milliseconds) / 1000
