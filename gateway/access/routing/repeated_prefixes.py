"""Prefixes that a rewrite takes off, and a backend once more.

FastAPI (`root_path`), Django (`FORCE_SCRIPT_NAME`), hypercorn (`--root-path`), Astro (`base`) and
others take their own prefix off a path where they find it, and serve what comes without it too.  So
`/api/v1/api/v1/admin` is `/api/v1/admin` where the gateway takes `/api/v1` off.  Law: what is found
here is compared with what other routes protect, and nothing of it is ever sent.
"""

from __future__ import annotations

from gateway.access.routing.routes import Route, SegmentKind
from gateway.access.routing.spellings import folded_letters, folded_path

_MOST = 3
"""How often a prefix may be taken off one path, by backends behind each other."""


def begins_again(route: Route, segments: tuple[str, ...]) -> bool:
    """Whether what the route's rewrite leaves of a path begins, letter by letter, with what it
    took off."""
    count = 0 if route.rewrite is None else route.rewrite.strip_segments
    return count > 0 and segments[:count] == segments[count : 2 * count]


def asked_again(route: Route, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The paths by which the route would send what such a backend makes of what it is sent."""
    count = 0 if route.rewrite is None else route.rewrite.strip_segments
    prefix = _prefix(route, path[count:])
    return [(*prefix, *left) for left in _left(path[count:], prefix)]


def ordinary_beside(others: list[Route], route: Route) -> list[Route]:
    """Those of the routes of a path found by `asked_again` of which it may have been no path.

    Where both name all that is below the prefix, and the other by any names, an owner or a document
    may bear the name of the prefix (`/git/git/linux` of `/git/{owner}/{repo}` beside
    `/git/{owner}`).
    """
    if route.rewrite is None or route.is_prefix or route.segments[-1].kind is SegmentKind.REST:
        return []
    below = route.rewrite.strip_segments
    return [
        other
        for other in others
        if len(other.segments) > below
        and all(part.kind is SegmentKind.PLAIN for part in other.segments[below:])
        and not other.is_prefix
    ]


def sent_again(route: Route, sent: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What such a backend makes of a path that the route's rewrite made."""
    return [left or ("",) for left in _left(sent, _prefix(route, sent))]


def _prefix(route: Route, path: tuple[str, ...]) -> tuple[str, ...]:
    """What the rewrite takes off, folded, where a path may begin with it.  Nothing where the route
    names it twice by letters, and so means what is below, nor where another takes its place."""
    rewrite = route.rewrite
    if rewrite is None or not (count := rewrite.strip_segments) or rewrite.add_prefix or not path:
        return ()
    if folded_letters(path[0]) != folded_letters(route.segments[0].text):
        return ()  # nearly always
    texts = folded_path(route.texts())
    return () if texts[count : 2 * count] == texts[:count] else texts[:count]


def _left(path: tuple[str, ...], prefix: tuple[str, ...]) -> list[tuple[str, ...]]:
    count, found = len(prefix), list[tuple[str, ...]]()
    while 0 < count <= len(path) and len(found) < _MOST:
        if tuple(map(folded_letters, path[:count])) != prefix:
            break
        path = path[count:]
        found.append(path)
    return found
