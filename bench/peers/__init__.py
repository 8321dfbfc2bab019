"""The gateway and its peers.  Each starts by itself and says what it lacks."""

from __future__ import annotations

import sys
from dataclasses import replace

from bench.peers import authgate, envoy, proxies, scripted
from bench.peers.authgate import gateway_environment, make_database, start_gateway
from bench.peers.peer import Peer, Shape, first_line, needs
from bench.rig import BASE_PORT, found

__all__ = [
    "PEERS",
    "Peer",
    "Shape",
    "gateway_environment",
    "make_database",
    "shaped",
    "start_gateway",
]

PEERS = (
    Peer(
        "gateway",
        "authgate as `gateway serve` runs it",
        BASE_PORT + 1,
        start_gateway,
        authgate.lacks,
        version=lambda _: f"Python {sys.version.split()[0]}",
    ),
    Peer(
        "naive",
        "aiohttp + pyjwt + 2 Redis calls",
        BASE_PORT + 2,
        scripted.start_naive,
        scripted.naive_lacks,
    ),
    Peer(
        "haproxy",
        "jwt_verify, revoked list, role, stick table",
        BASE_PORT + 3,
        proxies.start_haproxy("haproxy.cfg"),
        needs("haproxy", "haproxy"),
        version=lambda _: first_line(found("haproxy"), "-v"),
    ),
    Peer(
        "nginx-lua",
        "Lua, the signature verified each time",
        BASE_PORT + 4,
        proxies.start_nginx("judge(false)"),
        proxies.lua_lacks,
        version=lambda _: first_line(found("nginx"), "-v"),
    ),
    Peer(
        "nginx-lua-cache",
        "Lua with a token cache",
        BASE_PORT + 5,
        proxies.start_nginx("judge(true)"),
        proxies.lua_lacks,
        version=lambda _: first_line(found("nginx"), "-v"),
    ),
    Peer(
        "envoy",
        "jwt_authn, rbac, local_ratelimit",
        BASE_PORT + 6,
        envoy.start_envoy(judges=True),
        envoy.lacks,
        revokes=False,
        version=lambda _: envoy.PACKAGE,
    ),
    Peer(
        "envoy-cache",
        "the same with its JWT cache",
        BASE_PORT + 7,
        envoy.start_envoy(judges=True, cached_tokens=2000),
        envoy.lacks,
        revokes=False,
        version=lambda _: envoy.PACKAGE,
    ),
    Peer(
        "fastify",
        "http-proxy and jwt with its cache",
        BASE_PORT + 8,
        scripted.start_fastify,
        scripted.fastify_lacks,
        version=lambda _: f"node {first_line(found('node'), '--version')}",
    ),
    Peer(
        "plain-nginx",
        "nginx, judges nothing",
        BASE_PORT + 9,
        proxies.start_nginx(""),
        needs("nginx", "nginx"),
        judges=False,
        version=lambda _: first_line(found("nginx"), "-v"),
    ),
    Peer(
        "plain-haproxy",
        "HAProxy, judges nothing",
        BASE_PORT + 10,
        proxies.start_haproxy("haproxy-plain.cfg"),
        needs("haproxy", "haproxy"),
        judges=False,
        version=lambda _: first_line(found("haproxy"), "-v"),
    ),
    Peer(
        "plain-envoy",
        "Envoy, judges nothing",
        BASE_PORT + 11,
        envoy.start_envoy(judges=False),
        envoy.lacks,
        judges=False,
        version=lambda _: envoy.PACKAGE,
    ),
    Peer(
        "plain-caddy",
        "Caddy, judges nothing",
        BASE_PORT + 12,
        proxies.start_caddy,
        needs("caddy", "caddy"),
        judges=False,
        version=lambda _: f"Caddy {first_line(found('caddy'), 'version')}",
    ),
)


def shaped(name: str, port: int, shape: Shape) -> Peer:
    """The peer of this name, on a port of its own, and asked for more."""
    return replace(next(peer for peer in PEERS if peer.name == name), port=port, shape=shape)
