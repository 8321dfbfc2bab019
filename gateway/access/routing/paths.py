"""One canonical path, or a refusal: the path that is decided on is the path that is sent.

A path is never repaired.  What two parties could read in two ways is refused,
what remains is split at its slashes and percent-decoded exactly once, and the bytes that
came are the bytes that go to the upstream.
"""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from gateway.model import Reason

# Nearly every real path is plain: no escapes, no empty segment but a last one, no segment
# that begins with a dot.
_PLAIN = re.compile(r"/[A-Za-z0-9_~!$&'()*+,=:@./-]*+\Z")
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*+\Z")
# What a second decoding would take for one; `%u002e` is of IIS.
_ESCAPE = re.compile(r"%(?:[0-9A-Fa-f]{2}|[Uu][0-9A-Fa-f]{4})")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(r"%2[Ff]")
MOST_SIGNS = 64
"""Parameters, backslashes and escapes of escapes in one path: all are undone in every order, and
whoever sends them need not be anybody."""
_SIGN_OF_FILES = re.compile("(?i:;|%(?:3b|5c|25(?:[0-9a-f]{2}|u[0-9a-f]{4})))")
_MARK = "\x00"
"""Stands for a slash that came encoded, while the path is taken apart: no path may hold one."""
_EMPTY_BESIDE_MARK = re.compile("(?:\\A|[/\x00])\x00|\x00(?:[/\x00]|\\Z)")
# C0, DEL and C1: U+0085 is a line end to some readers.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# What parts a path, or begins an escape or a parameter.
_SIGNS = "/\\%;"
# With what an escape goes on, and what climbs.
_OF_PATHS = frozenset(_SIGNS + string.hexdigits + "uU.")
_NEVER_IN_TARGET = re.compile("[\x00-\x20\x7f#\\\\]")


@dataclass(slots=True)
class CanonicalPath:
    """The segments of a path, decoded once: `/a/` has `("a", "")`, `/` has `("",)`.

    `encoded_slash`: some segment holds a slash that came as `%2F`.  Only a route with
    `allow_encoded_slash` may take such a path.
    """

    segments: tuple[str, ...]
    encoded_slash: bool
    files_only: bool
    """Some segment holds `;`, a backslash or an escape.  Only a route with `paths: files` may take
    such a path, and `path_readings.py` knows what else it may be taken for."""

    def __init__(
        self,
        segments: tuple[str, ...],
        encoded_slash: bool = False,
        files_only: bool = False,
    ) -> None:
        self.segments = segments
        self.encoded_slash = encoded_slash
        self.files_only = files_only


@dataclass(slots=True)
class Target:
    """A request target taken apart: `path` and `query` hold the bytes as they came."""

    path: str
    query: str
    segments: tuple[str, ...]
    encoded_slash: bool
    files_only: bool

    def __init__(
        self,
        path: str,
        query: str,
        segments: tuple[str, ...],
        encoded_slash: bool = False,
        files_only: bool = False,
    ) -> None:
        self.path = path
        self.query = query
        self.segments = segments
        self.encoded_slash = encoded_slash
        self.files_only = files_only


def canonical(path: str, *, files: bool = False) -> CanonicalPath | Reason:
    """The canonical reading of `path`: the bytes up to the `?`, as latin-1 text.

    AMBIGUOUS_PATH for `.` and `..` segments in any spelling, `//`, `%5c`, backslash, `;`,
    `#`, control characters, broken or overlong UTF-8, broken escapes, and a segment that
    still holds an escape once decoded or becomes one of these by NFKC.  REQUEST_MALFORMED when
    it does not begin with `/`.  With `files` the path may hold `%5c`, `;` and such escapes.
    """
    if _is_plain(path):
        return CanonicalPath(tuple(path[1:].split("/")))
    if path[:1] != "/":
        return Reason.REQUEST_MALFORMED
    read = _spelled_out(path)
    if not isinstance(read, Reason) and read.files_only and not files:
        return Reason.AMBIGUOUS_PATH
    return read


def split_target(text: str) -> Target | Reason:
    """An origin-form target (RFC 9112 section 3.2.1), as latin-1 text, taken apart.

    A `#` is refused in the query too: a reader that cuts fragments would see another target.
    """
    path, _, query = text.partition("?")
    if _is_plain(path):
        if query and _NEVER_IN_TARGET.search(query):
            return Reason.AMBIGUOUS_PATH
        return Target(path, query, tuple(path[1:].split("/")))
    read = canonical(path, files=True)
    if isinstance(read, Reason):
        return read
    if query and _NEVER_IN_TARGET.search(query):
        return Reason.AMBIGUOUS_PATH
    return Target(path, query, read.segments, read.encoded_slash, read.files_only)


