"""Two routes whose rewrites lead to the same paths of one backend, of which one asks too little.

A rewritten path that is another route's is refused when it is called (`access/readings.py`).  Where
both are rewritten, what the backend sees is no path of any route: only a reader can tell whether
that is meant, so `gateway validate` warns of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.access.routing.patterns import read_pattern
from gateway.access.routing.routes import PatternSegment, Route, SegmentKind
from gateway.config.asking import (
    ANYBODY,
    EVERY_ACCOUNT,
    Asking,
    backends,
    named_hosts,
)
from gateway.model import ConfigProblem

Pattern = Sequence[PatternSegment]


def shared_backends(routes: Iterable[Route], asking: Asking) -> Iterator[ConfigProblem]:
    """A notice of each route that asks nobody, or no more than an account, and reaches what
    another one protects."""
    rewritten = [route for route in routes if route.rewrite is not None and route.upstream]
    protected = [route for route in rewritten if asking.of(route) != ANYBODY or route.policy]
    for route in rewritten:
        if asking.of(route) > EVERY_ACCOUNT:
            continue
        other = next((one for one in protected if _leads_around(asking, route, one)), None)
        if other is not None:
            assert route.upstream is not None
            policy = "asks no policy" if route.policy is None else "asks too little"
            callers = asking.open_to(route)
            text = (
                f"route `{route.id}` {policy} ({callers} may call it), and reaches paths of"
                f" upstream `{route.upstream.name}` that `{other.id}` ({other.location}) sends"
                f" calls to once `{other.policy.name if other.policy else ''}` has allowed them:"
                " tell them apart by `add_prefix`, or by another upstream"
            )
            yield ConfigProblem.at(route.location, text)


def _leads_around(asking: Asking, route: Route, other: Route) -> bool:
    if not asking.more(other, route) or not _is_one_site(route, other):
        return False
    mine, others = list(sent_patterns(route)), list(sent_patterns(other))
    return any(_overlap(one, another) for one in mine for another in others)


def _is_one_site(route: Route, other: Route) -> bool:
    """Whether the backend may take calls of both for those of one site."""
    assert route.upstream is not None
    assert other.upstream is not None
    if route.upstream.name == other.upstream.name:
        return True
    if not backends(route) & backends(other):
        return False
    hosts, others = named_hosts(route) or {*route.hosts}, named_hosts(other) or {*other.hosts}
    return not hosts or not others or bool(hosts & others)


def sent_patterns(route: Route) -> Iterator[Pattern]:
    """The patterns of the paths that its backend is sent."""
    rewrite = route.rewrite
    if rewrite is None:
        yield from route.patterns()
        return
    if rewrite.template:
        yield rewrite.template
        return
    added = read_pattern(rewrite.add_prefix) if rewrite.add_prefix else ()
    for pattern in route.patterns():
        kept = pattern[rewrite.strip_segments :]
        if not isinstance(added, str):
            yield (*added, *kept) or (PatternSegment(SegmentKind.LITERAL, ""),)


def _overlap(one: Pattern, other: Pattern) -> bool:
    """Whether some path matches both."""
    for first, second in zip(one, other, strict=False):
        if SegmentKind.REST in (first.kind, second.kind):
            return True
        if not _alike(first, second):
            return False
    return len(one) == len(other)


def _alike(first: PatternSegment, second: PatternSegment) -> bool:
    if first.kind is SegmentKind.LITERAL:
        return second.takes(first.text)
    if second.kind is SegmentKind.LITERAL:
        return first.takes(second.text)
    typed = {first.kind, second.kind}
    return typed != {SegmentKind.INT, SegmentKind.UUID}
