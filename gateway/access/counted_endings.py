"""Values of a path as limits count them: what stands last there without the ending that a framework
takes off.

To Rails `/login/ann.json` is `/login/ann` in a format (`(.:format)`), by whatever name; so it is to
ASP.NET (`{name}.{ext?}`), to DRF with its suffixes and to Spring before 5.3.  Whoever guesses would
have as many tries as there are endings.

Law: one ending is taken off, as all of them do; to take off more would count all names of a domain
as one.  Rails splits before it decodes, others after it: of what has an encoded dot, which no
ordinary client sends, all is taken off.  So is what stands behind a `?`, `#` or `&`, wherever a
value stands: there it ends to who reads a decoded path as a target again, or makes a query of it.
"""

from __future__ import annotations

from gateway.access.counted_values import counted_path, counted_text
from gateway.access.routing.cut_values import ENCODED_DOT, before_query, without_ending


def counted_inner_text(text: str) -> str | None:
    """As `counted_text`, of a value of a path that does not stand last there."""
    return counted_text(before_query(text) or text)


def counted_last_text(text: str, sent: str) -> str | None:
    """As `counted_text`, of a value that stands last in a path.  `sent`: the path as it came."""
    text = before_query(text) or text
    counted = counted_text(text)
    if counted is None or "." not in text:
        return counted
    return _before_ending(counted, text, sent, parts=False)


def counted_whole_path(path: str, sent: str) -> str | None:
    """As `counted_path`, of a path to its end."""
    path = before_query(path)
    counted = counted_path(path)
    if counted is None or "." not in path:
        return counted
    return _before_ending(counted, path, sent, parts=True)


def _before_ending(counted: str, text: str, sent: str, *, parts: bool) -> str | None:
    """`parts`: its segments were counted one by one."""
    written = _last(text)
    if "." not in written:
        return counted
    head, slash, last = counted.rstrip("/").rpartition("/")
    is_encoded = ENCODED_DOT in _last(sent).lower()
    if "." not in last:
        # Of a number or an address, of which it was a part: `7.0`, `415.5552671`, `x.<ann@host>`.
        if not is_encoded and written.count(".") > 1:
            return counted
        return (
            counted
            if counted_text(without_ending(written, is_encoded=is_encoded)) == last
            else None
        )
    stem = without_ending(last, is_encoded=is_encoded)
    if "@" in stem or (slash and not parts):
        return f"{head}{slash}{stem}"
    again = counted_text(stem)
    return None if again is None else f"{head}{slash}{again}"


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
