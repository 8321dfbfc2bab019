"""The trie that finds the one route for a call.

A path is matched by specificity, never by the order of the file: host first, then segment
by segment from the left (literal over typed over plain over the rest) with backtracking,
and the method last.  So a route that is known for a path answers 405 for other methods,
and a less specific route never takes them over.  A prefix is as specific as a rest in its
place, and takes besides what no longer pattern names: its bare name, and that with a slash.

Many backends take letters in any case (Express, ASP.NET), a path with a final slash for the one
without (these, Rails, Laravel), or one behind `index.php` for the one without (Laravel, Symfony),
or run a script whatever stands behind it (Apache, IIS).
Law: what one of them would serve as a path that another route protects is told, and so refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.access.routing.guards import Guards
from gateway.access.routing.own_paths import WELL_KNOWN, OwnPaths, is_resource_metadata
from gateway.access.routing.protection import (
    closes,
    naming_ends,
    protects_otherwise,
    tells_otherwise,
)
from gateway.access.routing.repeated_prefixes import asked_again, begins_again, ordinary_beside
from gateway.access.routing.route_forms import RouteForms
from gateway.access.routing.route_trie import (
    RouteLeaf,
    RouteNode,
    leaves_for,
    walk,
    walk_folded,
)
from gateway.access.routing.routes import WILDCARD, Route, SegmentKind, wildcard_of
from gateway.access.routing.spellings import MOST_LETTERS, Spellings, asked_beside
from gateway.access.routing.value_spellings import may_name_value
from gateway.bounded_memo import MINUTE_S, BoundedMemo
from gateway.model import Reason


@dataclass(slots=True)
class Match:
    route: Route
    params: dict[str, str]
    read_elsewhere: bool
    """A backend may take the path for one that another route protects in another way."""

    def __init__(self, route: Route, params: dict[str, str], read_elsewhere: bool = False) -> None:
        self.route = route
        self.params = params
        self.read_elsewhere = read_elsewhere


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No route: ROUTE_UNKNOWN, or METHOD_NOT_ALLOWED with the methods that `Allow` lists."""

    reason: Reason
    allow: tuple[str, ...] = ()


_UNKNOWN = NoMatch(Reason.ROUTE_UNKNOWN)

# Bounds of the matches that a table remembers: their number, and the characters of a key.
_RECENT_MAX = 4_096
_RECENT_LENGTH_MAX = 256

_Asked = tuple[Route, str, str, tuple[str, ...], frozenset[str] | None]


