"""The paths of two configurations, and the routes that a call of each finds on either side.

Patterns that match the same paths are one shape, whatever their parameters are called.  A
path belongs to the most specific shape of both sides, so that nothing is asked twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, product
from math import prod

from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import (
    BELOW,
    WILDCARD,
    PatternSegment,
    Route,
    SegmentKind,
    wildcard_of,
)
from gateway.access.snapshot import Snapshot
from gateway.model import Call, Reason
from gateway.review.methods import ANY_METHOD, AskedMethods
from gateway.review.policy_override import could_meet

OTHER_HOST = "localhost"
MAX_SAMPLES = 5_000
_INT = "1000001"
_UUID = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True, slots=True)
class Shape:
    host: str | None
    pattern: str
    """As the newer side writes it."""
    segments: tuple[PatternSegment, ...]

    @property
    def key(self) -> tuple[object, ...]:
        literal = SegmentKind.LITERAL
        parts = tuple((s.kind, s.text if s.kind is literal else "") for s in self.segments)
        return (self.host, parts)

    @property
    def open(self) -> tuple[int, ...]:
        """The positions that a caller fills."""
        return tuple(i for i, s in enumerate(self.segments) if s.kind is not SegmentKind.LITERAL)

    def filled(self, values: dict[int, str]) -> tuple[str, ...]:
        """The segments of a path of this shape."""
        segments: list[str] = []
        for at, segment in enumerate(self.segments):
            if segment.kind is SegmentKind.LITERAL:
                segments.append(segment.text)
            elif segment.kind is SegmentKind.REST:
                segments += values[at].split("/")
            else:
                segments.append(values[at])
        return tuple(segments)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a call of one shape and method finds on either side."""

    old: Route | None
    new: Route | None
    values: tuple[tuple[int, str], ...]
    """A path that finds it, by the positions that a caller fills."""


class Shapes:
    """Every shape of two configurations."""

    def __init__(self, old: Snapshot, new: Snapshot) -> None:
        self._sides = (old, new)
        by_key: dict[tuple[object, ...], Shape] = {}
        self._known: Counter[tuple[object, ...]] = Counter()
        self._takes_any: set[tuple[object, ...]] = set()
        self._named: dict[str, None] = {}
        self.prefixes: dict[tuple[Shape, ...], str] = {}
        """What a prefix takes, shape by shape, and how the whole is shown."""
        for snapshot in (new, old):
            here = set()
            for route in snapshot.routes:
                shapes = _shapes_of(route)
                for shape in shapes:
                    by_key.setdefault(shape.key, shape)
                    here.add(shape.key)
                    if not route.methods:
                        self._takes_any.add(shape.key)
                for parts in _prefixes(route):
                    self.prefixes[tuple(by_key[shape.key] for shape in parts)] = route.pattern
                self._named.update(dict.fromkeys(route.methods))
            self._known.update(here)
        self._asked = AskedMethods(chain(old.routes, new.routes))
        self.all = list(by_key.values())
        self.routes_differ = _routed(old) != _routed(new)
        """Whether a path that a rewrite made could be another's on one side alone."""
        # Which shape a path belongs to: that of the table that knows every one.
        self._union = RouteTable(
            (
                Route(
                    str(n),
                    () if shape.host is None else (shape.host,),
                    shape.pattern,
                    shape.segments,
                )
                for n, shape in enumerate(self.all)
            ),
            new.routes.own_paths,
        )

    def methods(self, shape: Shape) -> tuple[str, ...]:
        """The methods that may make a difference: those that a route anywhere names, and where a
        route takes any the ordinary ones and those that conditions tell apart."""
        takes_any = shape.key in self._takes_any
        if self._known[shape.key] < 2:
            # Where a side has not the shape, another may take its paths.
            takes_any |= bool(self._takes_any)
        ordinary = dict.fromkeys((*ANY_METHOD, *self._asked.all)) if takes_any else {}
        # GET admits HEAD, which a condition may tell from it.
        return tuple({**ordinary, **self._named, "HEAD": None})

    def method_for(self, method: str) -> str:
        """The method that stands for this one, where it is none of those that are asked."""
        return method if method in self._named else self._asked.stand_in(method)

    def host_of(self, shape: Shape) -> str:
        """A host that finds the shape."""
        if shape.host is None or not shape.host.startswith(WILDCARD):
            return shape.host or OTHER_HOST
        named = {host for snapshot in self._sides for host in snapshot.routes.named_hosts()}
        hosts = (f"other{number or ''}{shape.host[1:]}" for number in count())
        return next(host for host in hosts if host not in named)

    def find(
        self, shape: Shape, host: str, method: str, segments: tuple[str, ...]
    ) -> tuple[Route | None, Route | None] | None:
        """The routes of both sides; None for a path of another shape, or of none."""
        matches = self._matches(shape, host, method, segments)
        if matches is None:
            return None
        old, new = (match.route if isinstance(match, Match) else None for match in matches)
        return old, new

    def _matches(
        self, shape: Shape, host: str, method: str, segments: tuple[str, ...]
    ) -> list[Match | NoMatch] | None:
        match = self._union.match(host, method, segments)
        if not isinstance(match, Match) or self.all[int(match.route.id)] is not shape:
            return None
        return [snapshot.routes.match(host, method, segments) for snapshot in self._sides]

    def pairs(self, shape: Shape, method: str) -> list[Pair]:
        """Every pair of routes that a path of the shape can find, each once: by a path that no
        backend may take for another's, where there is one.  Such a path is refused, and says
        nothing of the routes."""
        pairs: dict[tuple[int, int], Pair] = {}
        refused: dict[tuple[int, int], Pair] = {}
        host = self.host_of(shape)
        for values in self._samples(shape):
            matches = self._matches(shape, host, method, shape.filled(dict(values)))
            if matches is None:
                continue
            old, new = (match.route if isinstance(match, Match) else None for match in matches)
            is_refused = any(isinstance(one, Match) and one.read_elsewhere for one in matches)
            found = refused if is_refused else pairs
            found.setdefault((id(old), id(new)), Pair(old, new, values))
            if self._known[shape.key] == 2:
                # Where both sides have the shape, each of its paths finds the same.
                break
        return list((refused | pairs).values())

    def led_to(self, shape: Shape, method: str, pair: Pair) -> tuple[str, str]:
        """The path that each side sends to its upstream for one that finds the pair, of which no
        two parts are the same where that can be."""
        host, given = self.host_of(shape), dict(pair.values)
        # Two numbers are the same in a pair's own path.
        apart = {
            at: fresh(shape.segments[at], at) if text == fresh(shape.segments[at]) else text
            for at, text in given.items()
        }
        for values in (apart, given):
            segments = shape.filled(values)
            matches = self._matches(shape, host, method, segments) or ()
            found = [one for one in matches if isinstance(one, Match)]
            if [one.route for one in found] == [pair.old, pair.new]:
                break
        path = "/" + "/".join(map(encoded, segments))
        call = Call(
            method, host, path, segments, "", headers=(), client_ip="127.0.0.1", scheme="http"
        )
        was, now = (str(one.route.upstream_target(call, one.params)) for one in found)
        return was, now

    def _samples(self, shape: Shape) -> Iterator[tuple[tuple[int, str], ...]]:
        plain = tuple((at, fresh(shape.segments[at])) for at in shape.open)
        yield plain
        others = [
            one.segments for one in self.all if one is not shape and _overlap(one, shape)
        ]  # fmt: skip
        choices = [list(dict.fromkeys(self._choices(shape, at, others))) for at in shape.open]
        if prod(map(len, choices)) <= MAX_SAMPLES:
            for chosen in product(*choices):
                yield tuple(zip(shape.open, chosen, strict=True))
            return
        for index, values in enumerate(choices):
            for value in values:
                yield (*plain[:index], (plain[index][0], value), *plain[index + 1 :])

    def _choices(
        self, shape: Shape, at: int, others: list[tuple[PatternSegment, ...]]
    ) -> Iterator[str]:
        """Values that some pattern takes in another way than the others."""
        segment = shape.segments[at]
        yield fresh(segment)
        if segment.kind is SegmentKind.REST:
            # As long as any other pattern: a longer one could take it over.
            longest = max((len(one) for one in others), default=0)
            for count in range(2, longest - at + 2):
                yield "/".join(f"{fresh(segment)}-{n}" for n in range(count))
            for one in others:
                if len(one) > at:
                    yield "/".join(_sample(part) for part in one[at:])
            return
        for one in others:
            if len(one) > at:
                part = one[at]
                sample = part.text if part.kind is SegmentKind.LITERAL else fresh(part)
                if segment.takes(sample) and part.kind is not SegmentKind.REST:
                    yield sample


