"""What an attempt shows of its target, and whether callers may have brought that about.

Law: only what no number of calls can bring about is by nobody's doing: nobody listens there, no way
leads there, the name is unknown, TLS fails.  Everything else may be a burst of one client's.  A
server whose queue of new connections is full drops what comes, or hangs up at once, and a machine
runs out of ports.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from enum import Enum, auto

from gateway.model import Reason


class Outcome(Enum):
    """How an attempt ended that shows something of its target."""

    ANSWERED = auto()
    UNREACHED = auto()
    """There was no connection, by nobody's doing."""
    NOT_LET_IN = auto()
    """There was no connection in time, or one that ended as it began."""
    BROKEN = auto()
    """It failed after the request, or a part of it, was sent."""


@dataclass(frozen=True, slots=True)
class NoConnection:
    """Why a call got none."""

    reason: Reason
    outcome: Outcome | None
    """None where it tells nothing of the target."""
    why: str = ""


NO_DESCRIPTOR = NoConnection(Reason.UPSTREAM_BUSY, None, "no file descriptor is left")
ENDED_AT_ONCE = NoConnection(Reason.UPSTREAM_UNREACHABLE, Outcome.NOT_LET_IN)

_BY_NOBODY = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
    )
)
# The other end hung up in the middle of a handshake.
_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
_NUMBERED_APART = (ssl.SSLError, socket.gaierror)


def no_connection(error: OSError) -> NoConnection:
    """What connecting raised, but for a lack of descriptors."""
    if isinstance(error, TimeoutError):
        return NoConnection(Reason.UPSTREAM_TIMEOUT, Outcome.NOT_LET_IN, "no answer in time")
    outcome = Outcome.NOT_LET_IN if may_be_of_callers(error) else Outcome.UNREACHED
    why = error.strerror or type(error).__name__
    return NoConnection(Reason.UPSTREAM_UNREACHABLE, outcome, why)


def may_be_of_callers(error: OSError) -> bool:
    """Whether a number of calls may have brought it about."""
    if isinstance(error, _NUMBERED_APART):
        return isinstance(error, _HUNG_UP)
    # One of our own, without a number, tells of a name.
    return error.errno not in _BY_NOBODY and (type(error) is not OSError or error.errno is not None)