def encoded(segment: str, *, between: str = "") -> str:
    """`segment` as one path segment: everything but RFC 3986's unreserved is escaped.  With
    `between="/"` it is several."""
    return segment if _UNRESERVED.match(segment) else quote(segment, safe=between)


def _is_plain(path: str) -> bool:
    return _PLAIN.match(path) is not None and "//" not in path and "/." not in path


def _spelled_out(path: str) -> CanonicalPath | Reason:
    """All segments at once: a target has room for thousands, and whoever sends it need not be
    anybody."""
    if path.count("%") + path.count(";") > MOST_SIGNS and (
        len(_SIGN_OF_FILES.findall(path)) > MOST_SIGNS
    ):
        return Reason.AMBIGUOUS_PATH
    if _NEVER_IN_TARGET.search(path) or _BROKEN_ESCAPE.search(path) or "//" in path:
        return Reason.AMBIGUOUS_PATH
    try:
        decoded = decoded_once(path[1:])
    except UnicodeError:
        return Reason.AMBIGUOUS_PATH
    marks = len(_ENCODED_SLASH.findall(path))
    if marks and (decoded.count(_MARK) != marks or _EMPTY_BESIDE_MARK.search(decoded)):
        return Reason.AMBIGUOUS_PATH
    # A backend may split at an encoded slash.  What it would then see is held to the same rules.
    text = slashes_shown(decoded) if marks else decoded
    if CONTROL.search(text):
        return Reason.AMBIGUOUS_PATH
    parts = text.split("/")
    if "." in parts or ".." in parts:
        return Reason.AMBIGUOUS_PATH
    if not text.isascii() and folds_into_another(text):
        return Reason.AMBIGUOUS_PATH
    files_only = "\\" in text or ";" in text or _ESCAPE.search(text) is not None
    return CanonicalPath(split_marked(decoded), marks > 0, files_only)


def decoded_once(path: str) -> str:
    """A path as it came, percent-decoded once; a slash that came encoded is marked, for
    `split_marked` and `slashes_shown`.

    UnicodeError for overlong forms (`%c0%af`) and surrogates, as UTF-8 is read strictly, and for a
    broken escape.  A path holds no backslash as it came: those of Python's own escapes take the
    place of `%`, as that reads thousands at once.
    """
    marked = _ENCODED_SLASH.sub(_MARK, path).replace("%", "\\x").encode("latin-1")
    return marked.decode("unicode_escape").encode("latin-1").decode("utf-8")


def split_marked(decoded: str) -> tuple[str, ...]:
    """The segments of what `decoded_once` gave."""
    segments = decoded.split("/")
    if _MARK in decoded:
        segments = [segment.replace(_MARK, "/") for segment in segments]
    return tuple(segments)


def slashes_shown(decoded: str) -> str:
    """The same as a backend reads it that splits at encoded slashes too."""
    return decoded.replace(_MARK, "/")


def folds_into_another(decoded: str, known: dict[str, str] | None = None) -> bool:
    """Whether a backend that folds names (NFKC, Unicode Standard Annex 15) reads another path:
    a full-width slash is a slash to it, a two dot leader is `..`.  `decoded` itself holds no
    segment of dots.

    Letter by letter: folded as a whole, 8 KiB of one that becomes 18 others take up to 10 ms.
    `known` keeps what the letters of one path become, for its next reading.
    """
    known = {} if known is None else known
    changed: dict[int, str] = {}
    for letter in set(decoded):
        becomes = known.get(letter)
        if becomes is None:
            becomes = known[letter] = _as_it_matters(letter)
        if becomes != letter:
            changed[ord(letter)] = becomes
    if not changed:
        return False
    folded = decoded.translate(changed)
    if any(folded.count(sign) > decoded.count(sign) for sign in _SIGNS):
        return True
    if len(_ESCAPE.findall(folded)) > len(_ESCAPE.findall(decoded)):
        return True
    parts = folded.split("/")
    return "." in parts or ".." in parts


def _as_it_matters(letter: str) -> str:
    """What a letter is folded into, where that says anything of paths; else the letter."""
    if letter.isascii():
        return letter
    folded = unicodedata.normalize("NFKC", letter)
    return letter if _OF_PATHS.isdisjoint(folded) else folded
