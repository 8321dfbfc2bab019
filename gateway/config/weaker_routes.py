"""A route that takes whatever no other names, and asks less than others of its backend.

What some known kind of backend reads as a path of theirs is refused when it is called
(`access/readings.py`), and a list of kinds is never whole.  Whoever has such a route learns of it
where the configuration is checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.access.definitions import UpstreamTarget
from gateway.access.routing.protection import closes
from gateway.access.routing.routes import (
    WILDCARD,
    PatternSegment,
    Route,
    SegmentKind,
    wildcard_of,
)
from gateway.config.asking import (
    ANYBODY,
    EVERY_ACCOUNT,
    Asking,
    backends,
    named_hosts,
)
from gateway.config.shared_backends import Pattern, sent_patterns
from gateway.model import ConfigProblem

_EVERY_HOST = "*"
_Place = tuple[UpstreamTarget | None, str]
"""A backend, any where it is None, and whichever hosts are meant: a name, a wildcard, all below
one (`.` and the wildcard), those of routes without any (empty) or all."""


def weaker_routes(routes: Iterable[Route], asking: Asking) -> Iterator[ConfigProblem]:
    """A notice of each route that lets pass, with less, what others of its backend protect if only
    it is asked for by a name that no route has."""
    routes = list(routes)
    open_routes = [r for r in routes if r.upstream is not None and asking.of(r) <= EVERY_ACCOUNT]
    protected = _by_place(routes, asking) if open_routes else {}
    for route in open_routes:
        stricter = {
            other.id: other
            for wide in _widest(route)
            for target in (None, *backends(route))
            for host in _hosts_taken(route)
            if (node := protected.get((target, host))) is not None
            for pattern, other in node.taken_by(wide)
            if _asks_more(asking, other, route) and _takes_more(route, wide, other, pattern)
        }
        if stricter:
            yield _notice(asking, route, list(stricter.values()))


@dataclass(slots=True)
class _Node:
    """The patterns that go on alike, segment by segment."""

    children: dict[tuple[SegmentKind, str], _Node] = field(default_factory=dict)
    ending: list[tuple[Pattern, Route]] = field(default_factory=list)

    def insert(self, pattern: Pattern, route: Route) -> None:
        node = self
        for part in pattern:
            text = part.text if part.kind is SegmentKind.LITERAL else ""
            node = node.children.setdefault((part.kind, text), _Node())
        node.ending.append((pattern, route))

    def taken_by(self, wide: Pattern, at: int = 0) -> Iterator[tuple[Pattern, Route]]:
        """Those of which `wide` takes whatever they do."""
        if at == len(wide):
            yield from self.ending
            return
        part = wide[at]
        if part.kind is SegmentKind.REST:
            yield from self.all_below()
        elif part.kind is SegmentKind.LITERAL:
            if (child := self.children.get((part.kind, part.text))) is not None:
                yield from child.taken_by(wide, at + 1)
        else:
            for (kind, text), child in self.children.items():
                if part.takes(text) if kind is SegmentKind.LITERAL else _takes_kind(part, kind):
                    yield from child.taken_by(wide, at + 1)

    def all_below(self) -> Iterator[tuple[Pattern, Route]]:
        yield from self.ending
        for child in self.children.values():
            yield from child.all_below()


def _by_place(routes: Iterable[Route], asking: Asking) -> dict[_Place, _Node]:
    """Those that ask for something or have limits, wherever a route may stand for them."""
    found: dict[_Place, _Node] = defaultdict(_Node)
    for route in routes:
        if asking.of(route) == ANYBODY and route.policy is None and not route.limits:
            continue
        hosts = {_EVERY_HOST, *(route.hosts or ("",)), *named_hosts(route)}
        hosts |= {f".{wildcard_of(host)}" for host in route.hosts}
        for target in backends(route) or [None]:
            for host in hosts:
                for pattern in _widest(route):
                    found[target, host].insert(pattern, route)
    return found


def _hosts_taken(route: Route) -> set[str]:
    """Where those are found that may take a call of a host of its own."""
    if not route.hosts:
        return {_EVERY_HOST}
    below = {f".{host}" for host in route.hosts if host.startswith(WILDCARD)}
    hosts = {*route.hosts, *named_hosts(route)}
    return {"", *hosts, *map(wildcard_of, hosts), *below}


def _notice(asking: Asking, route: Route, stricter: list[Route]) -> ConfigProblem:
    assert route.upstream is not None
    first = next((one for one in stricter if asking.more(one, route)), stricter[0])
    more = len(stricter) - 1
    remedy = f"Ask for as much in `{route.id}`"
    if closes(first):
        says = " is closed" + (f", and {more:,} more are or ask for more" if more else "")
    elif asking.more(first, route):
        says = f" and {more:,} more ask for more" if more else " asks for more"
    else:
        limits = "limits that it does not have"
        says = f" and {more:,} more have {limits}" if more else f" has {limits}"
        remedy = f"Give `{route.id}` those limits"
    if route.hosts and first.hosts and named_hosts(route) & named_hosts(first):
        says += f", though both are sent as `{route.upstream.host}`"
    callers = asking.open_to(route)
    text = (
        f"route `{route.id}` is open to {callers}, and for names that no other route of"
        f" upstream `{route.upstream.name}` has, where `{first.id}` ({first.location}){says}: a"
        " path that the backend takes for one of theirs in a way that the gateway does not know"
        f" passes. {remedy}, or let it take what is open alone, by names or"
        " by `{id:int}` and `{id:uuid}`"
    )
    return ConfigProblem.at(route.location, text)


def _asks_more(asking: Asking, other: Route, route: Route) -> bool:
    """Of calls that both take; a limit more is more, too."""
    return asking.more(other, route) or asking.limits_more(other, route)


def _takes_more(route: Route, wide: Pattern, other: Route, pattern: Pattern) -> bool:
    """Whether it takes more than `other` does of the same site."""
    if len(named_hosts(route) | named_hosts(other)) > 1:
        return False
    is_one_site_of_many = bool(other.hosts) and not all(map(other.takes_host, route.hosts or ("",)))
    return is_one_site_of_many or not _covers(pattern, wide)


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
    if other.kind is SegmentKind.LITERAL:
        return one.takes(other.text)
    return _takes_kind(one, other.kind)


def _takes_kind(one: PatternSegment, kind: SegmentKind) -> bool:
    return kind is not SegmentKind.REST and one.kind in (SegmentKind.PLAIN, kind)
