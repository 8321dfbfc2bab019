"""The `Date` of an answer, made once a second."""

from __future__ import annotations

import time
from email.utils import formatdate

_second = 0
_line = b""


def date_line() -> bytes:
    """The field as one line, in the form of RFC 9110 section 5.6.7."""
    global _second, _line
    second = int(time.time())
    if second != _second:
        _second, _line = second, b"Date: " + formatdate(second, usegmt=True).encode("ascii")
    return _line
