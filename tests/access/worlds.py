"""Small configurations to ask questions of."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent, indent
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.routing.route_table import RouteTable
from gateway.access.simulation import FixedClock, SimulatedRequest, person, simulate
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import ConfigProblem, Principal, Reason

NOW = 1_800_000_000.0

HEAD = """
version: 1
upstreams:
  api: {targets: [http://127.0.0.1:9001]}
  other: {targets: [http://127.0.0.1:9002]}
limits:
  per-user: {key: user, rate: 600/1m}
cors:
  app: {origins: ["https://app.example.com"], credentials: true}
routes:
"""


def built(routes: str, *policies: str, **named: str) -> Snapshot | list[ConfigProblem]:
    """The routes (their list alone, or a whole file with `version:`) and the policies."""
    text = dedent(routes)
    if "version:" not in text:
        text = HEAD + indent(text, "  ")
    files = [(f"policies/p{i}.yaml", _policy(one)) for i, one in enumerate(policies)]
    files += [(f"policies/{name.replace('__', '/')}.yaml", dedent(t)) for name, t in named.items()]
    return compile_snapshot(Sources(("routes.yaml", text), tuple(sorted(files))))


def snapshot(routes: str, *policies: str, **named: str) -> Snapshot:
    found = built(routes, *policies, **named)
    assert isinstance(found, Snapshot), "\n".join(map(str, found))
    return found


def problems(routes: str, *policies: str, **named: str) -> list[str]:
    found = built(routes, *policies, **named)
    assert isinstance(found, list), "the configuration is valid"
    return [str(problem) for problem in found]


def who(subject: str = "u1", *roles: str, **more: Any) -> Principal:
    return person(subject, roles, now=NOW, **more)


def decide(
    world: Snapshot, request: str, caller: Principal | Reason = Reason.NO_CREDENTIAL, **more: Any
) -> Decision:
    method, _, url = request.partition(" ")
    return simulate(
        SimulatedRequest(method, url, caller, clock=FixedClock(NOW), **more), anew(world)
    ).decision


def anew(world: Snapshot) -> Snapshot:
    """With a table that was asked nothing yet: what one remembers from one test would answer for
    what is broken in the next."""
    routes = world.routes
    if type(routes) is RouteTable:
        return replace(world, routes=RouteTable(routes, routes.own_paths))
    return world


def rule_world(rules: str, *, route: str = "", roles: str = "") -> Snapshot:
    """One route, `GET /orders/{id}`, with the action `orders:read` and a resource."""
    return snapshot(
        f"""
        - id: orders
          match: {{path: "/orders/{{id}}"}}
          policy: p
          action: orders:read
          resource: {{type: order, id: "{{id}}", owner: "{{id}}"}}
          upstream: api
          {route}
        """,
        "policy: p\n"
        + (f"roles:\n{indent(dedent(roles), '  ')}\n" if roles else "")
        + f"rules:\n{indent(dedent(rules).strip(), '  ')}\n",
    )


def _policy(text: str) -> str:
    text = dedent(text)
    return text if "version:" in text else "version: 1\n" + text.lstrip("\n")
