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

MAX_HEAD_BYTES = 65_536
MAX_FIELDS = 256
MAX_CHUNK_LINE_BYTES = 1_024
MAX_TRAILER_BYTES = 16_384

# What takes the place of a length.  The two without a length stand below NO_BODY.
NO_BODY = -1
UNTIL_CLOSE = -2
CHUNKED = -3

# RFC 9110 sections 15.3.5 and 15.4.5: these never have a body.
BODILESS = frozenset((204, 304))

_TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
_TOKEN = re.compile(rb"[" + _TCHAR + rb"]{1,256}")

# RFC 9110 section 5.5: field-vchar is VCHAR / obs-text; HTAB and SP may stand between.
_FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_NO_FIELD_BYTE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")

# RFC 9112 section 7.1.1: chunk-ext = *( ";" chunk-ext-name [ "=" chunk-ext-val ] ).  The "bad
# white space" that the RFC lets a recipient accept is refused: no sender has a reason for it.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e])*"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:;[" + _TCHAR + rb"]+(?:=(?:[" + _TCHAR + rb"]+|" + _QUOTED + rb"))?)*"
)

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*))?")


# RFC 9112 section 3: method SP request-target SP HTTP-version, the version exact (2.3).  The
# target is visible ASCII; what it may hold is for the path and the host to say.
REQUEST_LINE = re.compile(rb"([A-Z]+(?:-[A-Z]+)*) ([\x21-\x7e]+) HTTP/1\.([01])")


class Malformed(Exception):
    """The bytes cannot be framed.  The text is constant and never shown to a client."""


# What a field of a response is to this gateway.  PASS is 0: it only passes.
PASS, LENGTH, CODING, CONNECTION, REMOVED, COOKIE, VIA, CORS, LIMITS, WATCHED = range(10)

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
        "removed",
        "special",
        "start",
        "status",
    )

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


# Whole lines that were checked and only pass.  An upstream sends most of its own again and
# again; bounded, in number and in length: one that invents fields must not fill the memory.
_plain: set[bytes] = set()
_is_plain = _plain.__contains__
_PLAIN_MAX = 2_048
_LINE_MAX = 256

# The same for lines that the gateway reads.
_lines: dict[bytes, Special] = {}
_LINES_MAX = 2_048

# Names, beside those of _KINDS, whose presence somebody asks about.
_watched: set[bytes] = set()

# What a status line says, once it was checked.  There are few; bounded all the same.
_statuses: dict[bytes, tuple[bytes, int, int]] = {}
_STATUSES_MAX = 128


def watch(names: Iterable[bytes]) -> None:
    """From now on a field of one of these names, in lower case, is found in `Head.special`."""
    fresh = set(names).difference(_watched, _KINDS)
    if fresh:
        _watched.update(fresh)
        _plain.clear()


def check_line(line: bytes) -> None:
    """A line of a head, less the CRLF that closed it, holds only what a field may hold.

    What is refused are NUL, control characters, bare CR and bare LF.
    """
    if _NO_FIELD_BYTE.search(line):
        raise Malformed("control character")


def check_name(name: bytes) -> None:
    """A field name is a token, directly before the colon.

    RFC 9112 section 5.1: no white space is allowed between the name and the colon; a server
    must refuse a request that has some.  Section 5.2: so is a line that begins with it.
    """
    if _TOKEN.fullmatch(name) is None:
        raise Malformed("field name")


def read_head(block: bytes) -> Head:
    """The head of a response, which ends before the CRLF CRLF that closed it.

    Its framing is held to RFC 9112 section 6.3: 3. a coding beside a length "ought to be
    handled as an error"; 4. a response whose coding is not chunked is read until close, which
    this refuses instead; 5. an invalid length is unrecoverable.
    """
    fields = block.split(b"\r\n")
    if len(fields) > MAX_FIELDS:
        raise Malformed("too many fields")
    line = fields.pop(0)
    start, status, minor = _statuses.get(line) or _learn_status(line)
    head = Head(start, status, minor, fields)
    head.dated = b"\r\nDate:" in block or any(name_of(line) == b"date" for line in fields)
    known = _lines
    for line in filterfalse(_is_plain, fields):
        special = known.get(line) or _learn(line)
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
            head.special = head.special or []
            head.special.append((line, special))
    if head.chunked and (head.length is not None or not minor):
        raise Malformed("a length beside a coding, or a coding in 1.0")
    return head


def _learn_status(line: bytes) -> tuple[bytes, int, int]:
    """What a status line that was not met before is to the client, its status and version."""
    check_line(line)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise Malformed("status line")
    if len(_statuses) >= _STATUSES_MAX:
        _statuses.clear()
    minor, status, reason = match.groups(b"")
    start = b"HTTP/1.1 %b %b" % (status, reason)
    known = _statuses[line] = start, int(status), 1 if minor == b"1" else 0
    return known


