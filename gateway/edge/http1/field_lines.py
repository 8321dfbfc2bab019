"""Field lines of ours: written so that no value can end one (RFC 9110 section 5.5)."""

from __future__ import annotations

import re

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def quoted(text: bytes) -> bytes:
    """A token as it is, anything else as a quoted-string (RFC 9110 section 5.6.4)."""
    if _TOKEN.fullmatch(text):
        return text
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def field_line(name: str, value: str) -> bytes:
    """One line of ours, less its end.  A value that could end the line is a defect: ValueError."""
    if not _TOKEN.fullmatch(name.encode("latin-1")) or not _FIELD_VALUE.fullmatch(value):
        raise ValueError("a header field of ours holds a control character")
    return f"{name}: {value}".encode("latin-1")
