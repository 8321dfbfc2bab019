"""Scenarios of a proxy that carries the calls and asks another process whether each may pass."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from bench import ext_authz
from bench.decide import NGINX, start_nginx
from bench.load import check
from bench.peers import Peer, Shape, envoy, proxies, shaped, start_gateway
from bench.processes import Started
from bench.results import US
from bench.rig import BASE_PORT, Rig, found
from bench.scenarios.loads import by_wrk
from bench.scenarios.model import Entry, Scenario

Start = Callable[[Rig, Peer], Started]
DECIDER = 40
"""What decides for a front listens on the front's port and so many."""
GRPC = 60
ASKS_LUA = """\
  upstream decisions { server 127.0.0.1:@ADMIN@; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:@JUDGED@ backlog=4096;
    proxy_http_version 1.1;
    location = /_ask {
      internal;
      proxy_pass http://decisions$request_uri;
      proxy_set_header Connection "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
    }
    location / {
      auth_request /_ask;
      auth_request_set $who $upstream_http_x_user_id;
      proxy_set_header X-User-Id $who;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_pass http://app;
    }
  }
}
"""


def decider(rig: Rig, front: Peer) -> tuple[Started, int]:
    """A gateway that only decides, and the port where it is asked."""
    grpc = f"127.0.0.1:{front.port + GRPC}"
    shape = Shape(decisions=True, settings=(("GATEWAY_EXT_AUTHZ_LISTEN", grpc),))
    peer = shaped(US, front.port + DECIDER, shape)
    return start_gateway(rig, peer), peer.port + 100


def lua_decider(rig: Rig, front: Peer) -> tuple[Started, int]:
    peer = shaped("nginx-lua-cache", front.port + DECIDER, Shape(decisions=True))
    return peer.start(rig, peer), peer.port


def nginx_front(
    decides: Callable[[Rig, Peer], tuple[Started, int]], template: str = NGINX
) -> Start:
    def start(rig: Rig, peer: Peer) -> Started:
        asked, port = decides(rig, peer)
        front = start_nginx(
            rig,
            name=peer.file_name,
            template=template,
            BACKEND=BASE_PORT,
            PUBLIC=peer.port + DECIDER,
            ADMIN=port,
            PLAIN=peer.port + 20,
            JUDGED=peer.port,
        )
        front.count_in(asked)
        return front

    return start


def envoy_front(door: str, decides: Callable[[Rig, Peer], tuple[Started, int]]) -> Start:
    """`door` is that of bench.ext_authz: asked by HTTP, or by gRPC."""

    def start(rig: Rig, peer: Peer) -> Started:
        asked, port = decides(rig, peer)
        ports = dict.fromkeys(ext_authz.DOORS, peer.port + 1) | {
            door: peer.port,
            "backend": BASE_PORT,
            "public": peer.port + DECIDER,
            "admin": port,
            "grpc_door": peer.port + GRPC,
        }
        made = ext_authz.configuration(ports)["static_resources"]
        made["listeners"] = [one for one in made["listeners"] if one["name"] == door]
        if decides is lua_decider:
            _ask_lua(made)
        config = rig.folder / "cfg" / f"{peer.file_name}.json"
        config.write_text(json.dumps({"static_resources": made}))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        program = str(envoy.program(rig))
        front = rig.start(peer.file_name, [program, "-c", str(config), *options], peer.port)
        front.count_in(asked)
        return front

    return start


def _ask_lua(made: dict[str, Any]) -> None:
    """It is asked for the path itself, and names the user by another field."""
    manager = made["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for one in manager["http_filters"]:
        if "ext_authz" in one["name"]:
            service = one["typed_config"]["http_service"]
            service.pop("path_prefix")
            allowed = copy.deepcopy(service["authorization_response"]["allowed_upstream_headers"])
            allowed["patterns"].append({"exact": "x-user-id"})
            service["authorization_response"]["allowed_upstream_headers"] = allowed


def entries(rig: Rig) -> list[Entry]:
    del rig
    nginx, by_envoy = "behind nginx", "behind Envoy"
    both = [
        (nginx, US, "auth_request to /decide/nginx", nginx_front(decider)),
        (nginx, "nginx-lua-cache", "auth_request to Lua", nginx_front(lua_decider, ASKS_LUA)),
        (by_envoy, US, "ext_authz to /decide/envoy", envoy_front("http", decider)),
        (by_envoy, "gateway, gRPC", "ext_authz by gRPC", envoy_front("grpc", decider)),
        (by_envoy, "nginx-lua-cache", "ext_authz to Lua", envoy_front("http", lua_decider)),
    ]
    rows = []
    for place, (variant, name, does, start) in enumerate(both):
        by_lua, with_envoy = name == "nginx-lua-cache", variant == by_envoy
        peer = Peer(
            name,
            does,
            BASE_PORT + 2 + 2 * place,
            start,
            lacks=_lacks(by_lua=by_lua, with_envoy=with_envoy),
        )
        rows.append(Entry(peer, by_wrk(), check, variant))
    for variant, name in ((nginx, "plain-nginx"), (by_envoy, "plain-envoy")):
        port = BASE_PORT + 15 + (variant == nginx)
        rows.append(Entry(shaped(name, port, Shape()), by_wrk(), check, variant))
    return sorted(rows, key=lambda row: row.variant, reverse=True)


def _lacks(*, by_lua: bool, with_envoy: bool) -> Callable[[Rig], str]:
    def lacks(rig: Rig) -> str:
        cures = [
            "" if found("nginx") else "apt-get install nginx",
            proxies.lua_lacks(rig) if by_lua else "",
            envoy.lacks(rig) if with_envoy else "",
        ]
        return "; ".join(filter(None, cures))

    return lacks


DECIDE = Scenario(
    "decide",
    "Decisions for nginx and Envoy",
    "nginx (`auth_request`) and Envoy (`ext_authz`) carry the calls of the main table and ask "
    "about each one, as in `deploy/nginx` and `deploy/envoy`: the gateway by HTTP and by gRPC, "
    "and nginx with Lua and its token cache, which answers 200 or refuses. CPU time is that of "
    "both processes, which share one core. The plain ones ask nobody.",
    entries,
    takes_s=90,
)