def _learn(line: bytes) -> Special:
    """What a line that was not met before, or not lately, is."""
    check_line(line)
    name, colon, value = line.partition(b":")
    check_name(name)
    if not colon:
        raise Malformed("no colon")
    name, value = name.lower(), value.strip(b" \t")
    kind = _KINDS.get(name, WATCHED if name in _watched else PASS)
    if kind == LENGTH and not (value.isdigit() and len(value) <= 18):
        # Plain digits: int() would take "+5", "1_0" and more.  18 digits stay below 2^63.
        raise Malformed("content length")
    if kind == CODING and value.lower() != b"chunked":
        raise Malformed("transfer coding")
    if kind == CONNECTION:
        value = value.lower()
    special = kind, name, value
    if len(line) <= _LINE_MAX:
        if not kind:
            if len(_plain) >= _PLAIN_MAX:
                _plain.clear()
            _plain.add(line)
        else:
            if len(_lines) >= _LINES_MAX:
                _lines.clear()
            _lines[line] = special
    return special


def name_of(line: bytes) -> bytes:
    """What stands before the colon, in lower case."""
    return line[: line.find(b":")].lower()


def value_of(line: bytes) -> bytes:
    """What follows the colon, without the white space around it (RFC 9112 section 5.1)."""
    return line[line.find(b":") + 1 :].strip(b" \t")


def body_length(head: Head, *, to_head: bool) -> int:
    """Bytes of the body; or NO_BODY, UNTIL_CLOSE or CHUNKED.

    RFC 9112 section 6.3: 1. no body after HEAD, 1xx, 204, 304; 8. without a length or a
    coding it ends with the connection.
    """
    status, length = head.status, head.length
    if to_head or status < 200 or status in BODILESS:
        return NO_BODY
    if length is not None:
        return length
    return CHUNKED if head.chunked else UNTIL_CLOSE


def tokens(value: bytes) -> list[bytes]:
    """The members of a list of tokens, in lower case."""
    return [token.strip(b" \t") for token in value.lower().split(b",")]


class ChunkReader:
    """RFC 9112 section 7.1, in pieces of any size.

    `feed` returns how many bytes were taken, and adds the chunks' contents to `out`; `done` is
    set once the trailer section has ended.  `trailers` are the lines of that section, checked
    as field lines are.
    """

    __slots__ = ("_left", "_line", "_state", "_trailer_bytes", "done", "trailers")

    _SIZE, _DATA, _DATA_END, _TRAILER = range(4)

    def __init__(self) -> None:
        self._state = self._SIZE
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0
        self.trailers: list[bytes] = []
        self.done = False

    def feed(self, data: bytes, out: list[bytes], at: int = 0) -> int:
        """How far into `data` the body reached, from `at`."""
        size = len(data)
        while at < size and not self.done:
            if self._state == self._DATA:
                piece = data[at : at + self._left] if at or size > self._left else data
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = self._DATA_END
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                self._check_size()
                return size
            line = self._line + data[at:end]
            self._line = b""
            at = end + 1
            self._take(line)
        return at

    def _check_size(self) -> None:
        limit = {
            self._SIZE: MAX_CHUNK_LINE_BYTES,
            self._DATA_END: 1,
            self._TRAILER: MAX_TRAILER_BYTES - self._trailer_bytes,
        }[self._state]
        # Its last byte may be the CR of the line's end.
        if len(self._line) > limit + 1:
            raise Malformed("chunk line")
        if self._state == self._DATA_END and self._line not in (b"", b"\r"):
            raise Malformed("chunk end")

    def _take(self, line: bytes) -> None:
        # "\n" ended it: the "\r" before it must be there, and be the only one.
        if line[-1:] != b"\r":
            raise Malformed("bare LF")
        line = line[:-1]
        if self._state == self._SIZE:
            match = _CHUNK_LINE.fullmatch(line) if len(line) <= MAX_CHUNK_LINE_BYTES else None
            if match is None:
                raise Malformed("chunk size")
            self._left = int(match[1], 16)
            self._state = self._DATA if self._left else self._TRAILER
        elif self._state == self._DATA_END:
            if line:
                raise Malformed("chunk end")
            self._state = self._SIZE
        elif not line:
            self.done = True
        else:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > MAX_TRAILER_BYTES or line.translate(None, _FIELD_BYTES):
                raise Malformed("trailer")
            name, colon, _ = line.partition(b":")
            check_name(name if colon else b"")
            self.trailers.append(line)
