"""Routes: what a call must look like to be one of theirs, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from gateway.access.definitions import (
    DEFAULT_CHALLENGE,
    Challenge,
    Cors,
    DirectResponse,
    HeaderChanges,
    Limit,
    SecurityHeaders,
    Upstream,
)
from gateway.access.identity_headers import AUTHGATE, IdentityHeaders
from gateway.access.issuers import ResourceServer
from gateway.access.policies import ActionRules, Policy, ResourceField, Rule
from gateway.access.routing.body_fields import BodyFields, fields_named, parts_of
from gateway.access.routing.body_values import BodyValues, body_values
from gateway.access.routing.naming import NamingRules
from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.request_values import HeaderFields, QueryParameters
from gateway.access.routing.text_values import TextValues, text_values
from gateway.access.routing.wrapper_names import wrappers_of
from gateway.access.websocket_options import DEFAULT_WEBSOCKET_OPTIONS, WebSocketOptions
from gateway.model import (
    DEFAULT_ACCEPT,
    NOWHERE,
    OWN_ISSUERS,
    Call,
    CredentialKind,
    Reason,
    SourceLocation,
)

UNLIMITED_BODY = 2**63
"""The `max_body_bytes` of a route without one: no body is so long (RFC 9110 sets no bound)."""

WILDCARD = "*."
"""Begins a host that stands for every name of one label more."""

BELOW = "**"
"""What stands for everything below a prefix, where it is shown."""

INT_SEGMENT = re.compile(r"[0-9]+\Z", re.ASCII)
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
UUID_SEGMENT = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def wildcard_of(host: str) -> str:
    """The wildcard that takes this host, if a route names it: one label is not said."""
    return WILDCARD + host.partition(".")[2]


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


_TYPED = SegmentKind.INT, SegmentKind.UUID


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
            return INT_SEGMENT.match(segment) is not None
        if self.kind is SegmentKind.UUID:
            return UUID_SEGMENT.match(segment) is not None
        return bool(segment)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What becomes of the path before it is sent: whole segments, never text."""

    strip_segments: int = 0
    add_prefix: str = ""
    """Begins with `/`, does not end with it; empty adds nothing."""
    template: tuple[PatternSegment, ...] = ()
    """The whole path anew, each parameter encoded as one segment; empty: keep the path."""

    def literals(self, segments: tuple[PatternSegment, ...]) -> list[str]:
        """Those of the path that a backend sees, of a pattern of these segments."""
        if self.template:
            return _literals(self.template)
        return self.add_prefix.split("/") + _literals(segments[self.strip_segments :])


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    id: str
    hosts: tuple[str, ...]
    """Names in lower case, and `*.example.com`; empty is any host."""
    pattern: str
    """As it is shown; that of a prefix is `/app/**`."""
    segments: tuple[PatternSegment, ...]
    methods: tuple[str, ...] = ()
    """Upper case; empty is any method."""
    auth: Auth = Auth.REQUIRED
    accept: frozenset[CredentialKind] = DEFAULT_ACCEPT
    issuers: frozenset[str] = OWN_ISSUERS
    """The names of those whose tokens count here."""
    resource_server: ResourceServer | None = None
    challenge: Challenge = DEFAULT_CHALLENGE
    policy: Policy | None = None
    action: str = ""
    tenant: str | None = None
    """The parameter of the path that names the tenant for which a caller acts here; None: the
    tenant of the session."""
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
    takes_files: bool = False
    """`paths: files`: it takes calls that are `files_only`."""
    is_prefix: bool = False
    """It takes the path of `segments`, that with a slash behind it, and everything below."""
    redirect_slash: bool = False
    """Of a prefix: a call of its bare name is answered with where the slash is."""
    reads_body: bool = False
    """The policy reads the JSON body: `Call.body` must hold it."""
    explain_role: str | None = None
    """Who of the signed-in sees the explanation of a refusal (`errors: explain`)."""
    location: SourceLocation = NOWHERE
    identity: IdentityHeaders = AUTHGATE
    """How the upstream is told who calls."""
    other_identity: IdentityHeaders | None = field(init=False)
    """The same, where it is not by `X-Auth-*`."""
    claimed_headers: frozenset[bytes] = frozenset()
    """Fields that the configuration writes or removes, folded: a client's own never pass."""
    request: HeaderChanges | None = None
    """What becomes of the client's fields."""
    request_lines: bytes = field(init=False, repr=False)
    """The fields that `request: {set_headers: …}` adds, joined by CRLF."""
    response: HeaderChanges | None = None
    """What becomes of the fields of an upstream's answer."""
    direct_response: DirectResponse | None = None
    """Set where `upstream` is None."""
    websocket: WebSocketOptions = DEFAULT_WEBSOCKET_OPTIONS
    reevaluates: bool = False
    """A long-lived request is evaluated again where it would end because the caller's roles,
    the token or the configuration has changed (`on_change: reevaluate`)."""
    sign_in_page: bool = False
    """Whether a browser that may not pass for want of a session is led to the pages that give it
    one, and told by a page why it is refused (`sign_in: page`)."""
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
    has_last_limits: bool = field(init=False)
    """Whether there is any of these."""
    first_by_resource: bool = field(init=False)
    """Whether the key of one of the first limits is what the call is about."""
    action_rules: ActionRules | None = field(init=False)
    """The rules of the policy that cover the action."""
    policy_params: tuple[str, ...] = field(init=False)
    """The parameters of the path of which the verdict is made: by the rules, the resource, or as
    the tenant."""
    policy_reads_path: bool = field(init=False)
    may_take_long: bool = field(init=False)
    """Whether the policy reads a body, iterates, or hands over much of `data`."""
    reads_call: bool = field(init=False)
    """Whether a resource is made of more than the path: what could be read in two ways, so that a
    call is looked at though its verdict is known."""
    param_names: tuple[str, ...] = field(init=False)
    typed_params: tuple[tuple[str, SegmentKind], ...] = field(init=False)
    """Those that are a number or a UUID, of which there are several spellings."""
    query_names: frozenset[str] = field(init=False)
    """Parameters, headers and fields of the body that the resource is made of."""
    header_names: frozenset[str] = field(init=False)
    body_names: frozenset[str] = field(init=False)
    body_fields: BodyFields = field(init=False)
    body_values: BodyValues | None = field(init=False)
    text_values: TextValues | None = field(init=False)
    resource_query: QueryParameters | None = field(init=False)
    """What the resource is made of, read; None where it is made of none."""
    resource_headers: HeaderFields | None = field(init=False)
    policy_query: QueryParameters | None = field(init=False)
    """What the rules and the resource read together."""
    policy_headers: HeaderFields | None = field(init=False)
    wrappers: frozenset[str] = field(init=False)
    """The names of objects in a body that a backend may take for the whole of it, folded."""
    beside_path: QueryParameters | None = field(init=False)
    """By which a backend may take something else for what is read of the path: Spring
    (`@ModelAttribute`) takes a parameter of the query over it, and Laravel (`$request->x`)."""
    beside_body: QueryParameters | None = field(init=False)
    """By which a backend may take something else for what is read of the body: Rails takes a
    parameter of the query over it, Laravel where the body has none."""

    def __post_init__(self) -> None:
        names = tuple(s.text for s in self.segments if s.kind is not SegmentKind.LITERAL)
        object.__setattr__(self, "param_names", names)
        typed = [(s.text, s.kind) for s in self.segments if s.kind in _TYPED]
        object.__setattr__(self, "typed_params", tuple(typed))
        other = None if self.identity is AUTHGATE else self.identity
        object.__setattr__(self, "other_identity", other)
        lines = b"" if self.request is None else self.request.lines
        object.__setattr__(self, "request_lines", lines)
        changed = self.rewrite or self.claimed_headers or self.request_lines
        upstream = self.upstream
        plain = upstream is not None and upstream.host is None and not upstream.assertion_audience
        plain = plain and not (changed or self.forward_authorization or self.reevaluates)
        plain = plain and not self.redirect_slash and other is None
        object.__setattr__(self, "plain", plain)
        action_rules = None if self.policy is None else self.policy.rules_for(self.action)
        object.__setattr__(self, "action_rules", action_rules)
        told = {name for one in self.resource for name in one.template.names("params")}
        told |= frozenset() if action_rules is None else action_rules.param_names
        told |= set() if self.tenant is None else {self.tenant}
        object.__setattr__(self, "policy_params", tuple(sorted(told)))
        reads_path = action_rules is not None and action_rules.reads_path
        object.__setattr__(self, "policy_reads_path", reads_path)
        long = action_rules is not None and action_rules.may_take_long
        object.__setattr__(self, "may_take_long", self.reads_body or long)
        last = tuple(one for one in self.limits if action_rules is not None and one.by_resource)
        object.__setattr__(self, "last_limits", last)
        object.__setattr__(self, "first_limits", tuple(o for o in self.limits if o not in last))
        of_rules = {
            rule: last + tuple(limit.for_route(self.id) for limit in rule.limits)
            for rule in (action_rules.allows if action_rules is not None else ())
            if rule.limits
        }
        object.__setattr__(self, "limits_of_rules", of_rules)
        object.__setattr__(self, "has_last_limits", bool(last or of_rules))
        reads_resource = any(one.by_resource for one in self.first_limits)
        object.__setattr__(self, "first_by_resource", reads_resource)
        for source, attribute in (
            ("query", "query_names"), ("headers", "header_names"), ("body", "body_names"),
        ):  # fmt: skip
            read = (name for f in self.resource for name in f.template.names(source))
            object.__setattr__(self, attribute, frozenset(read))
        object.__setattr__(self, "body_fields", fields_named(self.body_names))
        rules = NamingRules(self.policy, action_rules)
        values = body_values(self.resource, self.limits, rules)
        object.__setattr__(self, "body_values", values)
        object.__setattr__(self, "text_values", text_values(self.resource, rules))
        query, headers = self.query_names, self.header_names
        object.__setattr__(self, "resource_query", QueryParameters(query) if query else None)
        object.__setattr__(self, "resource_headers", HeaderFields(headers) if headers else None)
        if action_rules is not None:
            query, headers = query | action_rules.query_names, headers | action_rules.header_names
        object.__setattr__(self, "policy_query", QueryParameters(query) if query else None)
        object.__setattr__(self, "policy_headers", HeaderFields(headers) if headers else None)
        beside = parts_of(self.body_names) - query
        of_body = QueryParameters(beside, apart=query, wrapped=True) if beside else None
        object.__setattr__(self, "beside_body", of_body)
        kind = [one.template.text for one in self.resource if one.name == "type"]
        wrappers = wrappers_of(_literals(self.segments), *kind)
        if self.rewrite is not None:
            wrappers |= wrappers_of(self.rewrite.literals(self.segments))
        object.__setattr__(self, "wrappers", wrappers)
        of_path = self._counted_params(action_rules) - query
        beside_path = QueryParameters(of_path, apart=query) if of_path else None
        object.__setattr__(self, "beside_path", beside_path)
        reads_call = bool(self.query_names or self.header_names or self.body_names)
        object.__setattr__(self, "reads_call", reads_call)

    def _counted_params(self, action_rules: ActionRules | None) -> frozenset[str]:
        """The parameters of the path by which something is decided: who the caller is there, the
        verdict, or a limit."""
        rules = () if action_rules is None else action_rules.allows
        limits = [*self.limits, *(limit for rule in rules for limit in rule.limits)]
        keys = [limit.expression.reads for limit in limits if limit.expression is not None]
        names = set() if self.tenant is None else {self.tenant}
        names |= {name for reads in keys for name in reads.params}
        judges = action_rules is not None and action_rules.by_roles is None
        if judges or any("resource" in reads.roots for reads in keys):
            names |= {name for one in self.resource for name in one.template.names("params")}
        if action_rules is not None:
            names |= action_rules.param_names
        if self.policy_reads_path:
            names |= set(self.param_names)
        # A policy that several routes have may look whether there is one.
        return frozenset(names & set(self.param_names))

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

    def takes_host(self, host: str) -> bool:
        return not self.hosts or host in self.hosts or wildcard_of(host) in self.hosts

    def patterns(self) -> tuple[tuple[PatternSegment, ...], ...]:
        """The path patterns that together take what the route takes: of a prefix its bare
        name (of `/` there is none), that with a slash, and what is below it."""
        if not self.is_prefix:
            return (self.segments,)
        name = self.segments
        slash = (*name, PatternSegment(SegmentKind.LITERAL, ""))
        below = (*name, PatternSegment(SegmentKind.REST, BELOW))
        return (name, slash, below) if name else (slash, below)

    def texts(self) -> tuple[str, ...]:
        """The literal segments of its pattern, and something in the place of the others."""
        texts = [s.text if s.kind is SegmentKind.LITERAL else "*" for s in self.segments]
        return tuple(texts) if any(texts) else ("*",)  # `/` has no other spelling

    def takes_below(self, path: Sequence[str]) -> bool:
        """Whether it takes this path as one of all below a shorter one."""
        if self.is_prefix:
            return len(self.segments) < len(path)
        return bool(self.segments) and self.segments[-1].kind is SegmentKind.REST

    def slash_target(self, call: Call) -> str | None:
        """Where a call of the bare name is led: the same with a slash, on the same origin
        (RFC 9110 section 10.2.2).  None for every other call, and without `redirect_slash`.

        A path never begins with `//`, which a browser would take for another host.
        """
        if not self.redirect_slash or len(call.segments) != len(self.segments):
            return None
        target = f"{call.path}/?{call.query}" if call.query else f"{call.path}/"
        return quote(target.encode("latin-1"), safe=_PRINTABLE)

    def upstream_target(self, call: Call, params: Mapping[str, str]) -> str | Reason:
        """The request target for the upstream: path and query.

        Without a rewrite these are the client's own bytes.  A rewritten path is held to the
        rules of any other: AMBIGUOUS_PATH when it could be read in two ways.
        """
        path = call.path
        if self.rewrite is not None:
            path = self._rewritten(self.rewrite, path, params)
            read = canonical(path, files=self.takes_files)
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
                    parts.append(encoded(params[part.text], between="/"))
                else:
                    parts.append(encoded(params[part.text]))
            return "/" + "/".join(parts)
        # A raw segment holds no raw slash, so the raw pieces are the decoded segments.
        kept = path[1:].split("/", rewrite.strip_segments)[rewrite.strip_segments :]
        rest = "/" + kept[0] if kept else ""
        return (rewrite.add_prefix + rest) or "/"


def _literals(segments: tuple[PatternSegment, ...]) -> list[str]:
    return [segment.text for segment in segments if segment.kind is SegmentKind.LITERAL]
