"""The routes of `routes.yaml` read, and bound to what they name."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from gateway.access.paths import canonical, encoded
from gateway.access.patterns import own_path, read_pattern
from gateway.access.policies import Policy, ResourceField
from gateway.access.reading import Node, Problem, Reader
from gateway.access.roles import is_action
from gateway.access.route_checks import Needs
from gateway.access.routes import (
    Auth,
    Kind,
    PatternSegment,
    Rewrite,
    Route,
    RouteTable,
)
from gateway.access.suggestions import suggestion
from gateway.access.templates import Template, read_template
from gateway.access.upstream_reading import NAME, TOKEN, read_security_headers
from gateway.access.upstreams import (
    STANDARD_SECURITY_HEADERS,
    Cors,
    Limit,
    LimitKey,
    SecurityHeaders,
    Upstream,
)
from gateway.model import CredentialKind, Reason

MATCH_KEYS = ("host", "path", "methods", "except_own")
DEFAULT_KEYS = (
    "auth", "accept", "policy", "upstream", "limits", "cors", "max_body", "security_headers",
    "errors",
)  # fmt: skip
ROUTE_KEYS = (
    "id", "description", "match", "auth", "accept", "policy", "action", "resource", "upstream",
    "rewrite", "max_body", "limits", "cors", "security_headers", "forward_authorization",
    "allow_encoded_slash", "errors",
)  # fmt: skip
RESOURCE_SOURCES = ("query", "headers", "body")

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*\Z")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ROLE = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
_DEFAULT_BODY = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Names:
    """What routes may name."""

    upstreams: Mapping[str, Upstream]
    limits: Mapping[str, Limit]
    cors: Mapping[str, Cors]
    policies: Mapping[str, Policy]


@dataclass(slots=True)
class Defaults:
    """What a route has that does not say otherwise."""

    auth: Auth = Auth.REQUIRED
    accept: frozenset[CredentialKind] = frozenset(CredentialKind)
    policy: str | None = None
    upstream: Upstream | None = None
    limits: tuple[Limit, ...] = ()
    cors: Cors | None = None
    max_body_bytes: int = _DEFAULT_BODY
    security_headers: SecurityHeaders | None = field(default=STANDARD_SECURITY_HEADERS)
    explain_role: str | None = None


class RouteReader:
    def __init__(self, reader: Reader, names: Names, problems: list[Problem]) -> None:
        self._reader = reader
        self._names = names
        self._problems = problems
        self._defaults = Defaults()
        self._needs = Needs()

    def defaults(self, node: Node | None) -> None:
        fields = self._reader.block(node, "`defaults`", DEFAULT_KEYS)
        base = self._defaults
        base.auth = self._auth(fields)
        base.accept = self._accept(fields)
        base.policy = self._reader.text(fields.get("policy"), "`policy`")
        if base.policy is not None:
            self._policy_named(base.policy, fields["policy"])
        base.upstream = self._upstream(fields)
        base.limits = self._limits(fields)
        base.cors = self._cors(fields)
        base.max_body_bytes = self._max_body(fields)
        base.security_headers = self._security_headers(fields)
        base.explain_role = self._explain_role(fields)

    def routes(self, node: Node | None) -> RouteTable:
        table = RouteTable()
        ids: dict[str, Route] = {}
        for item in self._reader.consumed(node, "`routes`"):
            route = self._route(item)
            if route is None:
                continue
            if route.id in ids:
                self._reader.wrong(
                    item, f"route `{route.id}` stands on line {ids[route.id].place.line} already"
                )
                continue
            ids[route.id] = route
            rival = table.insert(route)
            if rival is not None:
                self._reader.wrong(
                    item,
                    f"`{route.pattern}` can match the same request as route `{rival.id}` "
                    f"({rival.place}): tell them apart by host, path or methods",
                )
        self._needs.check(self._reader, self._problems)
        return table

    def _route(self, node: Node) -> Route | None:
        reader, base = self._reader, self._defaults
        before = len(self._problems)
        fields = reader.block(node, "a route", ROUTE_KEYS)
        route_id = reader.text(fields.get("id"), "`id`")
        if fields and "id" not in fields:
            reader.wrong(node, "the route has no `id`")
        elif route_id is not None and not NAME.match(route_id):
            reader.wrong(fields["id"], "an `id` is letters, digits and any of ._-")
        if fields and "match" not in fields:
            reader.wrong(node, 'the route has no `match: {path: "/…"}`')
        match = reader.block(fields.get("match"), "`match`", MATCH_KEYS)
        segments = self._pattern(fields.get("match"), match)
        methods = self._methods(match.get("methods"))
        auth = self._auth(fields) if "auth" in fields else base.auth
        slash = reader.flag(fields.get("allow_encoded_slash"), "`allow_encoded_slash`", False)
        action = self._action(fields.get("action"))
        resource = self._resource(fields.get("resource"), segments)
        policy = self._policy(node, fields, auth)
        upstream = self._upstream(fields) if "upstream" in fields else base.upstream
        if upstream is None and "upstream" not in fields and fields:
            reader.wrong(node, "the route has no `upstream:`")
        rewrite = self._rewrite(fields.get("rewrite"), segments, slash)
        host = self._host(match.get("host"))
        limits = self._limits(fields) if "limits" in fields else base.limits
        if policy is not None:
            self._needs.note(node, policy, action, resource, segments)
        if len(self._problems) > before or not segments or route_id is None:
            return None
        return Route(
            route_id,
            host,
            reader.text(match.get("path"), "`path`") or "",
            segments,
            methods,
            auth,
            self._accept(fields) if "accept" in fields else base.accept,
            policy,
            action,
            resource,
            upstream,
            rewrite,
            self._max_body(fields) if "max_body" in fields else base.max_body_bytes,
            tuple(_for_route(limit, route_id) for limit in limits),
            self._cors(fields) if "cors" in fields else base.cors,
            self._security_headers(fields)
            if "security_headers" in fields
            else base.security_headers,
            reader.flag(fields.get("forward_authorization"), "`forward_authorization`", False),
            slash,
            any(one.template.names("body") for one in resource),
            self._explain_role(fields) if "errors" in fields else base.explain_role,
            reader.place(node),
        )

    # What is matched

    def _pattern(self, node: Node | None, match: Mapping[str, Node]) -> tuple[PatternSegment, ...]:
        reader = self._reader
        where = match.get("path")
        if where is None:
            if node is not None:
                reader.wrong(node, '`match` has no `path: "/…"`')
            return ()
        text = reader.text(where, "`path`")
        if text is None:
            return ()
        made = read_pattern(text)
        if isinstance(made, str):
            reader.wrong(where, made)
            return ()
        own = reader.flag(match.get("except_own"), "`except_own`", False)
        taken = own_path(made)
        literal = made[0].kind is Kind.LITERAL
        if taken is not None and (literal or not own):
            hint = "choose another path"
            if not literal:
                hint = (
                    "begin it with a literal segment, or write `except_own: true` in `match` "
                    "for a route that takes everything but the gateway's own paths"
                )
            reader.wrong(
                where, f"`{text}` would match {taken}, which the gateway answers itself: {hint}"
            )
        return made

    def _methods(self, node: Node | None) -> tuple[str, ...]:
        found: list[str] = []
        for text, item in self._reader.texts(node, "`methods`") or []:
            if not TOKEN.match(text):
                self._reader.wrong(item, f"`{text}` is no method")
            elif text in ("CONNECT", "TRACE"):
                self._reader.wrong(item, f"the gateway refuses {text} on every route")
            elif text != text.upper():
                self._reader.wrong(item, f"methods are upper case: `{text.upper()}`")
            else:
                found.append(text)
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._reader.wrong(node, "`methods` is empty: leave it out to take any method")
        return tuple(dict.fromkeys(found))

    def _host(self, node: Node | None) -> str | None:
        text = self._reader.text(node, "`host`")
        if text is None or node is None:
            return None
        host = text.lower().removesuffix(".")
        if host.startswith("[") and host.endswith("]"):
            literal = _ipv6(host[1:-1])
            if literal is not None:
                return f"[{literal}]"
        if _HOST.match(host) and len(host) <= 253:
            return host
        hint = "a host name without port"
        if not text.isascii():
            hint = "write its ASCII form (`xn--…`)"
        elif "*" in text:
            hint = "leave `host` out to match every host"
        elif re.search(r":[0-9]+\Z", text):
            hint = "leave the port out: routes match a host on every port"
        self._reader.wrong(node, f"`{text}` is no host: {hint}")
        return None

    # Who may

    def _auth(self, fields: Mapping[str, Node]) -> Auth:
        text = self._reader.choice(fields.get("auth"), "`auth`", tuple(Auth))
        return Auth(text) if text is not None else Auth.REQUIRED

    def _accept(self, fields: Mapping[str, Node]) -> frozenset[CredentialKind]:
        node = fields.get("accept")
        if node is None:
            return frozenset(CredentialKind)
        known = tuple(CredentialKind)
        found: set[CredentialKind] = set()
        for text, item in self._reader.texts(node, "`accept`") or []:
            if text in known:
                found.add(CredentialKind(text))
            else:
                hint = suggestion(text, known)
                self._reader.wrong(item, f"`accept` cannot hold `{text}`{hint}")
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._reader.wrong(node, "`accept` is empty: nobody could call; use `auth: public`?")
        return frozenset(found)

    def _policy(self, node: Node, fields: Mapping[str, Node], auth: Auth) -> Policy | None:
        named = self._reader.text(fields.get("policy"), "`policy`")
        if auth is Auth.PUBLIC:
            for key in ("policy", "action"):
                if key in fields:
                    self._reader.wrong(
                        self._reader.name_of(fields[key]),
                        f"`auth: public` judges nobody: leave `{key}` out, or say `auth: optional`",
                    )
            return None
        if named is None and "policy" not in fields and auth is Auth.REQUIRED:
            named = self._defaults.policy
            if named is None and fields:
                self._reader.wrong(
                    node,
                    "`auth: required` needs a policy: `policy: signed-in` lets every "
                    "signed-in caller through",
                )
        if named is None:
            return None
        return self._policy_named(named, fields.get("policy"))

    def _policy_named(self, name: str, node: Node | None) -> Policy | None:
        policy = self._names.policies.get(name)
        if policy is None and node is not None:
            hint = suggestion(name, self._names.policies)
            self._reader.wrong(node, f"unknown policy `{name}`{hint}")
        return policy

    def _action(self, node: Node | None) -> str:
        text = self._reader.text(node, "`action`")
        if text is None or node is None:
            return ""
        if not is_action(text):
            self._reader.wrong(
                node, f"`{text}` is no action: words joined by `:`, such as `orders:read`"
            )
        return text

    def _resource(
        self, node: Node | None, segments: tuple[PatternSegment, ...]
    ) -> tuple[ResourceField, ...]:
        reader = self._reader
        params = [s.text for s in segments if s.kind is not Kind.LITERAL]
        found: list[ResourceField] = []
        for name, value in reader.entries(node, "`resource`").items():
            if not _FIELD.match(name):
                reader.wrong(
                    reader.name_of(value), f"`resource.{name}` cannot be written: letters and _"
                )
            text = reader.text(value, f"`{name}`")
            made = read_template(text, RESOURCE_SOURCES) if text is not None else None
            if isinstance(made, str):
                reader.wrong(value, made)
            if not isinstance(made, Template):
                continue
            for wanted in made.names("params"):
                if wanted not in params:
                    reader.wrong(
                        value, f"the path has no `{{{wanted}}}`{suggestion(wanted, params)}"
                    )
            for header in made.names("headers"):
                if header != header.lower() or header.startswith(("x-auth-", "x-forwarded-")):
                    reader.wrong(
                        value, "a header is named in lower case, and is not one of the gateway's"
                    )
            found.append(ResourceField(name, made))
        return tuple(found)

    # Where to, and how

    def _upstream(self, fields: Mapping[str, Node]) -> Upstream | None:
        name = self._reader.text(fields.get("upstream"), "`upstream`")
        if name is None:
            return None
        found = self._names.upstreams.get(name)
        if found is None:
            hint = suggestion(name, self._names.upstreams)
            self._reader.wrong(fields["upstream"], f"unknown upstream `{name}`{hint}")
        return found

    def _rewrite(
        self, node: Node | None, segments: tuple[PatternSegment, ...], slash: bool
    ) -> Rewrite | None:
        if node is None:
            return None
        reader = self._reader
        fields = reader.block(node, "`rewrite`", ("strip_prefix", "add_prefix", "path"))
        if "path" in fields:
            if len(fields) > 1:
                reader.wrong(node, "`rewrite` has either `path` or prefixes")
            return self._rewrite_path(fields["path"], segments, slash)
        strip = self._prefix(fields, "strip_prefix")
        add = self._prefix(fields, "add_prefix")
        if not fields:
            reader.wrong(node, "`rewrite` has `strip_prefix:`, `add_prefix:` or `path:`")
        begins = [s.text if s.kind is Kind.LITERAL else None for s in segments[: len(strip)]]
        if segments and list(strip) != begins:
            reader.wrong(
                fields["strip_prefix"],
                "the route's path does not begin with this prefix: nothing could be stripped",
            )
        text = "".join("/" + encoded(segment) for segment in add)
        return Rewrite(len(strip), text)

    def _prefix(self, fields: Mapping[str, Node], key: str) -> tuple[str, ...]:
        text = self._reader.text(fields.get(key), f"`{key}`")
        if text is None:
            return ()
        read = canonical(text)
        if isinstance(read, Reason) or read.segments[-1] == "" or read.encoded_slash:
            self._reader.wrong(
                fields[key], f"`{key}` is a path such as `/v1`: a `/` first, none at the end"
            )
            return ()
        return read.segments

    def _rewrite_path(
        self, node: Node, segments: tuple[PatternSegment, ...], slash: bool
    ) -> Rewrite | None:
        text = self._reader.text(node, "`path`")
        if text is None:
            return None
        made = read_pattern(text)
        if isinstance(made, str):
            self._reader.wrong(node, made)
            return None
        kinds = {s.text: s.kind for s in segments if s.kind is not Kind.LITERAL}
        template: list[PatternSegment] = []
        for segment in made:
            if segment.kind is Kind.LITERAL:
                template.append(segment)
            elif segment.text in kinds:
                template.append(PatternSegment(kinds[segment.text], segment.text))
            else:
                hint = suggestion(segment.text, kinds)
                self._reader.wrong(node, f"the path has no `{{{segment.text}}}`{hint}")
        if slash and any(kind is Kind.REST for kind in kinds.values()):
            self._reader.wrong(
                node, "with `allow_encoded_slash` the rest of a path cannot be rebuilt: "
                "use `strip_prefix` and `add_prefix`"
            )  # fmt: skip
        return Rewrite(template=tuple(template))

    def _limits(self, fields: Mapping[str, Node]) -> tuple[Limit, ...]:
        found: list[Limit] = []
        for name, item in self._reader.texts(fields.get("limits"), "`limits`") or []:
            limit = self._names.limits.get(name)
            if limit is None:
                hint = suggestion(name, self._names.limits)
                self._reader.wrong(item, f"unknown limit `{name}`{hint}")
            elif limit not in found:
                found.append(limit)
        return tuple(found)

    def _cors(self, fields: Mapping[str, Node]) -> Cors | None:
        name = self._reader.text(fields.get("cors"), "`cors`")
        return cors_named(self._reader, name, fields.get("cors"), self._names.cors)

    def _max_body(self, fields: Mapping[str, Node]) -> int:
        found = self._reader.size_bytes(fields.get("max_body"), "`max_body`")
        return _DEFAULT_BODY if found is None else found

    def _security_headers(self, fields: Mapping[str, Node]) -> SecurityHeaders | None:
        return read_security_headers(self._reader, fields.get("security_headers"))

    def _explain_role(self, fields: Mapping[str, Node]) -> str | None:
        """`errors: explain` is for `admin`; `errors: {explain: ROLE}` names another role."""
        node = fields.get("errors")
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            text = self._reader.choice(node, "`errors`", ("plain", "explain"))
            return "admin" if text == "explain" else None
        block = self._reader.block(node, "`errors`", ("explain",))
        role = self._reader.text(block.get("explain"), "`explain`")
        if role is not None and not _ROLE.match(role):
            self._reader.wrong(block["explain"], f"`{role}` is no role")
        return role


def cors_named(
    reader: Reader, name: str | None, node: Node | None, known: Mapping[str, Cors]
) -> Cors | None:
    if name is None or node is None or name == "off":
        return None
    if name not in known:
        reader.wrong(node, f"unknown cors `{name}`{suggestion(name, known)}")
    return known.get(name)


def _ipv6(text: str) -> str | None:
    """The shortest spelling (RFC 5952), as calls have it; None for what is no address."""
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _for_route(limit: Limit, route_id: str) -> Limit:
    if limit.key is not LimitKey.ROUTE:
        return limit
    return dataclasses.replace(limit, route_id=route_id)
