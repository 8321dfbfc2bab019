"""The routes of `routes.yaml` read, and bound to what they name."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.definitions import (
    Cors,
    HeaderChanges,
    Limit,
    SecurityHeaders,
    Upstream,
)
from gateway.access.identity_headers import AUTHGATE, IdentityHeaders
from gateway.access.issuers import ResourceServer
from gateway.access.policies import Policy
from gateway.access.roles import is_action
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import UNLIMITED_BODY, Auth, Route
from gateway.access.suggestions import suggestion
from gateway.config.attributes import read_route_tenant
from gateway.config.credentials import (
    accept_of_issuers,
    check_accept_of_issuers,
    check_challenge,
    read_accept,
    read_challenge,
    read_sign_in,
    signs_in,
)
from gateway.config.direct_responses import read_direct_response
from gateway.config.headers import (
    FieldSources,
    check_written_once,
    read_kept_headers,
    read_request_changes,
    read_response_changes,
    without_written,
)
from gateway.config.hosts import read_hosts
from gateway.config.identity_headers import IdentityReader
from gateway.config.issuers import read_taken_issuers
from gateway.config.matching import (
    MetadataChecks,
    RoutePath,
    check_reserved,
    read_methods,
    read_path,
    read_resource,
    read_rewrite,
)
from gateway.config.resource_server import read_resource_server, resource_of_route
from gateway.config.route_checks import Needs, check_limits
from gateway.config.route_options import (
    DEFAULT_BODY_BYTES,
    Names,
    RouteOptions,
    cors_named,
    read_explain_role,
)
from gateway.config.taken_headers import TakenHeaders, check_taken
from gateway.config.upstreams import NAME, read_security_headers
from gateway.config.websocket import read_websocket_options
from gateway.config.written_names import WrittenNames
from gateway.config.yaml_reader import Node, Reader

MATCH_KEYS = ("host", "hosts", "path", "prefix", "methods", "except_reserved")
DEFAULT_KEYS = (
    "auth", "accept", "challenge", "realm", "policy", "upstream", "limits", "cors", "max_body",
    "security_headers", "errors", "request", "response", "websocket", "on_change", "keep_headers",
    "identity_headers", "issuers", "resource_server", "sign_in",
)  # fmt: skip
ROUTE_KEYS = (
    "id", "description", "match", "auth", "accept", "challenge", "realm", "policy", "action",
    "resource", "upstream", "rewrite", "max_body", "limits", "cors", "security_headers",
    "forward_authorization", "allow_encoded_slash", "errors", "request", "response",
    "direct_response", "redirect", "websocket", "on_change", "keep_headers",
    "redirect_slash", "paths", "identity_headers", "issuers", "resource_server", "sign_in",
    "tenant",
)  # fmt: skip


class RouteReader:
    def __init__(
        self,
        reader: Reader,
        names: Names,
        own_paths: OwnPaths,
        written: WrittenNames,
        identity: IdentityReader,
    ) -> None:
        self._reader = reader
        self._own_paths = own_paths
        self._names = names
        self._written = written
        self._identity = identity
        self._defaults = RouteOptions()
        self._default_policy: str | None = None
        self._needs = Needs()
        self._metadata = MetadataChecks(reader)
        # One object for all routes that say the same.
        self._security: dict[tuple[SecurityHeaders, HeaderChanges | None], SecurityHeaders] = {}

    def defaults(self, node: Node | None) -> None:
        fields = self._reader.block(node, "`defaults`", DEFAULT_KEYS)
        self._default_policy = self._reader.text(fields.get("policy"), "`policy`")
        if self._default_policy is not None:
            self._policy_named(self._default_policy, fields["policy"])
        self._defaults = self._options(fields, self._defaults)

    @property
    def default_sign_in_page(self) -> bool:
        return self._defaults.sign_in_page

    def routes(self, node: Node | None) -> RouteTable:
        table = RouteTable(own_paths=self._own_paths)
        ids: dict[str, Route] = {}
        for item in self._reader.consumed(node, "`routes`"):
            route = self._route(item)
            if route is None:
                continue
            if route.id in ids:
                self._reader.error(
                    item, f"route `{route.id}` stands on line {ids[route.id].location.line} already"
                )
                continue
            ids[route.id] = route
            rival = table.insert(route)
            if rival is not None:
                self._reader.error(
                    item,
                    f"`{route.pattern}` can match the same request as route `{rival.id}` "
                    f"({rival.location}): tell them apart by host, path or methods",
                )
        self._needs.check(self._reader)
        self._metadata.check(table)
        return table

    def _route(self, node: Node) -> Route | None:
        reader = self._reader
        before = len(reader.problems)
        fields = reader.block(node, "a route", ROUTE_KEYS)
        route_id = self._route_id(node, fields)
        match = reader.block(fields.get("match"), "`match`", MATCH_KEYS)
        slash = reader.flag(fields.get("allow_encoded_slash"), "`allow_encoded_slash`", False)
        path = read_path(reader, fields, match, slash)
        segments = path.segments
        methods = read_methods(reader, match.get("methods"))
        hosts = read_hosts(self._reader, match)
        if check_reserved(reader, match, path, hosts, self._own_paths):
            self._metadata.note(match, path, hosts)
        rewrite = read_rewrite(reader, fields.get("rewrite"), path, slash)
        options = self._options(fields, self._defaults)
        action = self._action(fields.get("action"))
        resource = read_resource(reader, fields.get("resource"), segments)
        tenant = read_route_tenant(reader, fields.get("tenant"), segments)
        accept = options.accept
        if options.auth is not Auth.PUBLIC:
            accept = accept_of_issuers(reader, node, accept, options.issuers)
            asked_at = fields.get("challenge", node)
            check_challenge(reader, asked_at, options.challenge, accept)
        sign_in_page = signs_in(reader, fields, options, accept)
        policy = self._policy(node, fields, options.auth)
        resource_server = self._resource_server(node, options, path)
        rules = policy.rules_for(action).rules if policy is not None else ()
        if policy is not None:
            self._needs.note(node, policy, action, resource, segments)
        limits = (*options.limits, *(limit for rule in rules for limit in rule.limits))
        check_limits(reader, node, limits, resource, segments)
        request, response, upstream = options.request, options.response, options.upstream
        claimed = self._written.taken(options.kept_headers, request)
        taken = TakenHeaders(self._written, options.kept_headers, request)
        check_taken(reader, node, rules, resource, taken)
        identity = self._identity_of(options, upstream)
        known = None if options.auth is Auth.PUBLIC else identity
        forward = reader.flag(fields.get("forward_authorization"), "`forward_authorization`", False)
        sources = FieldSources(request, known, policy, forward)
        check_written_once(reader, fields.get("request", node), sources)
        direct_response = read_direct_response(reader, fields)
        if direct_response is not None:
            request, response, upstream = None, HeaderChanges(direct_response.fields), None
        elif upstream is None and "upstream" not in fields and fields:
            reader.error(node, "the route has no `upstream:`, `direct_response:` or `redirect:`")
        if len(reader.problems) > before or not path.shown or route_id is None:
            return None
        return Route(
            id=route_id,
            hosts=hosts,
            pattern=path.shown,
            segments=segments,
            methods=methods,
            auth=options.auth,
            accept=accept,
            issuers=options.issuers,
            resource_server=resource_server,
            challenge=options.challenge,
            policy=policy,
            action=action,
            tenant=tenant,
            resource=resource,
            upstream=upstream,
            rewrite=rewrite,
            max_body_bytes=options.max_body_bytes,
            limits=tuple(limit.for_route(route_id) for limit in options.limits),
            cors=options.cors,
            security_headers=self._without_written(options.security_headers, response),
            forward_authorization=forward,
            allow_encoded_slash=slash,
            takes_files=path.takes_files,
            is_prefix=path.is_prefix,
            redirect_slash=path.redirect_slash,
            reads_body=any(one.template.names("body") for one in resource),
            explain_role=options.explain_role,
            location=reader.location(node),
            identity=identity,
            claimed_headers=claimed,
            request=request,
            response=response if direct_response is None else None,
            direct_response=direct_response,
            websocket=options.websocket,
            reevaluates=options.reevaluates,
            kept_headers=options.kept_headers,
            sign_in_page=sign_in_page,
        )

    def _route_id(self, node: Node, fields: Mapping[str, Node]) -> str | None:
        route_id = self._reader.text(fields.get("id"), "`id`")
        if fields and "id" not in fields:
            self._reader.error(node, "the route has no `id`")
        elif route_id is not None and not NAME.match(route_id):
            self._reader.error(fields["id"], "an `id` is letters, digits and any of ._-")
        if fields and "match" not in fields:
            self._reader.error(node, 'the route has no `match: {path: "/…"}` or `{prefix: /…}`')
        return route_id

    def _options(self, fields: Mapping[str, Node], base: RouteOptions) -> RouteOptions:
        """`base` with what the block says otherwise, key by key."""
        reader = self._reader
        request = base.request
        if "request" in fields:
            request = read_request_changes(reader, fields, self._names.secrets)
        kept = base.kept_headers
        if "keep_headers" in fields:
            kept = read_kept_headers(reader, fields["keep_headers"], request, self._written.routes)
        issuers = base.issuers
        if "issuers" in fields:
            issuers = read_taken_issuers(reader, fields["issuers"], self._names.issuers)
        check_accept_of_issuers(reader, fields.get("accept"), issuers)
        return RouteOptions(
            auth=self._auth(fields) if "auth" in fields else base.auth,
            accept=read_accept(reader, fields["accept"]) if "accept" in fields else base.accept,
            challenge=read_challenge(reader, fields, base.challenge),
            upstream=self._upstream(fields) if "upstream" in fields else base.upstream,
            limits=self._limits(fields) if "limits" in fields else base.limits,
            cors=self._cors(fields) if "cors" in fields else base.cors,
            max_body_bytes=self._max_body(fields) if "max_body" in fields else base.max_body_bytes,
            security_headers=read_security_headers(reader, fields["security_headers"])
            if "security_headers" in fields
            else base.security_headers,
            explain_role=read_explain_role(reader, fields["errors"])
            if "errors" in fields
            else base.explain_role,
            request=request,
            response=read_response_changes(reader, fields)
            if "response" in fields
            else base.response,
            websocket=read_websocket_options(reader, fields.get("websocket"), base.websocket),
            reevaluates=self._reevaluates(fields) if "on_change" in fields else base.reevaluates,
            kept_headers=kept,
            identity=self._identity.read(fields.get("identity_headers")),
            issuers=issuers,
            resource_server=read_resource_server(reader, fields["resource_server"])
            if "resource_server" in fields
            else base.resource_server,
            sign_in_page=read_sign_in(reader, fields, base.sign_in_page),
        )

    # Who may

    def _auth(self, fields: Mapping[str, Node]) -> Auth:
        text = self._reader.choice(fields.get("auth"), "`auth`", tuple(Auth))
        return Auth(text) if text is not None else Auth.REQUIRED

    def _policy(self, node: Node, fields: Mapping[str, Node], auth: Auth) -> Policy | None:
        named = self._reader.text(fields.get("policy"), "`policy`")
        if auth is Auth.PUBLIC:
            for key in ("policy", "action", "issuers", "resource_server"):
                off = key == "resource_server" and getattr(fields.get(key), "value", "") == "off"
                if key in fields and not off:
                    self._reader.error(
                        self._reader.name_of(fields[key]),
                        f"`auth: public` judges nobody: leave `{key}` out, or say `auth: optional`",
                    )
            return None
        if named is None and "policy" not in fields and auth is Auth.REQUIRED:
            named = self._default_policy
            # A word that is no `auth` is reported already: it may have meant `public`.
            known = getattr(fields.get("auth"), "value", Auth.REQUIRED) in tuple(Auth)
            if named is None and fields and known:
                self._reader.error(
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
            self._reader.error(node, f"unknown policy `{name}`{hint}")
        return policy

    def _action(self, node: Node | None) -> str:
        text = self._reader.text(node, "`action`")
        if text is None or node is None:
            return ""
        if not is_action(text):
            self._reader.error(
                node, f"`{text}` is no action: words joined by `:`, such as `orders:read`"
            )
        return text

    def _resource_server(
        self, node: Node, options: RouteOptions, path: RoutePath
    ) -> ResourceServer | None:
        written = options.resource_server
        if options.auth is Auth.PUBLIC or written is None or not path.shown:
            return None
        # In the order of their block: a client that asks one server asks the first.
        known = self._names.issuers.values()
        issuers = [issuer for issuer in known if issuer.name in options.issuers]
        return resource_of_route(self._reader, node, written, path, issuers)

    # Where to, and how

    def _upstream(self, fields: Mapping[str, Node]) -> Upstream | None:
        name = self._reader.text(fields.get("upstream"), "`upstream`")
        if name is None:
            return None
        upstream = self._names.upstreams.get(name)
        if upstream is None:
            hint = suggestion(name, self._names.upstreams)
            self._reader.error(fields["upstream"], f"unknown upstream `{name}`{hint}")
        return upstream

    def _identity_of(self, options: RouteOptions, upstream: Upstream | None) -> IdentityHeaders:
        """The nearest that says something: the route, its upstream, the defaults."""
        of_upstream = None if upstream is None else upstream.identity
        return options.identity or of_upstream or self._defaults.identity or AUTHGATE

    def _limits(self, fields: Mapping[str, Node]) -> tuple[Limit, ...]:
        limits: list[Limit] = []
        for name, item in self._reader.texts(fields.get("limits"), "`limits`") or []:
            limit = self._names.limits.get(name)
            if limit is None:
                hint = suggestion(name, self._names.limits)
                self._reader.error(item, f"unknown limit `{name}`{hint}")
            elif limit not in limits:
                limits.append(limit)
        return tuple(limits)

    def _cors(self, fields: Mapping[str, Node]) -> Cors | None:
        name = self._reader.text(fields.get("cors"), "`cors`")
        return cors_named(self._reader, name, fields.get("cors"), self._names.cors)

    def _max_body(self, fields: Mapping[str, Node]) -> int:
        node = fields.get("max_body")
        if getattr(node, "value", None) == "off":
            return UNLIMITED_BODY
        size = self._reader.size_bytes(node, "`max_body`", or_off=True)
        return DEFAULT_BODY_BYTES if size is None else size

    def _without_written(
        self, security: SecurityHeaders | None, response: HeaderChanges | None
    ) -> SecurityHeaders | None:
        if security is None:
            return None
        key = (security, response)
        if key not in self._security:
            self._security[key] = without_written(security, response)
        return self._security[key]

    def _reevaluates(self, fields: Mapping[str, Node]) -> bool:
        text = self._reader.choice(fields.get("on_change"), "`on_change`", ("end", "reevaluate"))
        return text == "reevaluate"
