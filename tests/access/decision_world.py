"""A configuration whose decisions are told field by field."""

from __future__ import annotations

import dataclasses
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Call, Principal, Reason
from tests.access.worlds import snapshot

WORLD = snapshot(
    """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    limits:
      per-user: {key: user, rate: 600/1m}
      per-tenant: {key: resource.tenant, rate: 600/1m}
      per-route: {key: route, rate: 600/1m}
    cors:
      app: {origins: ["https://app.example.com"], credentials: true}
    routes:
      - {id: public, match: {path: "/public/{x}", methods: [GET, PUT]}, auth: public, upstream: api}
      - {id: counted, match: {path: "/counted/{x}"}, auth: public, limits: [per-user], upstream: api}
      - {id: tenant, match: {path: "/tenant/{x}"}, auth: public, resource: {tenant: "{x}"},
         limits: [per-tenant], upstream: api}
      - {id: slash, match: {path: "/slash/{x}", methods: [GET]}, auth: public,
         allow_encoded_slash: true, upstream: api}
      - {id: signed, match: {path: /signed}, policy: signed-in, limits: [per-user], upstream: api}
      - {id: maybe, match: {path: /maybe}, auth: optional, upstream: api}
      - {id: judged, match: {path: "/judged/{x}"}, policy: p, action: "a:b", limits: [per-user],
         resource: {owner: "{x}"}, upstream: api}
      - {id: hidden, match: {path: "/hidden/{x}"}, policy: q, action: "a:b", upstream: api}
      - {id: written, match: {path: "/written/{x}"}, policy: signed-in, upstream: api,
         rewrite: {path: "/w/{x}"}}
      - {id: lost, match: {path: "/lost/{x:path}"}, policy: signed-in, upstream: api,
         rewrite: {strip_prefix: /lost}}
      - {id: files, match: {path: "/files/{x:path}"}, paths: files, policy: f, action: "a:b",
         upstream: api}
      - {id: hosted, match: {path: /hosted, host: h.example}, policy: signed-in,
         accept: [bearer, cookie, basic], cors: app, upstream: api}
      - {id: cookies, match: {path: /cookies}, policy: signed-in,
         accept: [bearer, cookie, basic], cors: app, upstream: api}
      - {id: inside, match: {path: /files/x}, auth: public, upstream: api}
      - {id: posted, match: {path: "/posted/{x:path}", methods: [POST]}, paths: files,
         auth: public, upstream: api}
      - {id: posted-there, match: {path: "/there/{x:path}", methods: [POST], host: h.example},
         paths: files, auth: public, upstream: api}
      - {id: guarded, match: {path: /guarded}, policy: g, action: "a:b", upstream: api}
      - {id: read, match: {path: /both, methods: [GET]}, auth: public, upstream: api}
      - {id: write, match: {path: /both, methods: [POST]}, policy: g, action: "a:b",
         upstream: api}
      - {id: name, match: {path: "/name/{x}"}, auth: public, allow_encoded_slash: true,
         upstream: api}
      - {id: name-read, match: {path: /name/a/b, methods: [GET]}, auth: public, upstream: api}
      - {id: name-write, match: {path: /name/a/b, methods: [POST]}, policy: g, action: "a:b",
         upstream: api}
      - {id: moved, match: {path: "/moved/{x:path}"}, paths: files, policy: signed-in,
         upstream: api, rewrite: {strip_prefix: /moved}}
    """,
    """
    policy: p
    rules:
      - {id: own, allow: ["a:b"], when: resource.owner == user.id, limits: [per-route],
         headers: {X-Own: "{user.id}"}}
      - {id: twice, allow: ["a:b"], when: resource.owner == user.id, headers: {X-Two: "{x}"}}
      - {id: soon, deny: ["*"], when: "'bad' in user.roles", reason: suspended, mode: shadow}
      - {id: guest, allow: ["a:b"], when: "'guest' in user.roles"}
    """,
    """
    policy: q
    rules:
      - {id: gone, deny: ["*"], when: request.params.x == 'gone', reason: gone, conceal: true}
      - {id: sure, allow: ["*"], when: request.params.x == 'sure',
         step_up: {max_age: 5m, amr: [totp]}}
      - {id: query, allow: ["*"], when: request.query.q == 'a'}
    """,
    """
    policy: g
    rules: [{id: all, allow: ["*"]}]
    """,
    """
    policy: f
    rules:
      - {id: most, allow: ["*"],
         when: "!(request.params.x in ['b', 'c', 'c;d']) && request.path != '/files/e'"}
    """,
)


def call_of(request: str, caller: Principal | Reason = Reason.NO_CREDENTIAL, **more: Any) -> Call:
    method, _, url = request.partition(" ")
    call = simulated_call(SimulatedRequest(method, url, caller, **more))
    assert not isinstance(call, Reason)
    return call


def told(decision: Decision) -> dict[str, Any]:
    """What is not as in an empty decision, in a form that can be read."""
    found: dict[str, Any] = {}
    empty = Decision(False, "")
    for one in dataclasses.fields(Decision):
        value = getattr(decision, one.name)
        if value == getattr(empty, one.name) and type(value) is type(getattr(empty, one.name)):
            continue
        match one.name:
            case "route":
                value = value.id
            case "principal":
                value = value.subject
            case "location":
                value = str(value)
            case "limit":
                value = (value.wait_s, value.policy)
            case "last_limits":
                value = "+".join(limit.name for limit in value)
            case "shadowed":
                value = [(shadow.rule, shadow.allowed, shadow.reason) for shadow in value]
        found[one.name] = value
    return found
