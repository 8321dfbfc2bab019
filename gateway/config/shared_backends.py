"""Two routes whose rewrites lead to the same paths of one backend, of which one asks nobody.

A rewritten path that is another route's is refused when it is called (`access/readings.py`).  Where
both are rewritten, what the backend sees is no path of any route: only a reader can tell whether
that is meant, so `gateway validate` warns of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.access.routing.patterns import read_pattern
from gateway.access.routing.routes import PatternSegment, Route, SegmentKind
from gateway.model import ConfigProblem

Pattern = Sequence[PatternSegment]


def shared_backends(routes: Iterable[Route]) -> Iterator[ConfigProblem]:
    """A notice of each route without a policy that reaches what another one protects."""
    rewritten = [route for route in routes if route.rewrite is not None and route.upstream]
    protected = [route for route in rewritten if route.policy is not None]
    for route in rewritten:
        if route.policy is not None:
            continue
        other = next((one for one in protected if _meet(route, one)), None)
        if other is not None:
            assert route.upstream is not None
            text = (
                f"route `{route.id}` asks no policy, and reaches paths of upstream"
                f" `{route.upstream.name}` that `{other.id}` ({other.location}) sends calls to once"
                f" `{other.policy.name if other.policy else ''}` has allowed them: tell them apart"
                " by `add_prefix`, or by another upstream"
            )
            yield ConfigProblem.at(route.location, text)


def _meet(route: Route, other: Route) -> bool:
    assert route.upstream is not None
    assert other.upstream is not None
    if route.upstream.name != other.upstream.name:
        return False
    if route.methods and other.methods and not set(route.methods) & set(other.methods):
        return False
    mine, others = list(sent_patterns(route)), list(sent_patterns(other))
    return any(_overlap(one, another) for one in mine for another in others)


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
