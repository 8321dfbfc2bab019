"""The same configuration with some of its policies or routes exchanged for others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import cast

from gateway.access.policies import Policy
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import PatternSegment, Route, SegmentKind
from gateway.access.routing.spellings import Spellings
from gateway.access.snapshot import Snapshot


def with_policies(snapshot: Snapshot, exchanged: Mapping[str, Policy]) -> Snapshot:
    """`snapshot` in which routes that name a policy of `exchanged` are decided by that one.

    The trie is not built again: routes are exchanged as they are matched.
    """
    if not exchanged:
        return snapshot
    routes = cast("RouteTable", _Exchanged(snapshot.routes, exchanged))
    return dataclasses.replace(snapshot, routes=routes)


def with_route(snapshot: Snapshot, route: Route) -> Snapshot:
    """`snapshot` in which `route` takes the place of the one with its id; it matches the same."""
    table = _Exchanged(snapshot.routes, {})
    table.exchange(route)
    return dataclasses.replace(snapshot, routes=cast("RouteTable", table))


def rerouted(snapshot: Snapshot, route: Route, changed: Route | None) -> Snapshot:
    """`snapshot` in which `changed`, which may match other calls, takes the place of `route`."""
    table = _Rerouted(snapshot.routes, route, changed)
    return dataclasses.replace(snapshot, routes=cast("RouteTable", table))


class _Overlaid:
    """A table of which some routes are others, as far as their paths are asked about."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def bypasses_route(
        self,
        route: Route,
        method: str,
        segments: tuple[str, ...],
        *,
        asked: tuple[str, ...] | None = None,
        good_at: frozenset[str] | None = None,
    ) -> bool:
        found = self._table.get(route.id) or route
        return self._table.bypasses_route(found, method, segments, asked=asked, good_at=good_at)

    def is_read_elsewhere(
        self,
        route: Route,
        host: str,
        method: str,
        segments: tuple[str, ...],
        good_at: frozenset[str] | None = None,
    ) -> bool:
        found = self._table.get(route.id) or route
        return self._table.is_read_elsewhere(found, host, method, segments, good_at)

    def is_protected_elsewhere(
        self,
        route: Route,
        host: str,
        method: str,
        segments: tuple[str, ...],
        *,
        judged: bool = False,
        good_at: frozenset[str] | None = None,
    ) -> bool:
        found = self._table.get(route.id) or route
        return self._table.is_protected_elsewhere(
            found, host, method, segments, judged=judged, good_at=good_at
        )

    def admits_files(self, host: str, segments: tuple[str, ...]) -> bool:
        return self._table.admits_files(host, segments)

    def spellings(self, segments: tuple[str, ...], *, most_letters: int) -> Spellings:
        return self._table.spellings(segments, most_letters=most_letters)


class _Rerouted(_Overlaid):
    """Of the paths of one route, what another table says: one of the routes that they could
    find besides, so that the whole is not built again."""

    def __init__(self, table: RouteTable, route: Route, changed: Route | None) -> None:
        super().__init__(table)
        self._route = route
        self._changed = changed
        others = [
            one
            for one in table
            if one is not route
            and any(could_meet(a, b) for a in one.patterns() for b in route.patterns())
        ]
        self._near = RouteTable(
            [*others, *([changed] if changed is not None else [])], table.own_paths
        )

    def match(self, host: str, method: str, segments: tuple[str, ...]) -> Match | NoMatch:
        meant = self._route in self._table.candidates(host, segments)
        if not meant and self._changed is not None:
            meant = self._changed in self._near.candidates(host, segments)
        return (self._near if meant else self._table).match(host, method, segments)


def could_meet(one: Sequence[PatternSegment], other: Sequence[PatternSegment]) -> bool:
    """Whether some path could be of both, as far as one segment at a time tells."""
    for left, right in zip(one, other, strict=False):
        if SegmentKind.REST in (left.kind, right.kind):
            return True
        literals = [s for s in (left, right) if s.kind is SegmentKind.LITERAL]
        if not all(left.takes(s.text) and right.takes(s.text) for s in literals):
            return False
    return len(one) == len(other)


class _Exchanged(_Overlaid):
    def __init__(self, table: RouteTable, policies: Mapping[str, Policy]) -> None:
        super().__init__(table)
        self._policies = policies
        self._routes: dict[str, Route] = {}

    def exchange(self, route: Route) -> None:
        self._routes[route.id] = route

    def match(self, host: str, method: str, segments: tuple[str, ...]) -> Match | NoMatch:
        match = self._table.match(host, method, segments)
        if isinstance(match, NoMatch) or match.route.policy is None:
            return match
        route = match.route
        other = self._policies.get(match.route.policy.name)
        if other is None:
            return dataclasses.replace(match, route=self._routes.get(route.id, route))
        if route.id not in self._routes:
            self._routes[route.id] = dataclasses.replace(route, policy=other)
        return dataclasses.replace(match, route=self._routes[route.id])
