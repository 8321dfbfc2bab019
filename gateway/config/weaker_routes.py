"""A route that takes whatever no other names, and asks less than others of its backend.

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
from gateway.access.routing.protection import closes, takes_whom
from gateway.access.routing.routes import PatternSegment, Route, SegmentKind
from gateway.config.shared_backends import Pattern, sent_patterns
from gateway.model import ConfigProblem

_ANYBODY, _EVERY_ACCOUNT, _WHOM_A_POLICY_ALLOWS, _NOBODY = range(4)

_Place = tuple[UpstreamTarget | None, tuple[str, ...]]
"""A backend, any where it is None, and the literal segments that paths there begin with."""
_Sent = tuple[Pattern, Route]


def weaker_routes(routes: Iterable[Route]) -> Iterator[ConfigProblem]:
    """A notice of each route that lets pass, with less, what others of its backend protect if only
    it is asked for by a name that no route has."""
    routes = list(routes)
    open_routes = [
        one for one in routes if one.upstream is not None and _asks(one) <= _EVERY_ACCOUNT
    ]
    protected = _by_start(routes) if open_routes else {}
    for route in open_routes:
        assert route.upstream is not None
        stricter = {
            other.id: other
            for wide in _widest(route)
            for target in (None, *route.upstream.targets)
            for pattern, other in protected.get((target, _start(wide)), ())
            if _asks_more(other, route) and _may_stand_for(route, wide, other, pattern)
        }
        if stricter:
            yield _notice(route, list(stricter.values()))


def _by_start(routes: Iterable[Route]) -> dict[_Place, list[_Sent]]:
    """Those that ask for something, at each place that their paths are below."""
    found: dict[_Place, list[_Sent]] = defaultdict(list)
    for route in routes:
        if _asks(route) == _ANYBODY:
            continue
        targets = [None] if route.upstream is None else route.upstream.targets
        for pattern in _widest(route):
            start = _start(pattern)
            for target in targets:
                for length in range(len(start) + 1):
                    found[target, start[:length]].append((pattern, route))
    return found


def _notice(route: Route, stricter: list[Route]) -> ConfigProblem:
    assert route.upstream is not None
    first = stricter[0]
    others = f" and {len(stricter) - 1:,} more ask" if len(stricter) > 1 else " asks"
    open_to = "anybody" if _asks(route) == _ANYBODY else "every account"
    text = (
        f"route `{route.id}` is open to {open_to}, and for names that no other route of upstream"
        f" `{route.upstream.name}` has, where `{first.id}` ({first.location}){others} for more: a"
        " path that the backend takes for one of theirs in a way that the gateway does not know"
        f" passes. Ask for as much in `{route.id}`, and name what is open in routes of its own"
    )
    return ConfigProblem.at(route.location, text)


def _asks(route: Route) -> int:
    if closes(route):
        return _NOBODY
    if route.policy is None:
        return _ANYBODY
    is_open = route.policy.shadow or route.policy.name == SIGNED_IN
    return _EVERY_ACCOUNT if is_open else _WHOM_A_POLICY_ALLOWS


def _asks_more(other: Route, route: Route) -> bool:
    """Of calls that both take."""
    if other.methods and route.methods and not set(other.methods) & set(route.methods):
        return False
    asks, met = _asks(other), _asks(route)
    return asks > met or (asks == met == _EVERY_ACCOUNT and not takes_whom(other, route))


def _may_stand_for(route: Route, wide: Pattern, other: Route, pattern: Pattern) -> bool:
    """Whether `route` takes all that `other` does at one site, and more."""
    assert route.upstream is not None
    names = {one.host for one in (route.upstream, other.upstream) if one is not None}
    if len(names - {None}) > 1:
        return False
    meet = not (route.hosts and other.hosts) or any(map(route.takes_host, other.hosts))
    if not ((meet or any(map(other.takes_host, route.hosts))) and _covers(wide, pattern)):
        return False
    is_one_site_of_many = bool(other.hosts) and not all(map(other.takes_host, route.hosts or ("",)))
    return is_one_site_of_many or not _covers(pattern, wide)


def _start(pattern: Pattern) -> tuple[str, ...]:
    literals = takewhile(lambda part: part.kind is SegmentKind.LITERAL, pattern)
    return tuple(part.text for part in literals)


def _widest(route: Route) -> list[Pattern]:
    """The pattern of what its backend is sent, of a prefix what is below it."""
    return list(sent_patterns(route))[-1:]


def _covers(wide: Pattern, pattern: Pattern) -> bool:
    """Whether it takes whatever `pattern` does."""
    if wide and wide[-1].kind is SegmentKind.REST:
        fixed = wide[:-1]
        return len(pattern) >= len(fixed) and all(map(_takes_all, fixed, pattern))
    return len(pattern) == len(wide) and all(map(_takes_all, wide, pattern))


def _takes_all(one: PatternSegment, other: PatternSegment) -> bool:
    """Whether it takes whatever the other does."""
    if other.kind is SegmentKind.LITERAL:
        return one.takes(other.text)
    return other.kind is not SegmentKind.REST and one.kind in (SegmentKind.PLAIN, other.kind)
