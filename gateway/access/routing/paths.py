"""One canonical path, or a refusal: the path that is decided on is the path that is sent.

A path is never repaired.  What two parties could read in two ways is refused,
what remains is split at its slashes and percent-decoded exactly once, and the bytes that
came are the bytes that go to the upstream.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from gateway.model import Reason

# Nearly every real path is plain: no escapes, no empty segment but a last one, no segment
# that begins with a dot.  One scan without backtracking settles those.
_PLAIN = re.compile(r"/(?![/.])(?:[A-Za-z0-9_~!$&'()*+,=:@.-]|/(?![/.]))*+\Z")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# C0, DEL and C1: U+0085 is a line end to some readers.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# What parts a path, or begins an escape or a parameter.
_SIGNS = "/\\%;"
_NEVER_IN_TARGET = re.compile("[\x00-\x20\x7f#\\\\]")


@dataclass(slots=True)
class CanonicalPath:
    """The segments of a path, decoded once: `/a/` has `("a", "")`, `/` has `("",)`.

    `encoded_slash`: some segment holds a slash that came as `%2F`.  Only a route with
    `allow_encoded_slash` may take such a path.
    """

    segments: tuple[str, ...]
    encoded_slash: bool = False


@dataclass(slots=True)
class Target:
    """A request target taken apart: `path` and `query` hold the bytes as they came."""

    path: str
    query: str
    segments: tuple[str, ...]
    encoded_slash: bool = False


def canonical(path: str) -> CanonicalPath | Reason:
    """The canonical reading of `path`: the bytes up to the `?`, as latin-1 text.

    AMBIGUOUS_PATH for `.` and `..` segments in any spelling, `//`, `%5c`, backslash, `;`,
    `#`, control characters, broken or overlong UTF-8, broken escapes, and a segment that
    still holds an escape once decoded or becomes one of these by NFKC.  REQUEST_MALFORMED when
    it does not begin with `/`.
    """
    if _PLAIN.match(path):
        return CanonicalPath(tuple(path[1:].split("/")))
    if path[:1] != "/":
        return Reason.REQUEST_MALFORMED
    return _spelled_out(path)


def split_target(text: str) -> Target | Reason:
    """An origin-form target (RFC 9112 section 3.2.1), as latin-1 text, taken apart.

    A `#` is refused in the query too: a reader that cuts fragments would see another target.
    """
    path, _, query = text.partition("?")
    if _PLAIN.match(path):
        if query and _NEVER_IN_TARGET.search(query):
            return Reason.AMBIGUOUS_PATH
        return Target(path, query, tuple(path[1:].split("/")))
    read = canonical(path)
    if isinstance(read, Reason):
        return read
    if query and _NEVER_IN_TARGET.search(query):
        return Reason.AMBIGUOUS_PATH
    return Target(path, query, read.segments, read.encoded_slash)


def encoded(segment: str) -> str:
    """`segment` as one path segment: everything but RFC 3986's unreserved is escaped."""
    return quote(segment, safe="")


def _spelled_out(path: str) -> CanonicalPath | Reason:
    if _NEVER_IN_TARGET.search(path) or _BROKEN_ESCAPE.search(path):
        return Reason.AMBIGUOUS_PATH
    raw_segments = path[1:].split("/")
    if "" in raw_segments[:-1]:
        return Reason.AMBIGUOUS_PATH
    segments: list[str] = []
    encoded_slash = False
    for raw in raw_segments:
        decoded = _decoded(raw)
        if decoded is None:
            return Reason.AMBIGUOUS_PATH
        if "/" in decoded:
            # A backend may split here.  What it would then see is held to the same rules.
            encoded_slash = True
            if any(part in ("", ".", "..") for part in decoded.split("/")):
                return Reason.AMBIGUOUS_PATH
        elif decoded in (".", ".."):
            return Reason.AMBIGUOUS_PATH
        segments.append(decoded)
    return CanonicalPath(tuple(segments), encoded_slash)


def _decoded(raw: str) -> str | None:
    """`raw` percent-decoded once as strict UTF-8; None when it can be read in two ways."""
    try:
        # Strict UTF-8 refuses overlong forms (`%c0%af`) and surrogates.
        decoded = unquote_to_bytes(raw.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        return None
    if "\\" in decoded or ";" in decoded:
        return None
    if _CONTROL.search(decoded) or _ESCAPE.search(decoded):
        return None
    if not decoded.isascii() and _folds_into_another(decoded):
        return None
    return decoded


def _folds_into_another(decoded: str) -> bool:
    """Whether a backend that folds names (NFKC, Unicode Standard Annex 15) reads another path:
    a full-width slash is a slash to it, a two dot leader is `..`."""
    folded = unicodedata.normalize("NFKC", decoded)
    if any(folded.count(sign) > decoded.count(sign) for sign in _SIGNS):
        return True
    if _ESCAPE.search(folded):
        return True
    return any(part in (".", "..") for part in folded.split("/"))
