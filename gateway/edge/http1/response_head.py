"""HTTP/1.1 read strictly, on both legs.  Nothing here does I/O.

Law: the bytes of a message are framed in exactly one way or not at all.  Whatever another
reader could understand differently raises Malformed, and the connection that said it is thrown
away: a header line without a name, an obs-fold, a bare CR or LF, a control character, two
lengths, a length beside a coding, a coding other than `chunked`, a chunk size that is not plain
hexadecimal, a chunk that does not end with CRLF.  How the bytes were cut into reads never
changes what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import filterfalse
from typing import Any

from gateway.bounded_memo import MINUTE_S, BoundedMemo
from gateway.edge.http1.grammar import (
    Malformed,
    check_line,
    check_name,
    name_of,
    tokens,
    value_of,
)

MAX_HEAD_BYTES = 65_536
MAX_FIELDS = 256

# What takes the place of a length.  The two without a length stand below NO_BODY.
NO_BODY = -1
UNTIL_CLOSE = -2
CHUNKED = -3

# RFC 9110 sections 15.3.5 and 15.4.5: these never have a body.
BODILESS = frozenset((204, 304))


_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*))?")


# What a field of a response is to this gateway.  PASS is 0: it only passes.
PASS, LENGTH, CODING, CONNECTION, REMOVED, COOKIE, VIA, CORS, LIMITS, WATCHED = range(10)
BINDING = 10

_KINDS = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    # RFC 9110 section 7.6.1: these speak of the connection, whether `Connection` names them or not.
    b"keep-alive": REMOVED,
    b"proxy-connection": REMOVED,
    b"proxy-authenticate": REMOVED,
    b"proxy-authentication-info": REMOVED,
    b"te": REMOVED,
    b"upgrade": REMOVED,
    # Ours is sent instead.
    b"x-request-id": REMOVED,
    b"set-cookie": COOKIE,
    b"via": VIA,
    b"access-control-allow-origin": CORS,
    b"access-control-allow-credentials": CORS,
    b"access-control-allow-methods": CORS,
    b"access-control-allow-headers": CORS,
    b"access-control-expose-headers": CORS,
    b"access-control-max-age": CORS,
    b"ratelimit": LIMITS,
    b"ratelimit-policy": LIMITS,
}
SPECIAL = frozenset(_KINDS)


Special = tuple[int, bytes, bytes]
"""What a line is to the gateway, its name in lower case, and its value."""


class Head:
    """A response's status line and fields; `fields` are whole lines, less their CRLF.

    Framing and persistence are read already; `removed` are the lines that speak of the
    connection, `special` those on which it depends what becomes of them.
    """

    __slots__ = (
        "chunked",
        "connection",
        "dated",
        "fields",
        "keeps_open",
        "length",
        "minor",
        "reader",
        "removed",
        "special",
        "start",
        "status",
    )

    reader: ResponseHeadReader
    """Whoever read it, and is told which further names somebody asks about."""

    def __init__(self, start: bytes, status: int, minor: int, fields: list[bytes]) -> None:
        self.start = start
        """The status line for the client: that of 1.1, whatever the upstream speaks."""
        self.status = status
        self.minor = minor
        self.fields = fields
        self.length: int | None = None
        self.chunked = False
        self.keeps_open = minor == 1
        """RFC 9112 section 9.3: 1.1 persists unless it says `close`; 1.0 is not asked to."""
        self.dated = False
        """Whether a `Date` came."""
        self.connection: list[bytes] | None = None
        """The members of `Connection`, unless it says `keep-alive` alone."""
        self.removed: list[bytes] = []
        self.special: list[tuple[bytes, Special]] | None = None

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, in order; `name` in lower case."""
        return [value_of(line) for line in self.fields if name_of(line) == name]


# These sign a connection in (RFC 4559 section 6), and not a request: whoever comes next on it
# would be taken for the caller of before.
_BINDS = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?![^ \t,])", re.IGNORECASE)

_MEMO_LINES = 2_048
_MEMO_LINE_BYTES = 256
_MEMO_STATUSES = 128
_MEMO_BLOCKS = 1_000


