"""A route for everything else that asks less than others of its backend.

What some known kind of backend reads as a path of theirs is refused when it is called
(`access/readings.py`), and a list of kinds is never whole.  Whoever has such a route learns of it
where the configuration is checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import takewhile

from gateway.access.definitions import UpstreamTarget
from gateway.access.policies import SIGNED_IN
from gateway.access.routing.routes import WILDCARD, PatternSegment, Route, SegmentKind, wildcard_of
from gateway.config.shared_backends import Pattern, sent_patterns
from gateway.model import ConfigProblem

_Backend = tuple[UpstreamTarget, str | None]
_Place = tuple[_Backend, tuple[str, ...]]
_Sent = tuple[Pattern, Route]


def weaker_routes(routes: Iterable[Route]) -> Iterator[ConfigProblem]:
    """A notice of each route that lets pass, with less, what others of its backend protect if only
    it is asked for by a name that no route has."""
    routes = list(routes)
    weak = [
        one for one in routes if (one.policy is None or _is_signed_in(one)) and _takes_rest(one)
    ]
    protected = _by_start(routes) if weak else {}
    for route in weak:
        stricter = {
            other.id: other
            for rest in filter(_has_rest, sent_patterns(route))
            for backend in _backends(route)
            for pattern, other in protected.get((backend, _start(rest)), ())
            if _asks_more(other, route) and _covers(rest, pattern)
        }
        if stricter:
            yield _notice(route, list(stricter.values()))


def _by_start(routes: Iterable[Route]) -> dict[_Place, list[_Sent]]:
    """Those that have a policy, at each place of a backend that their paths are below."""
    found: dict[_Place, list[_Sent]] = defaultdict(list)
    for route in routes:
        if route.policy is None:
            continue
        for pattern in list(sent_patterns(route))[-1:]:  # of a prefix what is below it
            start = _start(pattern)
            for backend in _backends(route):
                for length in range(len(start) + 1):
                    found[backend, start[:length]].append((pattern, route))
    return found


def _notice(route: Route, stricter: list[Route]) -> ConfigProblem:
    assert route.upstream is not None
    first = stricter[0]
    others = f" and {len(stricter) - 1:,} more ask" if len(stricter) > 1 else " asks"
    open_to = "anybody" if route.policy is None else "every account"
    text = (
        f"route `{route.id}` is open to {open_to}, and for whatever no other route of upstream"
        f" `{route.upstream.name}` names, where `{first.id}` ({first.location}){others} for"
        " more: a path that the backend takes for one of theirs in a way that the gateway does not"
        f" know passes. Ask for as much in `{route.id}`, and name what is open in routes of its own"
    )
    return ConfigProblem.at(route.location, text)


def _start(pattern: Pattern) -> tuple[str, ...]:
    literals = takewhile(lambda part: part.kind is SegmentKind.LITERAL, pattern)
    return tuple(part.text for part in literals)


def _backends(route: Route) -> list[_Backend]:
    upstream = route.upstream
    return [] if upstream is None else [(target, upstream.host) for target in upstream.targets]


def _has_rest(pattern: Pattern) -> bool:
    return bool(pattern) and pattern[-1].kind is SegmentKind.REST


def _takes_rest(route: Route) -> bool:
    return route.upstream is not None and any(map(_has_rest, sent_patterns(route)))


def _is_signed_in(route: Route) -> bool:
    return route.policy is not None and route.policy.name == SIGNED_IN


def _asks_more(other: Route, route: Route) -> bool:
    """Of one that has a policy: whether it has another than `route`, for calls that both take."""
    if other is route or other.policy is None or other.policy is route.policy:
        return False
    if other.methods and route.methods and not set(other.methods) & set(route.methods):
        return False
    return not (other.hosts and route.hosts) or any(
        _meet(one, another) for one in other.hosts for another in route.hosts
    )


def _meet(host: str, other: str) -> bool:
    if host.startswith(WILDCARD) == other.startswith(WILDCARD):
        return host == other
    return host == wildcard_of(other) or other == wildcard_of(host)


def _covers(rest: Pattern, pattern: Pattern) -> bool:
    """Whether what matches `pattern` is below `rest`, and that is not one as wide."""
    fixed = rest[:-1]
    if len(pattern) < len(fixed) or (_has_rest(pattern) and len(pattern) == len(rest)):
        return False
    return all(map(_takes_all, fixed, pattern))


def _takes_all(one: PatternSegment, other: PatternSegment) -> bool:
    """Whether it takes whatever the other does."""
    if other.kind is SegmentKind.LITERAL:
        return one.takes(other.text)
    return other.kind is not SegmentKind.REST and one.kind in (SegmentKind.PLAIN, other.kind)
