"""Routes, and the trie that finds the one for a call.

A path is matched by specificity, never by the order of the file: host first, then segment
by segment from the left (literal over typed over plain over the rest) with backtracking,
and the method last.  So a route that is known for a path answers 405 for other methods,
and a less specific route never takes them over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.access.definitions import (
    Cors,
    HeaderChanges,
    Limit,
    OwnAnswer,
    SecurityHeaders,
    Upstream,
)
from gateway.access.policies import ActionRules, Policy, ResourceField, Rule
from gateway.access.routing.paths import canonical, encoded
from gateway.access.websocket_options import STANDARD_SOCKETS, Sockets
from gateway.model import NOWHERE, Call, CredentialKind, Reason, SourceLocation

OWN_DOCUMENTS = frozenset(("jwks.json", "oauth-authorization-server", "oauth-protected-resource"))
"""The documents below `/.well-known/` that the gateway answers itself, on every host."""

_INT = re.compile(r"[0-9]+\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


class Auth(StrEnum):
    REQUIRED = "required"
    OPTIONAL = "optional"
    PUBLIC = "public"


class SegmentKind(StrEnum):
    """What a pattern's segment takes."""

    LITERAL = "literal"
    INT = "int"
    UUID = "uuid"
    PLAIN = "plain"
    REST = "path"