class ResponseHeadReader:
    """Reads the answers of all upstreams of one worker, and remembers lines that were checked
    before: an upstream sends most of its own again and again.

    What is remembered is bounded, in number and in length: one that invents fields must not fill
    the memory.
    """

    __slots__ = ("_is_plain", "_lines", "_plain", "_statuses", "_watched", "rendered")

    def __init__(self, *, lines: int = _MEMO_LINES, statuses: int = _MEMO_STATUSES) -> None:
        self._plain: BoundedMemo[bytes, None] = BoundedMemo(lines, kept_s=MINUTE_S)
        """Whole lines that only pass; there is another `Date` each second."""
        self._is_plain = self._plain.__contains__
        self._lines: BoundedMemo[bytes, Special] = BoundedMemo(lines, kept_s=MINUTE_S)
        """Whole lines that the gateway reads."""
        self._statuses: BoundedMemo[bytes, tuple[bytes, int, int]] = BoundedMemo(statuses)
        """By the status line: that for the client, its status, and the upstream's version."""
        self._watched: set[bytes] = set()
        """Names, beside those of _KINDS, whose presence somebody asks about."""
        self.rendered: BoundedMemo[int, Any] = BoundedMemo(_MEMO_BLOCKS)
        """What is sent for a block of the configuration whose names are watched here, by the
        block's `id`; whoever renders it asks whether it is of that block still."""

    @property
    def remembered(self) -> int:
        """The entries of the largest of its memos."""
        return max(len(self._plain), len(self._lines), len(self._statuses))

    def watch(self, names: Iterable[bytes]) -> None:
        """From now on a field of one of these names, in lower case, is found in `Head.special`."""
        fresh = set(names).difference(self._watched, _KINDS)
        if fresh:
            self._watched.update(fresh)
            self._plain.clear()

    def read(self, block: bytes) -> Head:
        """The head of a response, which ends before the CRLF CRLF that closed it.

        Its framing is held to RFC 9112 section 6.3: 3. a coding beside a length "ought to be
        handled as an error"; 4. a response whose coding is not chunked is read until close, which
        this refuses instead; 5. an invalid length is unrecoverable.
        """
        fields = block.split(b"\r\n")
        if len(fields) > MAX_FIELDS:
            raise Malformed("too many fields")
        line = fields.pop(0)
        start, status, minor = self._statuses.get(line) or self._read_status(line)
        head = Head(start, status, minor, fields)
        head.reader = self
        # Not by `in`, which asks first whether the bytes are a number, and makes an error of it.
        head.dated = block.find(b"\r\nDate:") >= 0 or any(
            name_of(line) == b"date" for line in fields
        )
        lines = self._lines
        for line in filterfalse(self._is_plain, fields):
            special = lines.get(line) or self._read_field(line)
            kind = special[0]
            if kind == LENGTH:
                if head.length is not None:
                    raise Malformed("two lengths")
                head.length = int(special[2])
            elif kind == CONNECTION:
                head.removed.append(line)
                if special[2] != b"keep-alive":
                    head.connection = tokens(special[2]) + (head.connection or [])
                    head.keeps_open = head.keeps_open and b"close" not in head.connection
            elif kind == CODING:
                if head.chunked:
                    raise Malformed("two codings")
                head.chunked = True
                head.removed.append(line)
            elif kind == REMOVED:
                head.removed.append(line)
            elif kind:
                if kind == BINDING:
                    head.keeps_open = False
                head.special = head.special or []
                head.special.append((line, special))
        if head.chunked and (head.length is not None or not minor):
            raise Malformed("a length beside a coding, or a coding in 1.0")
        return head

    def _read_status(self, line: bytes) -> tuple[bytes, int, int]:
        """What a status line that did not come before is to the client, its status and version."""
        check_line(line)
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Malformed("status line")
        minor, status, reason = match.groups(b"")
        start = b"HTTP/1.1 %b %b" % (status, reason)
        read = start, int(status), 1 if minor == b"1" else 0
        self._statuses.keep(line, read)
        return read

    def _read_field(self, line: bytes) -> Special:
        """What a line that did not come before, or not lately, is."""
        check_line(line)
        name, colon, value = line.partition(b":")
        check_name(name)
        if not colon:
            raise Malformed("no colon")
        name, value = name.lower(), value.strip(b" \t")
        kind = _KINDS.get(name, WATCHED if name in self._watched else PASS)
        if name == b"www-authenticate" and _BINDS.search(value):
            kind = BINDING
        if kind == LENGTH and not (value.isdigit() and len(value) <= 18):
            # Plain digits: int() would take "+5", "1_0" and more.  18 digits stay below 2^63.
            raise Malformed("content length")
        if kind == CODING and value.lower() != b"chunked":
            raise Malformed("transfer coding")
        if kind == CONNECTION:
            value = value.lower()
        special = kind, name, value
        if len(line) <= _MEMO_LINE_BYTES and self._plain.comes_again(line):
            if kind:
                self._lines.keep(line, special)
            else:
                self._plain.keep(line, None)
        return special


def body_length(head: Head, *, is_head: bool) -> int:
    """Bytes of the body; or NO_BODY, UNTIL_CLOSE or CHUNKED.

    RFC 9112 section 6.3: 1. no body after HEAD, 1xx, 204, 304; 8. without a length or a
    coding it ends with the connection.
    """
    status, length = head.status, head.length
    if is_head or status < 200 or status in BODILESS:
        return NO_BODY
    if length is not None:
        return length
    return CHUNKED if head.chunked else UNTIL_CLOSE
