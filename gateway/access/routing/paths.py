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
from urllib.parse import quote, unquote_to_bytes

from gateway.model import Reason

# Nearly every real path is plain: no escapes, no empty segment but a last one, no segment
# that begins with a dot.
_PLAIN = re.compile(r"/[A-Za-z0-9_~!$&'()*+,=:@./-]*+\Z")
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*+\Z")
# What a second decoding would take for one; `%u002e` is of IIS.
_ESCAPE = re.compile(r"%(?:[0-9A-Fa-f]{2}|[Uu][0-9A-Fa-f]{4})")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(r"%2[Ff]")
_MARK = "\x00"
"""Stands for a slash that came encoded, while the path is taken apart: no path may hold one."""
_EMPTY_BESIDE_MARK = re.compile("(?:\\A|[/\x00])\x00|\x00(?:[/\x00]|\\Z)")
# C0, DEL and C1: U+0085 is a line end to some readers.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# What parts a path, or begins an escape or a parameter.
_SIGNS = "/\\%;"
# With what an escape goes on, and what climbs.
_OF_PATHS = frozenset(_SIGNS + string.hexdigits + "uU.")
# In the joined segments of a path: a script with something behind it, or that of all others.
_SCRIPT = re.compile("(?<![^\x00])(?:[^\x00]*\\.php\x00|index\\.php\\Z)()")
_INDEX_BEFORE = re.compile("(?<![^\x00])index\\.php(?=[^\x00])()")
_INDEX = re.compile(
    "(?<![^\x00])(?:index(?:\\.(?:x?html?|shtml|jsp|aspx?|cfm|f?cgi|pl|txt))?"
    "|default\\.(?:html?|aspx?))\\Z()"
)
_RUN = "\\.(?:php[3-8]?|phtml|f?cgi|pl|asp|as[hmp]x|cf[cm]|svc)"
_SCRIPT_NAME = re.compile(f"{_RUN}\\Z")
_BEHIND_SCRIPT = re.compile(f"({_RUN})\x00.*\\Z", re.DOTALL)
_BEHIND_INDEX = re.compile("\x00index\\.php\x00.*\\Z", re.DOTALL)
_PAGE_DATA = re.compile("(?<![^\x00])_next\x00data\x00[^\x00]+\x00(?:index|(.+))\\.json\\Z")
_LANGUAGE = "[a-z]{2,3}(?:[_-][a-z0-9]{2,8})*"
_PAGE_DATA_IN_LANGUAGE = re.compile(
    f"(?<![^\x00])_next\x00data\x00[^\x00]+\x00{_LANGUAGE}(?:\x00(.+))?\\.json\\Z"
)
_PAGE_DATA_OF_GATSBY = re.compile("(?<![^\x00])page-data\x00(?:index|(.+))\x00page-data\\.json\\Z")
_DATA_BELOW = re.compile("(?<![^\x00])(?:__data|_payload|q-data)\\.json\\Z()")
_DATA_BESIDE = re.compile("(?:(?:(?<![^\x00])_(?:root)?)?\\.data|__data\\.json)\\Z()")
# Of ASP.NET: a session, a ticket or both, as it keeps them in paths.
_COOKIELESS = re.compile("(?<![^\x00])(?:\\((?:[a-z]\\([^()\x00]+\\))+\\)\x00)+()")
_OTHERWISE = (
    (".php", "", _SCRIPT),
    ("index.php", "", _INDEX_BEFORE),
    ("index", "", _INDEX),
    ("default.", "", _INDEX),
    ("_next\x00data\x00", ".json", _PAGE_DATA),
    ("_next\x00data\x00", ".json", _PAGE_DATA_IN_LANGUAGE),
    ("page-data\x00", "\x00page-data.json", _PAGE_DATA_OF_GATSBY),
    ("__data.json", ".json", _DATA_BELOW),
    ("_payload.json", ".json", _DATA_BELOW),
    ("q-data.json", ".json", _DATA_BELOW),
    (".html__data.json", ".json", _DATA_BESIDE),
    (".data", ".data", _DATA_BESIDE),
    ("))\x00", "", _COOKIELESS),
)
"""What stands in such a path, how it ends, and what finds it: what is left with its group is the
other one.  Without that end an expression would look on from each place where one could begin."""
# In every path that is written otherwise than it could be.
_HAS_OTHERS = re.compile(r"[.(]|index| \Z")
_PAGES = frozenset(
    ("htm", "html", "xhtml", "shtml", "asp", "aspx", "cgi", "cfm", "jsp", "jspx", "php", "php3",
     "php4", "php5", "php7", "php8", "phtml", "pl")
)  # fmt: skip
_FORMATS = _PAGES | frozenset(
    ("action", "atom", "csv", "do", "ics", "json", "jsonp", "md", "pdf", "rsc", "rss", "text",
     "txt", "xls", "xlsx", "xml", "yaml", "yml", "zip")
)  # fmt: skip
"""Endings of a name that its page may have besides: not those of what pages load (`.js`, `.css`,
pictures), as `/app.js` seldom is the page `/app`."""
_LONGEST_FOLD = 4
"""A letter that becomes more (U+FDFA: 18) stays as it is: a path has room for hundreds."""
_ROUNDS = 3
"""How many of these one path may be at once (`/index.php/(S(x))/admin.html`)."""
_NEVER_IN_TARGET = re.compile("[\x00-\x20\x7f#\\\\]")


