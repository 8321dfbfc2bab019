"""`user.issuer` and `user.scopes`: whose token a call came with, and what it was granted."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gateway.access.conditions.context import NO_RESOURCE
from gateway.model import Call, Principal, SystemClock
from gateway.rate_limit.keys import LimitKeys
from tests.access.test_explanation import told
from tests.access.worlds import decide, problems, snapshot, who

POLICY = """
policy: p
rules:
  - id: own
    allow: ["*"]
    when: {when}
"""
ROUTE = "- {id: a, match: {path: /a}, policy: p, upstream: api, issuers: [own]}\n"


def token(**changed: Any) -> Principal:
    return dataclasses.replace(who("u1"), **changed)


def allowed(when: str, caller: Principal) -> bool:
    return decide(snapshot(ROUTE, POLICY.format(when=when)), "GET /a", caller).allowed


@pytest.mark.parametrize(
    ("when", "caller", "answer"),
    [
        ("user.issuer == 'own'", token(), True),
        ("user.issuer == 'idp'", token(), False),
        ("\"'read' in user.scopes\"", token(granted_scopes=("read", "write")), True),
        ("\"'read' in user.scopes\"", token(granted_scopes=("readers",)), False),
        ("\"'read' in user.scopes\"", token(), False),
        ("\"'*' in user.scopes\"", token(scopes=("*",)), True),
        ("user.scopes.exists(s, s.startsWith('orders:'))", token(granted_scopes=("orders:read",)),
         True),
        ("user.scopes.size() == 0", token(scopes=None), True),
        ("user.scopes == ['a', 'b']", token(granted_scopes=("a", "b")), True),
    ],
)  # fmt: skip
def test_a_condition_reads_it(when: str, caller: Principal, answer: bool) -> None:
    assert allowed(when, caller) is answer


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("user.issuer == 1", "text and a number are never equal"),
        ("user.scopes == 'read'", "a list and text are never equal"),
        ("user.issuer.name == 'a'", "`user.issuer` has no fields of its own"),
        ("user.scopes.read == 'a'", "`user.scopes` has no fields of its own"),
        ("user.scope == 'a'", "did you mean `scopes`?"),
        ("user.issuers == 'a'", "did you mean `issuer`?"),
    ],
)
def test_what_it_cannot_be_is_told_at_load(when: str, said: str) -> None:
    (problem,) = problems(ROUTE, POLICY.format(when=when))
    assert said in problem


def test_the_explanation_tells_what_was_read_and_whose_token_it_was() -> None:
    world = snapshot(ROUTE, POLICY.format(when="\"'read' in user.scopes && user.issuer == 'own'\""))
    found = told(world, "GET /a", token(granted_scopes=("write",)))
    assert found.evaluations[0].values == (
        ("user.scopes", '["write"]'), ("user.issuer", '"own"'),
    )  # fmt: skip
    assert found.caller == "u1, roles: none, scopes: write, from 127.0.0.1"


RESOURCE = """
version: 1
issuers: {idp: {issuer: https://id.example, audience: a}}
upstreams: {api: {targets: ["http://127.0.0.1:1"]}}
routes:
  - id: a
    match: {path: /a}
    policy: signed-in
    upstream: api
    issuers: [idp]
    resource_server: {scopes: [read, write, list]}
"""


def test_the_explanation_tells_which_scopes_a_token_lacks() -> None:
    caller = token(
        subject="idp:u1", issuer="idp", audience=("/a",),  # no public URL is known here
        granted_scopes=("read",),
    )  # fmt: skip
    found = told(snapshot(RESOURCE), "GET /a", caller)
    assert found.sentence == "denied with insufficient_scope: the token was not granted write, list"
    assert found.caller == "idp:u1 of issuer idp, roles: none, scopes: read, from 127.0.0.1"


def test_a_rule_tells_the_backend_whose_token_it_was() -> None:
    rules = "rules: [{id: a, allow: ['*'], headers: {X-Of: '{user.issuer}'}}]"
    decision = decide(snapshot(ROUTE, f"policy: p\n{rules}"), "GET /a", token())
    assert decision.headers == (("X-Of", "own"),)
    wrong = rules.replace("user.issuer", "user.scopes")
    (problem,) = problems(ROUTE, f"policy: p\n{wrong}")
    assert "`{user.scopes}` cannot be filled in" in problem


def test_a_limit_counts_by_issuer() -> None:
    world = snapshot(
        """
        version: 1
        limits: {of: {key: user.issuer, rate: 1/1s}}
        upstreams: {api: {targets: ["http://127.0.0.1:1"]}}
        routes: [{id: a, match: {path: /a}, policy: signed-in, upstream: api, limits: [of]}]
        """
    )
    key = LimitKeys(SystemClock()).of(world.limits["of"])
    call = Call("GET", "", "/a", ("a",), "", headers=(), client_ip="10.0.0.1", scheme="http")
    assert key(call, token(issuer="idp"), NO_RESOURCE) == "is idp"
    assert key(call, token(), NO_RESOURCE) == "is own"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("{user.issuer}", "idp"),
        ("{user.issuer}/{user.id}", "idp/idp:u1"),
        ("{user.scopes}", "read,write"),
        ("user.scopes.map(s, user.issuer + '.' + s)", "idp.read,idp.write"),
    ],
)
def test_a_backend_is_told(value: str, sent: str) -> None:
    fields = f'[{{name: X-Of, value: "{value}"}}]'
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: signed-in, upstream: api, "
        f"identity_headers: {fields}}}\n"
    )
    route = world.routes.get("a")
    assert route is not None
    caller = dataclasses.replace(who("idp:u1"), issuer="idp", granted_scopes=("read", "write"))
    assert dict(route.identity.texts(caller)) == {"X-Of": sent}


def test_scopes_are_a_list_and_stand_alone() -> None:
    (problem,) = problems(
        "- {id: a, match: {path: /a}, policy: signed-in, upstream: api, "
        'identity_headers: [{name: X-Of, value: "of {user.scopes}"}]}\n'
    )
    assert "`{user.scopes}` is a list: it stands alone" in problem
