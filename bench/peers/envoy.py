"""Envoy's configuration: jwt_authn with or without its cache, rbac, a local rate limit."""

from __future__ import annotations

from typing import Any

from bench.credentials import AUDIENCE, ISSUER

_TYPE = "type.googleapis.com/envoy.extensions.filters"


def _filter(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPE}.http.{name}.v3.{kind}"} | config}


def _jwt(jwks: str, cached_tokens: int) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": jwks},
        "forward": False,
        "payload_in_metadata": "claims",
        "claim_to_headers": [{"header_name": "x-user-id", "claim_name": "sub"}],
    }
    if cached_tokens:
        provider["jwt_cache_config"] = {"jwt_cache_size": cached_tokens}
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}]
    return _filter("jwt_authn", "JwtAuthentication", providers={"bench": provider}, rules=rules)


def _roles() -> dict[str, Any]:
    holds_user = {"list_match": {"one_of": {"string_match": {"exact": "user"}}}}
    claim = {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "claims"}, {"key": "roles"}],
        "value": holds_user,
    }
    policy = {
        "permissions": [{"url_path": {"path": {"prefix": "/api/"}}}],
        "principals": [{"metadata": claim}],
    }
    return _filter("rbac", "RBAC", rules={"action": "ALLOW", "policies": {"users": policy}})


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


def configuration(port: int, backend: int, *, jwks: str | None, cached_tokens: int) -> Any:
    """`jwks` None: it judges nothing."""
    judging = [_jwt(jwks, cached_tokens), _roles(), _rate()] if jwks is not None else []
    # The names under which Envoy registers its own filters.
    filters = [f | {"name": f"envoy.filters.http.{f['name']}"} for f in judging]
    filters.append(_filter("router", "Router") | {"name": "envoy.filters.http.router"})
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "30s"}}
    connection_manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connection_manager,
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "public",
                    "address": _address(port),
                    "filter_chains": [{"filters": [network_filter]}],
                }
            ],
            "clusters": [_cluster(backend)],
        }
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(backend: int) -> dict[str, Any]:
    thresholds = {"max_connections": 10_000, "max_pending_requests": 10_000}
    endpoint = {"endpoint": {"address": _address(backend)}}
    return {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [thresholds | {"max_requests": 20_000}]},
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