class RouteTable:
    """All routes of one snapshot.  Built at load by `insert`, then only asked.

    A named host goes over a wildcard, and a wildcard over none.
    """

    def __init__(self, routes: Iterable[Route] = (), own_paths: OwnPaths | None = None) -> None:
        self.own_paths = own_paths or OwnPaths()
        """Of no route, whatever it matches."""
        self._any_host = RouteNode()
        self._hosts: dict[str, RouteNode] = {}
        # By what stands behind the first label.
        self._wildcards: dict[str, RouteNode] = {}
        self._by_id: dict[str, Route] = {}
        # As routes that are resources of OAuth name them; empty is that of the public URL.
        self._resource_hosts: set[str] = set()
        self._forms = RouteForms()
        self.takes_files = False
        """Whether any route has `paths: files`."""
        self._guards = Guards()
        # What was asked lately: the same paths are asked for again and again.
        self._recent: BoundedMemo[tuple[str, str, tuple[str, ...]], Match]
        self._recent = BoundedMemo(_RECENT_MAX, kept_s=MINUTE_S)
        # Of credentials that are good for some routes alone.
        self._limited: BoundedMemo[_Asked, bool] = BoundedMemo(_RECENT_MAX, kept_s=MINUTE_S)
        for route in routes:
            self.insert(route)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def names_host(self, host: str) -> bool:
        """Whether a route names this host, or a wildcard that takes it."""
        return host in self._hosts or host.partition(".")[2] in self._wildcards

    def named_hosts(self) -> frozenset[str]:
        """Every host that a route names in full."""
        return frozenset(self._hosts)

    def admits_files(self, host: str, segments: tuple[str, ...]) -> bool:
        """Whether a path that is `files_only` may be that of a route, whatever the method."""
        if not self.takes_files or self.reserves(host, segments):
            return False
        return any(route.takes_files for route in self.candidates(host, segments))

    def reserves(self, host: str, segments: tuple[str, ...]) -> bool:
        """Whether the gateway answers this path of this host itself, whatever routes match."""
        if segments[0] == WELL_KNOWN and is_resource_metadata(segments):
            return self.own_paths.reserve(host, segments) or self.has_resources(host)
        return self.own_paths.reserve(host, segments)

    def has_resources(self, host: str | None) -> bool:
        """Whether a route is a resource at this host, which may be a wildcard; None is any."""
        hosts = self._resource_hosts
        if host is None or not hosts:
            return bool(hosts)
        if "" in hosts and self.own_paths.has_documents(host):
            return True
        return host in hosts or wildcard_of(host) in hosts or host in map(wildcard_of, hosts)

    def get(self, route_id: str) -> Route | None:
        return self._by_id.get(route_id)

    def insert(self, route: Route) -> Route | None:
        """None, or the route that could match the same request with equal specificity."""
        self._recent.clear()
        self._limited.clear()
        leaves = [leaf for node in self._roots(route) for leaf in leaves_for(node, route)]
        for leaf in leaves:
            rival = leaf.rival(route)
            if rival is not None:
                return rival
        for leaf in leaves:
            leaf.insert(route)
        self._by_id[route.id] = route
        self.takes_files |= route.takes_files
        self._forms.add(route)
        if route.resource_server is not None:
            self._resource_hosts.update(route.hosts or ("",))
        self._guards.insert(route)
        return None

    def _roots(self, route: Route) -> list[RouteNode]:
        """The trie of each host of the route."""
        if not route.hosts:
            return [self._any_host]
        roots = []
        for host in route.hosts:
            known, name = self._hosts, host
            if host.startswith(WILDCARD):
                known, name = self._wildcards, host.removeprefix(WILDCARD)
            roots.append(known.setdefault(name, RouteNode()))
        return roots

    def match(self, host: str, method: str, segments: tuple[str, ...]) -> Match | NoMatch:
        """The one route for this call.  `segments` are canonical, `host` is as in `Call`."""
        asked = host, method, segments
        match: Match | NoMatch | None = self._recent.get(asked)
        if match is None:
            match = self._search(host, method, segments)
            if (
                isinstance(match, Match)
                and _is_short(host, method, *segments)
                and self._recent.comes_again(asked)
            ):
                self._recent.keep(asked, match)
        return match

    def _search(self, host: str, method: str, segments: tuple[str, ...]) -> Match | NoMatch:
        if self.reserves(host, segments):
            return _UNKNOWN
        leaf, values = self._leaf(host, segments)
        if leaf is None:
            return _UNKNOWN
        route = leaf.by_method.get(method) or leaf.any
        if route is None:
            # GET admits HEAD (RFC 9110 section 9.3.2).
            route = leaf.by_method.get("GET") if method == "HEAD" else None
            if route is None:
                return NoMatch(Reason.METHOD_NOT_ALLOWED, leaf.allow) if leaf.allow else _UNKNOWN
        # What a prefix has below it stands last, and has no name.
        params = dict(zip(route.param_names, values, strict=False))
        return Match(route, params, self.is_read_elsewhere(route, host, method, segments))

    def is_read_elsewhere(
        self,
        route: Route,
        host: str,
        method: str,
        segments: tuple[str, ...],
        good_at: frozenset[str] | None = None,
    ) -> bool:
        """As `Match` has it; `good_at` is as `protects_otherwise` has it, here and below."""
        asked = route, host, method, segments, good_at
        if good_at is None:
            return self._is_read_elsewhere(asked)
        known = self._limited.get(asked)
        if known is None:
            known = self._is_read_elsewhere(asked)
            if _is_short(host, method, *segments, *good_at) and self._limited.comes_again(asked):
                self._limited.keep(asked, known)
        return known

    def _is_read_elsewhere(self, call: _Asked) -> bool:
        route, host, method, segments, good_at = call
        asked = self.spellings(segments)
        if not asked.paths:
            return route.upstream is not None
        is_plain = asked.paths == [segments] and not asked.scripts
        if is_plain and not (
            self._forms.has_other_spellings
            or self._may_be_value(route, host, segments)
            or begins_again(route, segments)
        ):
            return False  # nearly always: there is no other way to the same leaf
        return self.is_protected_elsewhere(route, host, method, segments, good_at=good_at)

    def _may_be_value(self, route: Route, host: str, segments: tuple[str, ...]) -> bool:
        """Whether a backend may find a number or a UUID where `route` finds something else."""
        kinds = self._forms.kinds
        numbers = SegmentKind.INT in kinds
        typed = numbers or SegmentKind.UUID in kinds
        if not typed or not may_name_value(segments, numbers=numbers):
            return False
        return route not in self._sent_alike(host, segments, route)

    def spellings(
        self,
        segments: tuple[str, ...],
        *,
        names_its_end: bool = False,
        most_letters: int = MOST_LETTERS,
    ) -> Spellings:
        """As `spellings_of`: to find them takes longer than all else that is asked of a path."""
        return self._forms.spellings(segments, named=names_its_end, most_letters=most_letters)

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
        """Whether a path that a backend may read in what `route` takes, in some spelling, is one
        that another route sends there and protects in another way.  A path that the route names
        itself is its own.  `judged`, here and below: the policy is asked about that path as well,
        with what it says.
        """
        if route.upstream is None:
            return False
        texts = route.texts()
        named = not route.is_prefix and texts[-1] != "*"
        asked = self.spellings(segments, names_its_end=named)
        if not asked.paths:
            return True
        told = asked.paths[0]
        if self._leads_elsewhere(route, host, method, asked, told, judged=judged, good_at=good_at):
            return True
        for path in asked_again(route, told) if route.rewrite is not None else ():
            asked = self.spellings(path, names_its_end=named)
            if not asked.paths or self._leads_elsewhere(
                route, host, method, asked, told, judged=judged, good_at=good_at
            ):
                return True
        return False

    def _leads_elsewhere(
        self,
        route: Route,
        host: str,
        method: str,
        asked: Spellings,
        told: tuple[str, ...],
        *,
        judged: bool,
        good_at: frozenset[str] | None,
    ) -> bool:
        """Whether one of these is another route's; the policy is told of the path `told`."""
        texts = route.texts()
        named = not route.is_prefix and texts[-1] != "*"
        asked = asked_beside(asked, texts, named=named)
        found = [self._sent_alike(host, path, route, pages=not named) for path in asked.paths]
        if (folder := asked.paths[0][:-1]) in asked.paths:
            # Where no route names the folder, its page is as any other name in it: whoever takes
            # the folder among all below another takes the page, too, but for a nearer route.
            at = asked.paths.index(folder)
            found[at] = [one for one in found[at] if not one.takes_below(folder)]
        found += [naming_ends(self._sent_alike(host, path, route)) for path in asked.scripts]
        again = asked.paths[0] != told
        return any(
            route not in one
            and (
                protects_otherwise(
                    one,
                    route,
                    method,
                    any_action=ordinary_beside(one, route) if again else (),
                    good_at=good_at,
                )
                or (not judged and tells_otherwise(one, path, route, told, method) is not None)
            )
            for path, one in zip([*asked.paths, *asked.scripts], found, strict=True)
        )

    def _sent_alike(
        self, host: str, folded: tuple[str, ...], route: Route, *, pages: bool = False
    ) -> list[Route]:
        """The routes that send a path so folded to the backend of `route`, unchanged as it does or
        rewritten as it does, or refuse it themselves, of the first host that has any."""
        found = (walk_folded(node, folded, 0, pages=pages) for node in self._nodes(host))
        leaves: list[RouteLeaf] = next(filter(None, found), [])
        backend = self._guards.same_backend(route.upstream) if route.upstream else ()
        return [
            one
            for leaf in leaves
            for one in leaf.routes()
            if closes(one)
            or (
                (one.rewrite is None) is (route.rewrite is None)
                and one.upstream
                and one.upstream.name in backend
            )
        ]

    def bypasses_route(
        self,
        route: Route,
        method: str,
        segments: tuple[str, ...],
        *,
        asked: tuple[str, ...] | None = None,
        good_at: frozenset[str] | None = None,
    ) -> bool:
        """Whether a path that `route` made by its rewrite of what was `asked` belongs to another
        route.  None: the policy is asked about that path as well, with what it says.

        That is one which sends the same path to the same upstream unchanged, and protects
        it in another way: reached by a rewrite, its protection would be walked around.  What
        `route` serves by itself as well is judged by its policy and action alone.
        """
        spelled = self.spellings(segments)
        return not spelled.paths or self._guards.bypassed(
            route, method, spelled, segments, asked=asked, good_at=good_at
        )

    def told_otherwise(
        self, route: Route, method: str, segments: tuple[str, ...], asked: tuple[str, ...]
    ) -> tuple[Route, str] | None:
        """Whose path it is that `route` makes by its rewrite of what was `asked`, and of what the
        policy or a limit is told there and not by `route`, or otherwise.  None: of nothing, or the
        path is protected from `route` by more than that."""
        spelled = self.spellings(segments)
        if not spelled.paths:
            return None
        return self._guards.told_otherwise(route, method, spelled, segments, asked)

    def candidates(self, host: str, segments: tuple[str, ...]) -> list[Route]:
        """Every route of the pattern that the path chose, whatever its method."""
        leaf, _ = self._leaf(host, segments)
        return [] if leaf is None else leaf.routes()

    def _leaf(self, host: str, segments: tuple[str, ...]) -> tuple[RouteLeaf | None, list[str]]:
        values: list[str] = []
        for node in self._nodes(host):
            leaf = walk(node, segments, 0, len(segments), values)
            if leaf is not None:
                return leaf, values
        return None, values

    def _nodes(self, host: str) -> list[RouteNode]:
        """The tries that may take a call of this host, the most specific first."""
        nodes = [self._any_host]
        if self._wildcards and (node := self._wildcards.get(host.partition(".")[2])) is not None:
            nodes.insert(0, node)
        if (node := self._hosts.get(host)) is not None:
            nodes.insert(0, node)
        return nodes


def _is_short(*texts: str) -> bool:
    return sum(map(len, texts)) <= _RECENT_LENGTH_MAX
