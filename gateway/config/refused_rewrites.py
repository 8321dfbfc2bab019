"""A rewrite to paths of another route, of which a rule or a limit reads something that the route of
the call says nothing of, or something else.

Such a call is refused, whoever makes it (`access/readings.py`).  Whoever writes the rewrite means
it to pass, so `gateway validate` tells of it: by a path that nobody has called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from uuid import NAMESPACE_OID, uuid5
from zlib import crc32

from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.route_table import Match, RouteTable
from gateway.access.routing.routes import WILDCARD, PatternSegment, Route, SegmentKind
from gateway.config.asking import share_a_method
from gateway.config.shared_backends import Pattern, sent_patterns
from gateway.model import Call, ConfigProblem, Reason

_ANY_HOST = "localhost"
_MOST_TRIED = 3_000
"""Paths of one configuration: half a second.  Where scores of routes each lead to all of scores of
others, the last are not looked at."""


def refused_rewrites(table: RouteTable) -> Iterator[ConfigProblem]:
    """A notice of each rewritten route of which all calls to some route of its backend are refused,
    as one is told of what the other is not."""
    by_name: dict[str | None, list[tuple[Pattern, Route]]] = defaultdict(list)
    for other in table:
        if other.rewrite is None and other.upstream is not None and _tells(other):
            for pattern in other.patterns():
                by_name[_first_name(pattern)].append((pattern, other))
    every = [one for named in by_name.values() for one in named]
    left = _MOST_TRIED
    for route in table:
        if route.rewrite is None or route.upstream is None:
            continue
        for call, other in _calls(route, by_name, every):
            if left == 0:
                return
            told = _told(table, route, call, other)
            left -= 1
            if told is not None:
                yield _notice(route, *told)
                break


def _tells(route: Route) -> bool:
    """Whether anything of its paths is told to who reads it."""
    rules = () if route.action_rules is None else route.action_rules.allows
    limits = [*route.limits, *(limit for rule in rules for limit in rule.limits)]
    is_counted = any(limit.expression is not None for limit in limits)
    return bool(route.policy_params or route.resource) or is_counted


def _calls(
    route: Route,
    by_name: Mapping[str | None, list[tuple[Pattern, Route]]],
    every: list[tuple[Pattern, Route]],
) -> Iterator[tuple[tuple[str, ...], Route]]:
    """Paths of the route that lead to those of another."""
    for mine, sent in zip(route.patterns(), _sent(route), strict=True):
        name = _first_name(sent)
        named = () if name is None else (*by_name.get(name, ()), *by_name.get(None, ()))
        for pattern, other in every if name is None else named:
            values = _values(sent, pattern)
            if values is not None and share_a_method(route, other):
                yield _filled(mine, values), other


def _sent(route: Route) -> list[Pattern]:
    """The patterns of what its backend is sent, one for each that it takes."""
    sent = list(sent_patterns(route))
    return sent * len(route.patterns()) if len(sent) == 1 else sent


def _first_name(pattern: Pattern) -> str | None:
    """The literal that it begins with, if it does."""
    first = pattern[0] if pattern else PatternSegment(SegmentKind.LITERAL, "")
    return first.text if first.kind is SegmentKind.LITERAL else None


def _values(sent: Pattern, pattern: Pattern) -> dict[str, str] | None:
    """What the parameters of `sent` hold in a path that is of the other pattern too; None where
    there is no such path."""
    values: dict[str, str] = {}
    for at, part in enumerate(sent):
        if at >= len(pattern):
            return None
        if part.kind is SegmentKind.REST:
            values[part.text] = "/".join(
                _sample(one, f"{part.text}-{one.text}") for one in pattern[at:]
            )
            return values
        other = pattern[at]
        if other.kind is SegmentKind.REST:
            values |= {
                one.text: _sample(one, one.text)
                for one in sent[at:]
                if one.kind is not SegmentKind.LITERAL
            }
            return values
        if part.kind is SegmentKind.LITERAL:
            if not other.takes(part.text):
                return None
            continue
        narrow = part if other.kind is SegmentKind.PLAIN else other
        value = _sample(narrow, part.text)
        if not part.takes(value) or values.setdefault(part.text, value) != value:
            return None
    return values if len(sent) == len(pattern) else None


def _sample(part: PatternSegment, name: str) -> str:
    """The literal, or a value that no configuration speaks of and no parameter of another name
    has."""
    if part.kind is SegmentKind.LITERAL:
        return part.text
    if part.kind is SegmentKind.INT:
        return str(1_000_000 + crc32(name.encode()))
    if part.kind is SegmentKind.UUID:
        return str(uuid5(NAMESPACE_OID, name))
    return f"any-{name.replace('*', '').lower()}"


def _told(
    table: RouteTable, route: Route, segments: tuple[str, ...], other: Route
) -> tuple[Route, str] | None:
    """Which route has the path that becomes of such a call, and what only it tells."""
    host = route.hosts[0] if route.hosts else _ANY_HOST
    if host.startswith(WILDCARD):
        host = f"any-one{host[1:]}"
    shared = [one for one in route.methods if one in other.methods]
    method = next(iter([*shared, *route.methods, *other.methods]), "GET")
    match = table.match(host, method, segments)
    if not isinstance(match, Match) or match.route is not route or match.read_elsewhere:
        return None
    path = "/" + "/".join(map(encoded, segments))
    call = Call(method, host, path, segments, "", headers=(), client_ip="", scheme="http")
    sent = route.upstream_target(call, match.params)
    if isinstance(sent, Reason):
        return None
    read = canonical(sent, files=route.takes_files)
    if isinstance(read, Reason):
        return None
    return table.told_otherwise(route, method, read.segments, segments)


def _filled(pattern: Pattern, values: dict[str, str]) -> tuple[str, ...]:
    segments: list[str] = []
    for part in pattern:
        if part.kind is SegmentKind.LITERAL:
            segments.append(part.text)
        else:
            segments += values.get(part.text, _sample(part, part.text)).split("/")
    return tuple(segments)


def _notice(route: Route, other: Route, told: str) -> ConfigProblem:
    kind, _, name = told.rpartition(".")
    what = f"the parameter `{{{name}}}`" if kind == "params" else f"`{told}`"
    text = (
        f"route `{route.id}` leads by its rewrite to paths of `{other.id}` ({other.location}),"
        f" of which a rule or a limit reads {what}, and `{route.id}` says nothing of it, or"
        " something else: each such call is refused (400 ambiguous_path). Let the pattern of"
        f" `{route.id}` have it by the same name and with the same value, give the path that it"
        " makes a route of its own, or send it to another upstream"
    )
    return ConfigProblem.at(route.location, text)