@dataclass(frozen=True, slots=True)
class PatternSegment:
    kind: SegmentKind
    text: str
    """The literal, decoded; or the parameter's name."""

    def takes(self, segment: str) -> bool:
        """Whether it matches one segment (`REST`: as the first of the rest)."""
        if self.kind is SegmentKind.LITERAL:
            return segment == self.text
        if self.kind is SegmentKind.INT:
            return _INT.match(segment) is not None
        if self.kind is SegmentKind.UUID:
            return _UUID.match(segment) is not None
        return bool(segment)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What becomes of the path before it is sent: whole segments, never text."""

    strip_segments: int = 0
    add_prefix: str = ""
    """Begins with `/`, does not end with it; empty adds nothing."""
    template: tuple[PatternSegment, ...] = ()
    """The whole path anew, each parameter encoded as one segment; empty: keep the path."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    id: str
    host: str | None
    pattern: str
    segments: tuple[PatternSegment, ...]
    methods: tuple[str, ...] = ()
    """Upper case; empty is any method."""
    auth: Auth = Auth.REQUIRED
    accept: frozenset[CredentialKind] = frozenset(CredentialKind)
    policy: Policy | None = None
    action: str = ""
    resource: tuple[ResourceField, ...] = ()
    upstream: Upstream | None = None
    """None only for a route that answers by itself."""
    rewrite: Rewrite | None = None
    max_body_bytes: int = 10 * 1024 * 1024
    limits: tuple[Limit, ...] = ()
    cors: Cors | None = None
    security_headers: SecurityHeaders | None = None
    forward_authorization: bool = False
    allow_encoded_slash: bool = False
    reads_body: bool = False
    """The policy reads the JSON body: the door hands it over in `Call.body`."""
    explain_role: str | None = None
    """Who of the signed-in sees the explanation of a refusal (`errors: explain`)."""
    location: SourceLocation = NOWHERE
    claimed_headers: frozenset[bytes] = frozenset()
    """Fields that the configuration writes or removes, folded: a client's own never pass."""
    request_lines: bytes = b""
    """The fields that `request: {set_headers: …}` adds, joined by CRLF."""
    response: HeaderChanges | None = None
    """What becomes of the fields of an upstream's answer."""
    answer: OwnAnswer | None = None
    """Set where `upstream` is None."""
    sockets: Sockets = STANDARD_SOCKETS
    reevaluates: bool = False
    """A call that lasts is judged again where it would end because the caller's roles, the
    token or the configuration has changed (`on_change: reevaluate`)."""
    kept_headers: frozenset[bytes] = frozenset()
    """Fields that are taken from every client and pass here all the same, in lower case."""
    plain: bool = field(init=False)
    """Requests go to the upstream without a change of their line or fields that it asks for."""
    first_limits: tuple[Limit, ...] = field(init=False)
    """Limits that are asked before the policy is: all, but for those whose key is what the call
    is about.  Else who may not see a tenant could use up what its people may spend."""
    last_limits: tuple[Limit, ...] = field(init=False)
    """Those that are asked once the policy has allowed the call."""
    limits_of_rules: Mapping[Rule | None, tuple[Limit, ...]] = field(init=False)
    """The same with those that an allowing rule asks for besides."""
    asks_last: bool = field(init=False)
    """Whether there is any of these."""
    first_about: bool = field(init=False)
    """Whether the key of one of the first limits is what the call is about."""
    action_rules: ActionRules | None = field(init=False)
    """The rules of the policy that cover the action."""
    param_names: tuple[str, ...] = field(init=False)
    query_names: frozenset[str] = field(init=False)
    """Parameters, headers and fields of the body that the resource is made of."""
    header_names: frozenset[str] = field(init=False)
    body_names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(s.text for s in self.segments if s.kind is not SegmentKind.LITERAL)
        object.__setattr__(self, "param_names", names)
        changed = self.rewrite or self.claimed_headers or self.request_lines
        upstream = self.upstream
        plain = upstream is not None and upstream.host is None and not upstream.assertion_audience
        plain = plain and not (changed or self.forward_authorization or self.reevaluates)
        object.__setattr__(self, "plain", plain)
        action_rules = None if self.policy is None else self.policy.rules_for(self.action)
        object.__setattr__(self, "action_rules", action_rules)
        last = tuple(
            one for one in self.limits if action_rules is not None and one.of_what_is_asked
        )
        object.__setattr__(self, "last_limits", last)
        object.__setattr__(self, "first_limits", tuple(o for o in self.limits if o not in last))
        of_rules = {
            rule: last + tuple(limit.for_route(self.id) for limit in rule.limits)
            for rule in (action_rules.allows if action_rules is not None else ())
            if rule.limits
        }
        object.__setattr__(self, "limits_of_rules", of_rules)
        object.__setattr__(self, "asks_last", bool(last or of_rules))
        about = any(one.of_what_is_asked for one in self.first_limits)
        object.__setattr__(self, "first_about", about)
        for source, attribute in (
            ("query", "query_names"), ("headers", "header_names"), ("body", "body_names"),
        ):  # fmt: skip
            read = (name for f in self.resource for name in f.template.names(source))
            object.__setattr__(self, attribute, frozenset(read))

    def limits_after(self, rule: Rule | None) -> tuple[Limit, ...]:
        """What is asked once `rule` has allowed a call: always the very same object, by which
        whoever counts knows it again."""
        return self.limits_of_rules.get(rule, self.last_limits)

    def resource_of(self, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The resource that the call names; a field without a value is left out."""
        resource: dict[str, Any] = {}
        for one in self.resource:
            value = one.template.fill(values)
            if value is not None:
                resource[one.name] = value
        return resource

    def upstream_target(self, call: Call, params: Mapping[str, str]) -> str | Reason:
        """The request target for the upstream: path and query.

        Without a rewrite these are the client's own bytes.  A rewritten path is held to the
        rules of any other: AMBIGUOUS_PATH when it could be read in two ways.
        """
        path = call.path
        if self.rewrite is not None:
            path = self._rewritten(self.rewrite, path, params)
            read = canonical(path)
            if isinstance(read, Reason):
                return Reason.AMBIGUOUS_PATH
            if read.encoded_slash and not self.allow_encoded_slash:
                return Reason.AMBIGUOUS_PATH
        return f"{path}?{call.query}" if call.query else path

    def _rewritten(self, rewrite: Rewrite, path: str, params: Mapping[str, str]) -> str:
        if rewrite.template:
            parts = []
            for part in rewrite.template:
                if part.kind is SegmentKind.LITERAL:
                    parts.append(encoded(part.text))
                elif part.kind is SegmentKind.REST:
                    parts += [encoded(piece) for piece in params[part.text].split("/")]
                else:
                    parts.append(encoded(params[part.text]))
            return "/" + "/".join(parts)
        # A raw segment holds no raw slash, so the raw pieces are the decoded segments.
        kept = path[1:].split("/", rewrite.strip_segments)[rewrite.strip_segments :]
        rest = "/" + kept[0] if kept else ""
        return (rewrite.add_prefix + rest) or "/"


@dataclass(slots=True)
class Match:
    route: Route
    params: dict[str, str]


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No route: ROUTE_UNKNOWN, or METHOD_NOT_ALLOWED with the methods that `Allow` lists."""

    reason: Reason
    allow: tuple[str, ...] = ()


_UNKNOWN = NoMatch(Reason.ROUTE_UNKNOWN)

# Bounds of what a table remembers of its answers: in number, and in characters of what was asked.
_RECENT_MAX = 4_096
_RECENT_LENGTH_MAX = 256


class _Leaf:
    """The routes of one pattern, by method."""

    __slots__ = ("any", "by_method", "guarded", "miss")

    def __init__(self) -> None:
        self.guarded: list[Route] = []
        self.by_method: dict[str, Route] = {}
        self.any: Route | None = None
        self.no_match = _UNKNOWN

    def routes(self) -> list[Route]:
        routes = list(dict.fromkeys(self.by_method.values()))
        return routes if self.any is None else [*routes, self.any]

    def insert(self, route: Route) -> Route | None:
        if self.any is not None:
            return self.any
        if not route.methods:
            if self.by_method:
                return next(iter(self.by_method.values()))
            self.any = route
            return None
        for method in route.methods:
            if method in self.by_method:
                return self.by_method[method]
        self.by_method.update(dict.fromkeys(route.methods, route))
        allow = set(self.by_method)
        if "GET" in allow:
            allow.add("HEAD")
        self.no_match = NoMatch(Reason.METHOD_NOT_ALLOWED, tuple(sorted(allow)))
        return None


class _Node:
    __slots__ = ("leaf", "literals", "number", "plain", "rest", "uuid")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.number: _Node | None = None
        self.uuid: _Node | None = None
        self.plain: _Node | None = None
        self.rest: _Leaf | None = None
        self.leaf: _Leaf | None = None

    def child(self, segment: PatternSegment) -> _Node:
        if segment.kind is SegmentKind.LITERAL:
            return self.literals.setdefault(segment.text, _Node())
        if segment.kind is SegmentKind.INT:
            self.number = self.number or _Node()
            return self.number
        if segment.kind is SegmentKind.UUID:
            self.uuid = self.uuid or _Node()
            return self.uuid
        self.plain = self.plain or _Node()
        return self.plain


class RouteTable:
    """All routes of one snapshot.  Built at load by `insert`, then only asked."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._any_host = _Node()
        self._hosts: dict[str, _Node] = {}
        self._by_id: dict[str, Route] = {}
        # By upstream, whatever the host: the paths that its routes send on unchanged.
        self._guards: dict[str, _Node] = {}
        # What was asked lately: the same paths are asked for again and again.
        self._recent: dict[tuple[str, str, tuple[str, ...]], Match] = {}
        for route in routes:
            self.insert(route)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def names_host(self, host: str) -> bool:
        """Whether any route is for this host alone."""
        return host in self._hosts

    def get(self, route_id: str) -> Route | None:
        return self._by_id.get(route_id)

    def insert(self, route: Route) -> Route | None:
        """None, or the route that could match the same request with equal specificity."""
        self._recent.clear()
        node = self._any_host
        if route.host is not None:
            node = self._hosts.setdefault(route.host, _Node())
        rival = _leaf_for(node, route).insert(route)
        if rival is None:
            self._by_id[route.id] = route
            if route.upstream is not None and route.rewrite is None:
                guard = self._guards.setdefault(route.upstream.name, _Node())
                _leaf_for(guard, route).guarded.append(route)
        return rival

    def match(self, host: str, method: str, segments: tuple[str, ...]) -> Match | NoMatch:
        """The one route for this call.  `segments` are canonical, `host` is as in `Call`."""
        asked = host, method, segments
        match: Match | NoMatch | None = self._recent.get(asked)
        if match is None:
            match = self._search(host, method, segments)
            length = sum(map(len, (host, method, *segments)))
            if isinstance(match, Match) and length <= _RECENT_LENGTH_MAX:
                if len(self._recent) >= _RECENT_MAX:
                    self._recent.clear()
                self._recent[asked] = match
        return match

    def _search(self, host: str, method: str, segments: tuple[str, ...]) -> Match | NoMatch:
        if is_own(segments):
            return _UNKNOWN
        leaf, values = self._leaf(host, segments)
        if leaf is None:
            return _UNKNOWN
        route = leaf.by_method.get(method) or leaf.any
        if route is None:
            # GET admits HEAD (RFC 9110 section 9.3.2).
            route = leaf.by_method.get("GET") if method == "HEAD" else None
            if route is None:
                return leaf.no_match
        return Match(route, dict(zip(route.param_names, values, strict=True)))

    def bypasses_route(self, route: Route, method: str, segments: tuple[str, ...]) -> bool:
        """Whether a path that `route` made by its rewrite belongs to another route.

        That is one which sends the same path to the same upstream unchanged, and protects
        it in another way: reached by a rewrite, its protection would be walked around.
        """
        guard = self._guards.get(route.upstream.name) if route.upstream else None
        leaf = _walk(guard, segments, 0, len(segments), []) if guard else None
        if leaf is None:
            return False
        named = [other for other in leaf.guarded if not other.methods or method in other.methods]
        return any(
            other.auth is not Auth.PUBLIC
            and (other.policy is not route.policy or other.action != route.action)
            for other in named or leaf.guarded
        )

    def candidates(self, host: str, segments: tuple[str, ...]) -> list[Route]:
        """Every route of the pattern that the path chose, whatever its method."""
        leaf, _ = self._leaf(host, segments)
        return [] if leaf is None else leaf.routes()

    def _leaf(self, host: str, segments: tuple[str, ...]) -> tuple[_Leaf | None, list[str]]:
        values: list[str] = []
        node = self._hosts.get(host)
        if node is not None:
            leaf = _walk(node, segments, 0, len(segments), values)
            if leaf is not None:
                return leaf, values
        return _walk(self._any_host, segments, 0, len(segments), values), values


def is_own(segments: tuple[str, ...]) -> bool:
    """Whether the path is one that the gateway answers itself, on every host."""
    first = segments[0]
    if first == "auth":
        return True
    return first == ".well-known" and len(segments) == 2 and segments[1] in OWN_DOCUMENTS


def _leaf_for(node: _Node, route: Route) -> _Leaf:
    for segment in route.segments:
        if segment.kind is SegmentKind.REST:
            node.rest = node.rest or _Leaf()
            return node.rest
        node = node.child(segment)
    node.leaf = node.leaf or _Leaf()
    return node.leaf


def _walk(
    node: _Node, segments: tuple[str, ...], at: int, count: int, values: list[str]
) -> _Leaf | None:
    """The leaf below `node` for `segments[at:]`, its parameters appended to `values`.

    Each node of the trie is tried at most once for a path, so a hostile path costs no more
    than the table is large, and no deeper than its longest pattern.
    """
    if at == count:
        return node.leaf
    segment = segments[at]
    child = node.literals.get(segment)
    if child is not None:
        leaf = _walk(child, segments, at + 1, count, values)
        if leaf is not None:
            return leaf
    if not segment:
        return None
    for child in (
        node.number if node.number is not None and _INT.match(segment) else None,
        node.uuid if node.uuid is not None and _UUID.match(segment) else None,
        node.plain,
    ):
        if child is not None:
            values.append(segment)
            leaf = _walk(child, segments, at + 1, count, values)
            if leaf is not None:
                return leaf
            values.pop()
    if node.rest is not None:
        values.append("/".join(segments[at:]))
        return node.rest
    return None
