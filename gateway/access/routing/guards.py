"""The paths that routes send to a backend unchanged, whatever the host: a rewrite may lead there.

Law: what is sent on is protected by the routes whose path it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from gateway.access.definitions import Upstream, UpstreamTarget
from gateway.access.routing.protection import (
    named_by_letters,
    naming_ends,
    protects_otherwise,
    tells_otherwise,
)
from gateway.access.routing.route_trie import RouteNode, guarded, leaves_for, walk
from gateway.access.routing.routes import Route
from gateway.access.routing.spellings import Spellings, folded_path


class Guards:
    """Those of one table.  Built at load by `insert`, then only asked."""

    def __init__(self) -> None:
        self._by_upstream: dict[str, RouteNode] = {}
        # The upstreams that ask a target for a site: two names may stand for one backend.
        self._upstreams_at: dict[tuple[UpstreamTarget, str | None], set[str]] = {}

    def insert(self, route: Route) -> None:
        upstream = route.upstream
        if upstream is None:
            return
        for target in upstream.targets:
            self._upstreams_at.setdefault((target, upstream.host), set()).add(upstream.name)
        guard = self._by_upstream.setdefault(upstream.name, RouteNode())
        for leaf in leaves_for(guard, route) if route.rewrite is None else ():
            leaf.guard(route)

    def same_backend(self, upstream: Upstream) -> set[str]:
        """Whatever upstreams ask one of its targets for the same site: their names, and its own."""
        asked = [(target, upstream.host) for target in upstream.targets]
        return {upstream.name}.union(*(self._upstreams_at.get(one, ()) for one in asked))

    def bypassed(
        self,
        route: Route,
        method: str,
        spelled: Spellings,
        segments: tuple[str, ...],
        *,
        asked: tuple[str, ...] | None,
        good_at: frozenset[str] | None,
    ) -> bool:
        """As `RouteTable.bypasses_route` has it, of a path that has these spellings."""
        told = () if asked is None else folded_path(asked)
        for own, alike in self._found(route, method, spelled, segments):
            others = list(chain(*alike))
            if own and protects_otherwise(own, route, method):
                return True
            if protects_otherwise(others, route, method):
                return True
            # A route for everything else is what a rewrite is for: what others name is theirs.
            if good_at is not None and any(
                protects_otherwise(named, route, method, good_at=good_at)
                for named in (named_by_letters(own), named_by_letters(others))
            ):
                return True
            if asked is None:
                continue
            alike[0] += own
            for found, path in zip(alike, [*spelled.paths, *spelled.scripts], strict=True):
                if tells_otherwise(found, path, route, told, method, both_ways=False) is not None:
                    return True
        return False

    def told_otherwise(
        self,
        route: Route,
        method: str,
        spelled: Spellings,
        segments: tuple[str, ...],
        asked: tuple[str, ...],
    ) -> tuple[Route, str] | None:
        """As `tells_otherwise` has it, of a path as it stands that nothing else protects from
        `route`: for who reads a configuration."""
        told = folded_path(asked)
        for own, alike in self._found(route, method, spelled, segments):
            found = [*alike[0], *own]
            if protects_otherwise(found, route, method):
                return None
            one = tells_otherwise(found, spelled.paths[0], route, told, method, both_ways=False)
            if one is not None:
                return one
        return None

    def _found(
        self, route: Route, method: str, spelled: Spellings, segments: tuple[str, ...]
    ) -> Iterator[tuple[list[Route], list[list[Route]]]]:
        """Of each upstream of the same backend: whose path it is as it stands, and whose in each of
        its spellings and scripts."""
        backend = self.same_backend(route.upstream) if route.upstream else ()
        for guard in filter(None, map(self._by_upstream.get, backend)):
            leaf = walk(guard, segments, 0, len(segments), [])
            own = leaf.guarded if leaf is not None else []
            alike = [guarded(guard, path, leaf, method, pages=True) for path in spelled.paths]
            alike += [naming_ends(guarded(guard, path, leaf, method)) for path in spelled.scripts]
            yield own, alike