@dataclass(slots=True)
class CanonicalPath:
    """The segments of a path, decoded once: `/a/` has `("a", "")`, `/` has `("",)`.

    `encoded_slash`: some segment holds a slash that came as `%2F`.  Only a route with
    `allow_encoded_slash` may take such a path.
    """

    segments: tuple[str, ...]
    encoded_slash: bool = False
    files_only: bool = False
    """Some segment holds `;`, a backslash or an escape.  Only a route with `paths: files` may take
    such a path, and `path_readings.py` knows what else it may be taken for."""


@dataclass(slots=True)
class Target:
    """A request target taken apart: `path` and `query` hold the bytes as they came."""

    path: str
    query: str
    segments: tuple[str, ...]
    encoded_slash: bool = False
    files_only: bool = False


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


def folded_text(text: str) -> str:
    """What a backend makes of a text that takes letters in any case, and folds them (NFKC) or
    keeps an accent apart from its letter, as some file systems do.

    Letter by letter, as `folds_into_another`.
    """
    if not text.isascii():
        apart = ((letter, unicodedata.normalize("NFKD", letter)) for letter in set(text))
        changed = {ord(one): other for one, other in apart if len(other) <= _LONGEST_FOLD}
        text = text.translate(changed)
    return text.casefold()


def folded_path(segments: tuple[str, ...]) -> tuple[str, ...]:
    """What a backend that folds letters and drops a final slash makes of a path."""
    text = "\x00".join(segments)  # at once: a path has room for thousands, and holds no NUL
    folded = folded_text(text)
    named = segments if folded == text else tuple(folded.split("\x00"))
    return named[:-1] if named and not named[-1] else named


def other_spellings(
    segments: tuple[str, ...], *, names_its_end: bool = False
) -> list[tuple[str, ...]]:
    """The paths, folded, that some backend takes this one for: as it stands, and where it names a
    script, the one without.  A PHP application serves `/index.php/admin` as `/admin`, and
    `/index.php` as `/` (PATH_INFO of RFC 3875 section 4.1.5); Symfony takes `/index.phpadmin` for
    it too.  What the page `/admin` shows
    Next.js gives as `/_next/data/BUILD/admin.json` too, SvelteKit as `/admin/__data.json`, Nuxt as
    `/admin/_payload.json`, Gatsby as `/page-data/admin/page-data.json`, Qwik as
    `/admin/q-data.json`, and React Router as `/admin.data`.  ASP.NET, CakePHP and others serve
    `/admin/index` as `/admin`, and a server of files `/admin/index.html`.  Rails takes
    `/admin.json` for `/admin`, and servers of files that leave the ending out `/admin.html`; below
    IIS every application of ASP.NET takes `/(S(x))/admin` for it.

    `names_its_end`: what asks is a route that names the last segment by letters; its ending is
    meant.
    """
    folded = folded_path(segments)
    text = "\x00".join(folded)
    if not _HAS_OTHERS.search(text):
        return [folded]
    spellings, newest = {text: folded}, [text]
    for _ in range(_ROUNDS):
        others = [one for text in newest for one in _spelled_once(text, names_its_end)]
        paths = [folded_path(tuple(other.split("\x00"))) for other in others]
        fresh = {"\x00".join(path): path for path in paths}
        newest = [text for text in fresh if text not in spellings]
        spellings.update(fresh)
    return list(spellings.values())


def _spelled_once(text: str, names_its_end: bool) -> list[str]:
    """What one step of a backend makes of the joined segments of a path."""
    others = []
    for sign, end, pattern in _OTHERWISE:
        if sign in text and text.endswith(end):
            other, found = pattern.subn(r"\1", text, 1)
            others += [other] * found
    if names_its_end:
        return others
    name = text.rpartition("\x00")[2]
    stem, _, ending = name.rpartition(".")
    if stem and ending in _FORMATS:
        others.append(text[: -len(ending) - 1])
    if name[-1:] in (".", " "):  # Windows opens the file without
        others.append(text.rstrip(". "))
    return others


def run_instead(segments: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The paths, folded, of what a server runs for this one, where a script stands in it: that
    script, whatever is behind it (Apache, IIS), and of `index.php` its folder."""
    text = "\x00".join(folded_path(segments))
    script = _BEHIND_SCRIPT.sub(r"\1", text) if "." in text else text
    if script == text:
        return []
    folder = _BEHIND_INDEX.sub("", text)
    return [tuple(one.split("\x00")) for one in (script, folder) if one != text]


def is_index(name: str) -> bool:
    """Whether a segment names the page of a folder."""
    return _INDEX.match(folded_text(name)) is not None


def page_name(name: str) -> str | None:
    """The name, folded, under which some servers give a page whose own name has an ending; empty
    for the page of a folder, and None where a segment names no page."""
    folded = folded_text(name)
    if folded == "index.php" or (is_index(folded) and folded != "index"):
        return ""
    stem, _, ending = folded.rpartition(".")
    return stem if stem and ending in _PAGES else None


def is_script(name: str) -> bool:
    """Whether a segment names what some server runs."""
    return _SCRIPT_NAME.search(folded_text(name)) is not None


def encoded(segment: str, *, between: str = "") -> str:
    """`segment` as one path segment: everything but RFC 3986's unreserved is escaped.  With
    `between="/"` it is several."""
    return segment if _UNRESERVED.match(segment) else quote(segment, safe=between)


def _is_plain(path: str) -> bool:
    return _PLAIN.match(path) is not None and "//" not in path and "/." not in path


def _spelled_out(path: str) -> CanonicalPath | Reason:
    """All segments at once: a target has room for thousands, and whoever sends it need not be
    anybody."""
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

    UnicodeError for overlong forms (`%c0%af`) and surrogates, as UTF-8 is read strictly.
    """
    marked = _ENCODED_SLASH.sub(_MARK, path)
    return unquote_to_bytes(marked.encode("latin-1")).decode("utf-8")


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
