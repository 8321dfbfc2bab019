"""The second path of a call: where COPY and MOVE write what they take (RFC 4918 section 10.3).

Law: it is a path of the call as any other.  Where it cannot be read in one way, or is another
host's, nobody can say whose it is.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gateway.access.field_names import folded
from gateway.access.routing.paths import canonical
from gateway.model import Call, RawHeaders, Reason

MOVING = frozenset(("COPY", "MOVE"))
"""The methods that name another path."""

_FIELD = b"destination"
# Section 8.3: an absolute URI, or a path.
_DESTINATION = re.compile(
    r"(?:https?://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::[0-9]*)?)?(?P<path>/[^?#]*)", re.I
)
# Some proxies join two fields of one name: where a second path begins behind a comma, the backend
# may be given both, of which it takes either.
_JOINED = re.compile(r",[ \t]*(?:/|https?:)", re.I)


def has_destination(headers: RawHeaders) -> bool:
    return any(folded(name) == _FIELD for name, _ in headers)


def moved_to(call: Call) -> Call | Reason | None:
    """The call of a COPY or MOVE as one of the path that it writes; None where it names none, and
    AMBIGUOUS_PATH where it is not one path of the same host."""
    named = [value for name, value in call.headers if folded(name) == _FIELD]
    if not named:
        return None
    text = named[0].decode("latin-1")
    match = _DESTINATION.fullmatch(text)
    if match is None or len(named) > 1 or _JOINED.search(text):
        return Reason.AMBIGUOUS_PATH
    host = match["host"]
    if host is not None and host.lower().removesuffix(".") != call.host:
        return Reason.AMBIGUOUS_PATH
    read = canonical(match["path"], files=True)
    if isinstance(read, Reason):
        return Reason.AMBIGUOUS_PATH
    return replace(
        call,
        path=match["path"],
        segments=read.segments,
        encoded_slash=read.encoded_slash,
        files_only=read.files_only,
    )
