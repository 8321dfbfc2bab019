"""Pages of a long list: what comes after the last row that was shown, however many were before it.

A store is asked for the rows after a key, in the order of that key, and for one more than is shown:
its cost does not grow with the page, and a row that is added or goes meanwhile moves no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.identity.base64url import decoded, encoded

T = TypeVar("T")

PAGE_ROWS = 50
_LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The rows of one page."""

    rows: Sequence[T]
    next_after: str = ""
    """For `?after=`; empty on the last page."""
    after: str = ""
    """What this page was asked by; empty on the first."""


def listing(
    rows: Sequence[T], key: Callable[[T], Sequence[object]], after: str = "", size: int = PAGE_ROWS
) -> Listing[T]:
    """Of `size + 1` rows that came after `after`, or of fewer; `key` is what they are ordered
    by, of a row."""
    shown = rows[:size]
    more = len(rows) > size
    return Listing(shown, cursor(*key(shown[-1])) if more else "", after)


def cursor(*key: object) -> str:
    """The text by which a page is asked for."""
    return encoded(json.dumps(list(key)).encode())


def position(after: str, *types: type) -> list[object] | None:
    """The key that a cursor holds, of these types; None for the first page, and for what is none:
    somebody has changed it."""
    raw = decoded(after) if after and len(after) <= _LONGEST else None
    if not raw:
        return None
    try:
        key = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(key, list) or len(key) != len(types):
        return None
    good = all(
        type(one) is wanted and _can_be_stored(one) for one, wanted in zip(key, types, strict=True)
    )
    return key if good else None


def _can_be_stored(value: object) -> bool:
    """A store takes neither a NUL, nor half a character, nor a number of more than 64 bits."""
    if isinstance(value, str):
        return value.isprintable()
    return not isinstance(value, int) or abs(value) < 2**63
