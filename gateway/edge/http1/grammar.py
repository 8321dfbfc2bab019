"""What every head is held to: names, values and lists (RFC 9110 section 5)."""

from __future__ import annotations

import re

TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"


_TOKEN = re.compile(rb"[" + TCHAR + rb"]{1,256}")


# RFC 9110 section 5.5: field-vchar is VCHAR / obs-text; HTAB and SP may stand between.
FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


_NO_FIELD_BYTE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
_LONG_LINE = 128
"""From here on it takes less to take away all that a field may hold than to look for the rest: of a
token in a line less than half."""


# RFC 9112 section 3: method SP request-target SP HTTP-version, the version exact (2.3).  The
# target is visible ASCII; what it may hold is for the path and the host to say.
REQUEST_LINE = re.compile(rb"([A-Z]+(?:-[A-Z]+)*) ([\x21-\x7e]+) HTTP/1\.([01])")


class Malformed(Exception):
    """The bytes cannot be framed.  The text is constant and never shown to a client."""


def check_line(line: bytes) -> None:
    """A line of a head, less the CRLF that closed it, holds only what a field may hold.

    What is refused are NUL, control characters, bare CR and bare LF.
    """
    if len(line) < _LONG_LINE:
        good = _NO_FIELD_BYTE.search(line) is None
    else:
        good = not line.translate(None, FIELD_BYTES)
    if not good:
        raise Malformed("control character")


def check_name(name: bytes) -> None:
    """A field name is a token, directly before the colon.

    RFC 9112 section 5.1: no white space is allowed between the name and the colon; a server
    must refuse a request that has some.  Section 5.2: so is a line that begins with it.
    """
    if _TOKEN.fullmatch(name) is None:
        raise Malformed("field name")


def name_of(line: bytes) -> bytes:
    """What stands before the colon, in lower case."""
    return line[: line.find(b":")].lower()


def value_of(line: bytes) -> bytes:
    """What follows the colon, without the white space around it (RFC 9112 section 5.1)."""
    return line[line.find(b":") + 1 :].strip(b" \t")


def tokens(value: bytes) -> list[bytes]:
    """The members of a list of tokens, in lower case."""
    return [token.strip(b" \t") for token in value.lower().split(b",")]
