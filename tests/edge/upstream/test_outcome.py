"""What callers may have brought about, and what is by nobody's doing."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from gateway.edge.upstream.outcome import Outcome, no_connection
from gateway.model import Reason


def numbered(number: int) -> OSError:
    """As the kernel's number makes it: of a class of its own, where there is one."""
    return OSError(number, os.strerror(number))


BY_NOBODY = [
    numbered(errno.ECONNREFUSED),
    numbered(errno.EHOSTUNREACH),
    numbered(errno.ENETUNREACH),
    numbered(errno.ENOENT),
    numbered(errno.EACCES),
    socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    OSError("the name has no address"),
    ssl.SSLError(1, "wrong version number"),
    ssl.SSLCertVerificationError(1, "certificate has expired"),
]
BY_SOMEBODY_PERHAPS = [
    numbered(errno.ECONNRESET),
    numbered(errno.ECONNABORTED),
    numbered(errno.EPIPE),
    numbered(errno.EAGAIN),
    numbered(errno.EADDRNOTAVAIL),
    numbered(errno.ENOBUFS),
    numbered(errno.EPERM),
    ConnectionResetError(),
    ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
]


@pytest.mark.parametrize("error", BY_NOBODY, ids=repr)
def test_what_no_number_of_calls_brings_about_is_by_nobody(error: OSError) -> None:
    failed = no_connection(error)
    assert (failed.reason, failed.outcome) == (Reason.UPSTREAM_UNREACHABLE, Outcome.UNREACHED)


@pytest.mark.parametrize("error", BY_SOMEBODY_PERHAPS, ids=repr)
def test_what_a_burst_may_bring_about_is_perhaps_by_whoever_meets_it(error: OSError) -> None:
    failed = no_connection(error)
    assert (failed.reason, failed.outcome) == (Reason.UPSTREAM_UNREACHABLE, Outcome.NOT_LET_IN)


@pytest.mark.parametrize("error", [TimeoutError(), numbered(errno.ETIMEDOUT)], ids=repr)
def test_what_was_not_taken_in_time_is_perhaps_by_whoever_waited(error: OSError) -> None:
    failed = no_connection(error)
    assert (failed.reason, failed.outcome) == (Reason.UPSTREAM_TIMEOUT, Outcome.NOT_LET_IN)