def _shapes_of(route: Route) -> list[Shape]:
    """One shape for each host, and of a prefix one for each part of what it takes."""
    if not route.is_prefix:
        return [Shape(host, route.pattern, route.segments) for host in route.hosts or (None,)]
    return list(chain.from_iterable(_prefixes(route)))


def _prefixes(route: Route) -> list[tuple[Shape, ...]]:
    """For each host the parts of what a prefix takes; nothing of any other route."""
    if not route.is_prefix:
        return []
    name = route.pattern.removesuffix(f"/{BELOW}")
    shown = [text for text in (name, f"{name}/", route.pattern) if text]
    parts = list(zip(shown, route.patterns(), strict=True))
    return [tuple(Shape(host, *part) for part in parts) for host in route.hosts or (None,)]


def _hosts_meet(one: str, other: str) -> bool:
    """Whether some host is of both; each is a name or a wildcard."""
    return one == other or wildcard_of(one) == other or wildcard_of(other) == one


def fresh(segment: PatternSegment, number: int = 0) -> str:
    """A value that no configuration speaks of."""
    if segment.kind is SegmentKind.INT:
        return str(int(_INT) + number)
    if segment.kind is SegmentKind.UUID:
        return _UUID[:-4] + f"{0x1111 + number:04x}"
    return f"other-{segment.text}" + (f"-{number}" if number else "")


def good_segment(text: str, *, files: bool = False) -> bool:
    """Whether a call may have it as one segment of its path."""
    read = canonical("/" + encoded(text), files=files)
    return bool(text) and not isinstance(read, Reason) and read.segments == (text,)


def _sample(part: PatternSegment) -> str:
    return part.text if part.kind is SegmentKind.LITERAL else fresh(part)


def _overlap(one: Shape, other: Shape) -> bool:
    if None not in (one.host, other.host) and not _hosts_meet(str(one.host), str(other.host)):
        return False
    return could_meet(one.segments, other.segments)


def _routed(snapshot: Snapshot) -> set[tuple[object, ...]]:
    return {
        (r.hosts, r.pattern, r.methods, r.auth, r.action, r.rewrite,
         r.upstream and r.upstream.name, r.policy and r.policy.name)
        for r in snapshot.routes
    }  # fmt: skip
