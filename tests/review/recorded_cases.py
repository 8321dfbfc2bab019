"""Configurations and calls of every kind that a record of a decision may lack something of."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import yaml

from bench.difference_cases import (
    ADDRESSES,
    ISSUERS,
    NAMES,
    PUBLIC_URL,
    ROLES,
    TEAMS,
    TIMES,
    World,
    condition,
    roles,
    tables,
)
from gateway.access.authorizer import Authorizer, Decision
from gateway.access.decision_record import KEYS, kept_call, record_of
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.request_values import WITHOUT_BODY
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    NoLimits,
    SimulatedRequest,
    person,
    run_sync,
    simulated_call,
)
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Call, Credential, CredentialKind, Principal, Reason

_ATOMS = (
    "user.claims.level > 2", "has(user.claims.level)", "'acme' in user.claims.groups",
    "user.claims.org.id == 'x'", "user.session_id != ''", "user.tenant == 'acme'",
    "user.tenant_role == 'owner'", "'acme' in user.tenants", "user.attributes.dep == 'x'",
    "user.tenant == request.params.x", "data.users[user.claims.org.id].team == 'acme'",
    "resource.tags.exists(t, t == 'a')", "size(resource.tags) > 1", "has(resource.tags)",
    "resource.tags == 'a'", "resource.deep == 'a'", "resource.owner == user.claims.org.id",
    "request.params.x == 'acme'", "request.path == '/a/acme'", "request.query.team == 'acme'",
    "resource.owner == user.id", "request.headers['destination'] == '/f/acme/b'",
    "now - user.auth_time < duration('1h')", "user == null", "has_role('lead')",
)  # fmt: skip
_PATTERNS = ("/a/{x:int}", "/notes/{x}", "/f/{x}/{rest:path}", "/notes")
_KINDS = (("bearer",), ("bearer", "api_key"), ("cookie",), ("bearer", "cookie"), ("basic",))


def _when(choose: random.Random) -> str:
    first = choose.choice(_ATOMS) if choose.random() < 0.75 else condition(choose)
    if choose.random() < 0.25:
        first = f"!({first})"
    if choose.random() < 0.5:
        return first
    return f"({first}) {choose.choice(('&&', '||'))} {_when(choose)}"


def _rule(choose: random.Random) -> World:
    made: World = {"deny" if choose.random() < 0.3 else "allow": choose.choice((["*"], ["t:r"]))}
    if choose.random() < 0.85:
        made["when"] = _when(choose)
    if choose.random() < 0.4:
        made["reason"] = choose.choice(("not_yours", "too_low"))
    if choose.random() < 0.15:
        made["step_up"] = choose.choice(({"max_age": "15m"}, {"amr": ["totp"]}))
    if choose.random() < 0.1:
        made["mode"] = "shadow"
    return made


def _route(choose: random.Random, pattern: str) -> World:
    auth = choose.choice(("required", "required", "required", "optional", "public"))
    made: World = {"match": {"path": pattern}, "upstream": "api", "auth": auth}
    if choose.random() < 0.2:
        made["match"]["methods"] = choose.choice((["GET"], ["GET", "POST"], ["MOVE", "COPY"]))
    if choose.random() < 0.4:
        made["paths"] = "files"
    if choose.random() < 0.1:
        made["allow_encoded_slash"] = True
    made["resource"] = {"type": "note"}
    x = ("{x}", "{x}", "{x}") if "{x" in pattern else ()
    for name, sources in (
        ("owner", (*x, "{query.team}", "{headers.x-team}", "{body.team}", "t-{body.team}")),
        ("tags", (*x, "{body.tags}", "{body.meta}", "{query.tags}")),
        ("deep", (*x, "{body.meta.a}", "{body.note.team}")),
    ):
        made["resource"][name] = choose.choice(sources)
    if auth != "public":
        made |= {"policy": "p", "action": choose.choice(("t:r", "t:w"))}
        if choose.random() < 0.3:
            made["accept"] = list(choose.choice(_KINDS))
        elif choose.random() < 0.3:
            made["issuers"] = ["own", "company"]
        if "{x}" in pattern and choose.random() < 0.15:
            made["tenant"] = "{x}"
    if choose.random() < 0.2:
        made["limits"] = [choose.choice(("by-owner", "by-tags"))]
    return made


def made_up(choose: random.Random) -> World:
    return {
        "routes": [
            _route(choose, one)
            for one in ("/a/{x}", *choose.sample(_PATTERNS, choose.randrange(3)))
        ],
        "rules": [_rule(choose) for _ in range(choose.randint(1, 4))],
        "roles": roles(choose),
        "data": tables(choose),
    }


def edited(choose: random.Random, world: World) -> World:
    """Another one; mostly by one rule or route."""
    other = {**world, "rules": list(world["rules"]), "routes": list(world["routes"])}
    if choose.random() < 0.5:
        at = choose.randrange(len(other["routes"]))
        other["routes"][at] = _route(choose, other["routes"][at]["match"]["path"])
    else:
        at = choose.randrange(len(other["rules"]) + 1)
        other["rules"][at : at + choose.randrange(2)] = [_rule(choose)]
    return other


def compiled(world: World) -> Snapshot | None:
    """None where something of it is a mistake."""
    routes = [{"id": f"r{n}", **one} for n, one in enumerate(world["routes"])]
    rules = [{"id": f"rule{n}", **one} for n, one in enumerate(world["rules"])]
    text = {
        "version": 1,
        "issuers": {n: {"issuer": f"https://{n}.example", "audience": "api"} for n in ISSUERS},
        "attributes": {"dep": {"type": "string"}},
        "tenants": {"roles": ["owner", "member"]},
        "limits": {
            "by-owner": {"key": "resource.owner", "rate": "9/1s"},
            "by-tags": {"key": "resource.tags", "rate": "9/1s"},
        },
        "upstreams": {"api": {"targets": ["http://127.0.0.1:9001"]}},
        "routes": routes,
    }
    policy = {"version": 1, "policy": "p", "roles": world["roles"], "rules": rules}
    found = compile_snapshot(
        Sources(
            ("routes.yaml", yaml.safe_dump(text)),
            (
                ("policies/data/tables.yaml", yaml.safe_dump({"version": 1, **world["data"]})),
                ("policies/p.yaml", yaml.safe_dump(policy)),
            ),
        )
    )
    return replace(found, public_url=PUBLIC_URL) if isinstance(found, Snapshot) else None


def _caller(choose: random.Random, now: float) -> Principal | Reason:
    draw = choose.random()
    if draw < 0.1:
        return Reason.NO_CREDENTIAL
    if draw < 0.2:
        return choose.choice((Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED, Reason.KEY_UNKNOWN))
    claims: World = {}
    for name, values in (
        ("level", (1, 3, "3")), ("groups", (["acme"], ["tiny"], "acme")),
        ("org", ({"id": "x"}, {"id": "ann"}, 7)), ("tenant", ("acme", "tiny")),
        ("tenants", ({"acme": "owner"}, {"tiny": "member"})),
        ("attributes", ({"dep": "x"}, {"dep": "y"})),
    ):  # fmt: skip
        if choose.random() < 0.6:
            claims[name] = choose.choice(values)
    who = person(
        choose.choice((*NAMES, *TEAMS)),
        [role for role in ROLES if choose.random() < 0.3],
        now=now,
        email=choose.choice((None, "ann@acme.example")),
        email_verified=choose.random() < 0.5,
        session_id=choose.choice((None, "s1")),
        auth_time=now - choose.choice((0, 1_000, 9_000)),
        amr=choose.choice((("pwd",), ("pwd", "totp"))),
        scopes=choose.choice((None, None, None, ("t:r",))),
        claims=claims,
    )
    who.granted_scopes = choose.choice(((), ("things:read",), ("", "a b")))
    return who


def _body(choose: random.Random) -> Any:
    draw = choose.random()
    if draw < 0.3:
        return None
    if draw < 0.35:
        return choose.choice(([], 5, "x", [{"team": "acme"}]))
    values = ("acme", "a", 5, 1.5, True, None, ["a"], ["a", "b"], {"a": "a"}, {"a": ["a"]}, 2**63)
    body = {}
    for name in ("team", "tags", "meta", "note", "Team", "$set", "tags[0]", "meta.a", "other"):
        likely = 0.5 if name in ("team", "tags", "meta") else 0.06
        if choose.random() < likely:
            body[name] = choose.choice((*values, {"team": "acme"}))
    return body


def question(choose: random.Random) -> SimulatedRequest:
    odd = ("0", "acme.json", "acme;b", "acme%5Cb", "acme%2Fb", "A")
    x = choose.choice(odd if choose.random() < 0.15 else (*TEAMS, "ann"))
    others = (f"/notes/{x}", f"/f/{x}/b", f"/f/{x}/b;c", "/notes", "/n")
    path = f"/a/{x}" if choose.random() < 0.6 else choose.choice(others)
    names = ("team", "tags", "x", "meta", "team[]", "Team", "note[team]", "other", "other", "rest")
    values = (*TEAMS, "a", x, x) if choose.random() < 0.9 else ("%zz", "a;b")
    query = "&".join(
        f"{choose.choice(names)}={choose.choice(values)}"
        for _ in range(choose.choice((0, 0, 0, 0, 1, 2)))
    )
    headers = [("X-Team", choose.choice(TEAMS))] * choose.choice((0, 0, 1, 1, 1, 1, 2))
    headers += [("X_Team", "acme")] * (choose.random() < 0.05)
    headers += [("Content-Length", "5")] * (choose.random() < 0.08)
    moves = ("MOVE", "COPY") if choose.random() < 0.4 else ()
    method = choose.choice(("GET", "GET", "POST", "POST", "POST", "PUT", "DELETE", *moves))
    if choose.random() < (0.8 if method in moves else 0.05):
        to = (
            f"/a/{x}",
            "/a/acme",
            "/a/tiny",
            f"/f/{x}/c",
            "/f/acme/b",
            "/f/tiny/b",
            "/f/acme/b;c",
            "http://localhost/f/acme/b",
        )
        headers.append(("Destination", choose.choice((*to, "http://other/f/acme/b", "b", "/n"))))
    now = float(choose.choice(TIMES))
    who = _caller(choose, now)
    kind = choose.choice((*CredentialKind, CredentialKind.BEARER, CredentialKind.BEARER))
    if isinstance(who, Principal) and kind in KEYS and choose.random() < 0.5:
        held = {*who.roles, *(role for role in ROLES if choose.random() < 0.4)}
        who.held_roles = None if held == set(who.roles) else tuple(sorted(held))
    if isinstance(who, Principal) and kind is CredentialKind.BEARER:
        who.audience = choose.choice(((), (), ("a", f"{PUBLIC_URL}/a")))
        if choose.random() < 0.3:
            who.issuer, who.scopes = "company", None
            who.subject = f"company:{who.subject}"
    if kind is CredentialKind.COOKIE:
        headers.append(("Sec-Fetch-Site", "same-origin"))
    url = f"{path}?{query}" if query else path
    address, body = choose.choice(ADDRESSES), _body(choose)
    if method in WITHOUT_BODY and ("Content-Length", "5") not in headers:
        body = None  # with one nearly all of them would be refused
    return SimulatedRequest(method, url, who, headers, address, body, FixedClock(now), kind)


def decided(asked: SimulatedRequest, world: Snapshot) -> tuple[Call, Decision]:
    """As `simulate`, with a refused credential of any kind."""
    call = simulated_call(asked)
    assert isinstance(call, Call)
    if call.credential is not None:
        call.credential = Credential(asked.kind, "")
    gate = Authorizer(
        FixedAuthenticator(asked.caller),
        NoLimits(),
        clock=asked.clock,
        origins=OwnOrigins(world.public_url),
    )
    return call, run_sync(gate, call, world)


def recorded(asked: SimulatedRequest, world: Snapshot) -> str:
    """The line that is written of a call."""
    call, decision = decided(asked, world)
    kept, _ = kept_call(call, decision.route)
    return json.dumps(
        record_of(kept, decision, at=asked.clock.now(), status=0, request_id="r", version="v")
    )
