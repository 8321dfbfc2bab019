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

MAX_HEAD_BYTES = 65_536
MAX_FIELDS = 256
MAX_CHUNK_LINE_BYTES = 1_024
MAX_TRAILER_BYTES = 16_384

# What takes the place of a length.  The two without a length stand below NO_BODY.
NO_BODY = -1
UNTIL_CLOSE = -2
CHUNKED = -3

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


class Head:
    """A response's status line and fields; `fields` are whole lines, less their CRLF.

    `names[i]` is the lower-case name of `fields[i]`; `special` are the places of those that
    the gateway itself reads, changes or removes.
    """

    __slots__ = ("fields", "minor", "names", "reason", "special", "status")

    def __init__(self, status: int, reason: bytes, minor: int, fields: list[bytes]) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields
        self.names: list[bytes] = []
        self.special: list[int] = []

    def values(self, name: bytes) -> list[bytes]:
        """The values of a special field, in order."""
        return [value_of(self.fields[i]) for i in self.special if self.names[i] == name]


SPECIAL = frozenset(
    (
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"te",
        b"upgrade",
        b"x-request-id",
        b"set-cookie",
        b"via",
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-expose-headers",
        b"access-control-max-age",
        b"ratelimit",
        b"ratelimit-policy",
    )
)

# For a name that was checked: its lower-case form, and whether it is special.  Bounded: an
# upstream that invents names must not fill the memory.
_names: dict[bytes, tuple[bytes, bool]] = {}
_NAMES_MAX = 2_048

# The same for whole lines: an upstream sends most of its own again and again.
_lines: dict[bytes, tuple[bytes, bool]] = {}
_LINES_MAX = 2_048
_LINE_MAX = 256

# What a status line says, once it was checked.  There are few; bounded all the same.
_statuses: dict[bytes, tuple[int, bytes, int]] = {}
_STATUSES_MAX = 128


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
    """The head of a response, which ends before the CRLF CRLF that closed it."""
    lines = block.split(b"\r\n")
    if len(lines) > MAX_FIELDS:
        raise Malformed("too many fields")
    status, reason, minor = _statuses.get(lines[0]) or _learn_status(lines[0])
    del lines[0]
    head = Head(status, reason, minor, lines)
    known, names = _lines, head.names
    for line in lines:
        name, special = known.get(line) or _learn(line)
        if special:
            head.special.append(len(names))
        names.append(name)
    return head


def _learn_status(line: bytes) -> tuple[int, bytes, int]:
    """Status, reason phrase and minor version of a status line that was not met before."""
    check_line(line)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise Malformed("status line")
    if len(_statuses) >= _STATUSES_MAX:
        _statuses.clear()
    minor, status, reason = match.groups(b"")
    known = _statuses[line] = int(status), reason, 1 if minor == b"1" else 0
    return known


def _learn(line: bytes) -> tuple[bytes, bool]:
    """The lower-case name of a line that was not met before, and whether it is special."""
    check_line(line)
    name, colon, _ = line.partition(b":")
    found = _names.get(name)
    if found is None:
        check_name(name)
        if len(_names) >= _NAMES_MAX:
            _names.clear()
        lower = name.lower()
        found = _names[name] = lower, lower in SPECIAL
    if not colon:
        raise Malformed("no colon")
    if len(line) <= _LINE_MAX:
        if len(_lines) >= _LINES_MAX:
            _lines.clear()
        _lines[line] = found
    return found


def value_of(line: bytes) -> bytes:
    """What follows the colon, without the white space around it (RFC 9112 section 5.1)."""
    return line[line.find(b":") + 1 :].strip(b" \t")


def body_length(head: Head, *, to_head: bool) -> int:
    """Bytes of the body; or NO_BODY, UNTIL_CLOSE or CHUNKED.

    RFC 9112 section 6.3, in its order: 1. no body after HEAD, 1xx, 204, 304; 3. a coding beside
    a length "ought to be handled as an error"; 4. a response whose coding is not chunked is
    read until close, which this refuses instead; 5. an invalid length is unrecoverable;
    8. without either it ends with the connection.
    """
    length = coding = None
    names = head.names
    for i in head.special:
        name = names[i]
        if name == b"content-length":
            if length is not None:
                raise Malformed("two lengths")
            length = value_of(head.fields[i])
            # Plain digits: int() would take "+5", "1_0" and more.  18 digits stay below 2^63.
            if not length.isdigit() or len(length) > 18:
                raise Malformed("content length")
        elif name == b"transfer-encoding":
            if coding is not None:
                raise Malformed("two codings")
            coding = value_of(head.fields[i])
            if coding.lower() != b"chunked" or head.minor == 0:
                raise Malformed("transfer coding")
    if coding is not None and length is not None:
        raise Malformed("a length beside a coding")
    status = head.status
    if to_head or status < 200 or status == 204 or status == 304:
        return NO_BODY
    if coding is not None:
        return CHUNKED
    return UNTIL_CLOSE if length is None else int(length)


def stays_open(head: Head) -> bool:
    """RFC 9112 section 9.3: 1.1 persists unless it says `close`; 1.0 is not asked to."""
    if head.minor == 0:
        return False
    for i in head.special:
        if head.names[i] == b"connection":
            value = value_of(head.fields[i]).lower()
            if value != b"keep-alive" and b"close" in tokens(value):
                return False
    return True


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
        if len(self._line) > limit:
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
