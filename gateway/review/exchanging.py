"""The same configuration with some of its policies exchanged for others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast

from gateway.access.policies import Policy
from gateway.access.routes import Match, Miss, Route, RouteTable
from gateway.access.snapshot import Snapshot


def with_policies(snapshot: Snapshot, exchanged: Mapping[str, Policy]) -> Snapshot:
    """`snapshot` in which routes that name a policy of `exchanged` are judged by that one.

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


class _Exchanged:
    def __init__(self, table: RouteTable, policies: Mapping[str, Policy]) -> None:
        self._table = table
        self._policies = policies
        self._routes: dict[str, Route] = {}

    def exchange(self, route: Route) -> None:
        self._routes[route.id] = route

    def match(self, host: str, method: str, segments: tuple[str, ...]) -> Match | Miss:
        match = self._table.match(host, method, segments)
        if isinstance(match, Miss) or match.route.policy is None:
            return match
        route = match.route
        other = self._policies.get(match.route.policy.name)
        if other is None:
            return Match(self._routes.get(route.id, route), match.params)
        if route.id not in self._routes:
            self._routes[route.id] = dataclasses.replace(route, policy=other)
        return Match(self._routes[route.id], match.params)

    def trespasses(self, route: Route, method: str, segments: tuple[str, ...]) -> bool:
        return self._table.trespasses(self._table.get(route.id) or route, method, segments)
