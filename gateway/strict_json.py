"""JSON that every reader reads alike (RFC 8259), or none.

Law: what two parsers could take in two ways is refused: broken UTF-8, a key that stands twice in
one object, NaN and the infinities, a number that no double holds, more depth than asked for.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MOST_BYTES = 65_536
DEEPEST = 32
"""What a body may be that the gateway reads, at most."""
MEDIA_TYPE = re.compile(
    r'application/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?', re.IGNORECASE
)
"""UTF-8 is the only charset there is (RFC 8259 section 8.1)."""

# What stands between quotes cannot open a level.  It matches at every quote, closed or not:
# a failure there would be tried again at the next, in quadratic time.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_LEVELS = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile(r"\\u[dD][89A-Fa-f]")


def loads(raw: bytes, *, deepest: int = DEEPEST, encodable: bool = False) -> Any:
    """The value, whose arrays and objects stand at most `deepest` in one another; ValueError.

    `encodable`: so too for half of a surrogate pair, which JSON can spell and no UTF-8 can hold
    (RFC 8259 section 8.2).
    """
    text = raw.decode("utf-8")
    if raw.count(b"[") + raw.count(b"{") > deepest and _depth(text) > deepest:
        raise ValueError("too deep")
    # A number of more digits than Python converts is a ValueError too.
    if text.startswith("{") and text.endswith("}"):
        # `decode` looks for white space around it, which takes as long as to read a few claims.
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise ValueError("more than one value")
    else:
        value = _DECODER.decode(text)
    if encodable and raw.find(b"\\") >= 0 and _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _depth(text: str) -> int:
    depth = most = 0
    for bracket in _LEVELS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        most = max(most, depth)
    return most


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


# Made once: to make one takes longer than to read the claims of a token.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_once_each, parse_constant=_no_constant, parse_float=_finite
)
