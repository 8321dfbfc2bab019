"""A route that takes whatever no other names, and asks less than others of its backend.

What some known kind of backend reads as a path of theirs is refused when it is called
(`access/readings.py`), and a list of kinds is never whole.  Whoever has such a route learns of it
where the configuration is checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from gateway.access.definitions import UpstreamTarget
from gateway.access.policies import Rule
from gateway.access.routing.protection import closes
from gateway.access.routing.routes import (
    WILDCARD,
    Auth,
    PatternSegment,
    Route,
    SegmentKind,
    wildcard_of,
)
from gateway.config.shared_backends import Pattern, sent_patterns
from gateway.model import ConfigProblem

_ANYBODY, _EVERY_ACCOUNT, _WHOM_A_POLICY_ALLOWS, _NOBODY = range(4)

_ASK_NOTHING = ("", "true")
_ASK_FOR_AN_ACCOUNT = ("user != null", "null != user")
"""Conditions that each signed-in caller meets."""

_THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))
"""One process listens at all of them, as a rule."""

_EVERY_HOST = "*"
_Place = tuple[UpstreamTarget | None, str]
"""A backend, any where it is None, and whichever hosts are meant: a name, a wildcard, all below
one (`.` and the wildcard), those of routes without any (empty) or all."""


def weaker_routes(routes: Iterable[Route]) -> Iterator[ConfigProblem]:
    """A notice of each route that lets pass, with less, what others of its backend protect if only
    it is asked for by a name that no route has."""
    routes = list(routes)
    open_routes = [
        one for one in routes if one.upstream is not None and _asks(one) <= _EVERY_ACCOUNT
    ]
    protected = _by_place(routes) if open_routes else {}
    for route in open_routes:
        assert route.upstream is not None
        stricter = {
            other.id: other
            for wide in _widest(route)
            for target in (None, *map(_backend, route.upstream.targets))
            for host in _hosts_taken(route)
            if (node := protected.get((target, host))) is not None
            for pattern, other in node.taken_by(wide)
            if _asks_more(other, route) and _takes_more(route, wide, other, pattern)
        }
        if stricter:
            yield _notice(route, list(stricter.values()))


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


def _by_place(routes: Iterable[Route]) -> dict[_Place, _Node]:
    """Those that ask for something, wherever a route may stand for them."""
    found: dict[_Place, _Node] = defaultdict(_Node)
    for route in routes:
        if _asks(route) == _ANYBODY:
            continue
        hosts = {_EVERY_HOST, *(route.hosts or ("",))}
        hosts |= {f".{wildcard_of(host)}" for host in route.hosts}
        targets = [] if route.upstream is None else map(_backend, route.upstream.targets)
        for target in [None] if route.upstream is None else targets:
            for host in hosts:
                for pattern in _widest(route):
                    found[target, host].insert(pattern, route)
    return found


def _backend(target: UpstreamTarget) -> UpstreamTarget:
    """The same of all that name one process."""
    host = "localhost" if target.host in _THIS_MACHINE else target.host
    return replace(target, url="", host=host)


def _hosts_taken(route: Route) -> set[str]:
    """Where those are found that may take a call of a host of its own."""
    if not route.hosts:
        return {_EVERY_HOST}
    below = {f".{host}" for host in route.hosts if host.startswith(WILDCARD)}
    return {"", *route.hosts, *map(wildcard_of, route.hosts), *below}


def _notice(route: Route, stricter: list[Route]) -> ConfigProblem:
    assert route.upstream is not None
    first = stricter[0]
    more = len(stricter) - 1
    if closes(first):
        asking = " is closed" + (f", and {more:,} more are or ask for more" if more else "")
    else:
        asking = f" and {more:,} more ask for more" if more else " asks for more"
    open_to = "anybody" if _asks(route) == _ANYBODY else "every account"
    text = (
        f"route `{route.id}` is open to {open_to}, and for names that no other route of upstream"
        f" `{route.upstream.name}` has, where `{first.id}` ({first.location}){asking}: a"
        " path that the backend takes for one of theirs in a way that the gateway does not know"
        f" passes. Ask for as much in `{route.id}`, or let it take what is open alone, by names or"
        " by `{id:int}` and `{id:uuid}`"
    )
    return ConfigProblem.at(route.location, text)


def _asks(route: Route) -> int:
    if closes(route):
        return _NOBODY
    if route.policy is None:
        return _ANYBODY
    if route.policy.shadow:
        return _EVERY_ACCOUNT
    rules = route.policy.rules_for(route.action)
    if rules.denies:
        return _WHOM_A_POLICY_ALLOWS
    asked = min(map(_rule_asks, rules.allows), default=_WHOM_A_POLICY_ALLOWS)
    return asked if route.auth is Auth.OPTIONAL else max(asked, _EVERY_ACCOUNT)


def _rule_asks(rule: Rule) -> int:
    """Of a rule that allows."""
    condition = "" if rule.condition is None else " ".join(rule.condition.source.split())
    if rule.role_permissions or rule.step_up is not None:
        return _WHOM_A_POLICY_ALLOWS
    if rule.every_user or condition in _ASK_FOR_AN_ACCOUNT:
        return _EVERY_ACCOUNT
    return _ANYBODY if condition in _ASK_NOTHING else _WHOM_A_POLICY_ALLOWS


def _asks_more(other: Route, route: Route) -> bool:
    """Of calls that both take."""
    if other.methods and route.methods and not set(other.methods) & set(route.methods):
        return False
    asks, met = _asks(other), _asks(route)
    return asks > met or (asks == met == _EVERY_ACCOUNT and not route.issuers <= other.issuers)


def _takes_more(route: Route, wide: Pattern, other: Route, pattern: Pattern) -> bool:
    """Whether it takes more than `other` does of the same site."""
    names = {one.host for one in (route.upstream, other.upstream) if one is not None}
    if len(names - {None}) > 1:
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
