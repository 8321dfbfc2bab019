"""Every way in which a backend may read a path that holds `;`, a backslash or an escape.

Such a path is taken by a route with `paths: files` alone.  Backends read it as it stands, or cut
parameters, take a backslash for a slash, decode once more, or do several of these one after the
other.  Law: a path of which one reading climbs, has a slash that was encoded twice, a control
character, or letters that fold into one of these (NFKC), is refused; every other reading is given
to whoever judges, as it may be the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from gateway.access.routing.paths import (
    CONTROL,
    MOST_SIGNS,
    decoded_once,
    folds_into_another,
    slashes_shown,
    split_marked,
)
from gateway.access.routing.reading_budget import ReadingBudget

MOST_READINGS = 16

_TOO_DEEP = re.compile(r"%(?:25){3}")
"""Encoded four times: a reading for each level would be made of all of the path."""
_SIGN = re.compile(r";|%(?:3[Bb]|5[Cc]|25)")
# RFC 3986 section 3.3: what follows the semicolon of a segment.
_PARAMETERS = re.compile("(?:;[^/\x00]*)+")
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+|%[Uu][0-9A-Fa-f]{4}")


class _NeverPasses(Exception):
    """Some backend reads what no path may hold."""


def other_readings(path: str, budget: ReadingBudget | None = None) -> list[tuple[str, ...]] | None:
    """The segments of every reading but the plain one, of a path as it came (latin-1 text) that
    `canonical` takes with `files`; None where one of them climbs, they are too many, or have more
    letters than are left in the budget."""
    if len(_SIGN.findall(path)) > MOST_SIGNS or _TOO_DEEP.search(path):
        return None
    try:
        texts = _every_reading(path, ReadingBudget() if budget is None else budget)
    except (UnicodeError, _NeverPasses):
        return None
    return [split_marked(text) for text in texts]


def _every_reading(path: str, budget: ReadingBudget) -> list[str]:
    """What follows the first slash of each, the plain one left out."""
    path = path[1:]
    plain = decoded_once(path)
    waiting = [plain]
    if ";" in path:
        # Some cut before they decode, and some at the first semicolon of all.
        cuts = (_PARAMETERS.sub("", path), path.partition(";")[0])
        waiting += map(decoded_once, cuts)
    found: dict[str, None] = {}
    letters: dict[str, str] = {}
    while waiting:
        text = waiting.pop()
        if text in found:
            continue
        if len(found) == MOST_READINGS or not budget.takes(text) or _climbs(text, letters):
            raise _NeverPasses
        found[text] = None
        waiting += _steps(text)
    del found[plain]
    return list(found)


def _steps(text: str) -> Iterator[str]:
    """What one more step of a backend makes of a reading."""
    if "\\" in text:
        yield text.replace("\\", "/")
    if ";" in text:
        yield _PARAMETERS.sub("", text)
        yield text.partition(";")[0]
    if "%" in text:
        again = _ESCAPES.sub(_decoded, text)
        if slashes_shown(again).count("/") != slashes_shown(text).count("/"):
            raise _NeverPasses
        yield again


def _decoded(escapes: re.Match[str]) -> str:
    run = escapes[0]
    if run[1] in "uU":
        return chr(int(run[2:], 16))
    return unquote_to_bytes(run).decode("utf-8")


def _climbs(text: str, letters: dict[str, str]) -> bool:
    shown = slashes_shown(text)
    parts = shown.split("/")
    if "." in parts or ".." in parts or "" in parts[:-1] or CONTROL.search(shown):
        return True
    return not shown.isascii() and folds_into_another(shown, letters)
