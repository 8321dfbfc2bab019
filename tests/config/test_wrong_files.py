"""Whatever stands in the files: a snapshot or problems with their places, never an exception."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.expressions import read_expression
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import UnreadSecrets
from gateway.model import ConfigProblem
from gateway.review.cases import read_cases
from tests.access.worlds import snapshot
from tests.config.test_compile import CONTRACT, CONTRACT_POLICY

TESTS = """
version: 1
now: 2026-01-05T09:00:00Z
people: {anna: {id: u1, roles: [a], auth_age: 5m, claims: {x: 1}, scopes: ["*"], with: cookie}}
cases:
  - {name: n, as: anna, request: GET /a, expect: {decision: deny, status: 404, shadow: []}}
  - {request: {method: GET, url: /a, host: h, headers: {x: [y]}, ip: 10.0.0.1, body: {a: 1}}, expect: 404}
"""
ISSUERS = """
version: 1
issuers:
  idp:
    issuer: https://id.example
    audience: [api]
    algorithms: [RS256, EdDSA]
    typ: [at+jwt, absent]
    subject: claims.oid
    roles: claims.groups.map(g, 'a-' + g)
    email: claims.email
    email_verified: claims.verified == 1
    require: {azp: [shop, 1, true], claims.a.b: x}
    leeway: 1m
    max_life: 1h
    discovery: https://id.example/d
    jwks_uri: http://127.0.0.1:1/k
    ca: /a.pem
    max_stale: 1h
    introspection: {client_id: a, private_key: {secret: b, alg: RS256, kid: c}, endpoint: "https://e.example"}
    backchannel_logout: true
    events: true
    event_audience: api
  other: {issuer: "https://o.example", audience: a, introspection: {client_id: a, client_secret: {secret: b}, cache: 3s}}
upstreams: {api: {targets: ["http://127.0.0.1:1"]}}
defaults: {issuers: [own, idp], upstream: api, policy: signed-in}
routes:
  - {id: a, match: {prefix: /a}, issuers: [idp], resource_server: {scopes: [x], name: A, path: /a}}
  - {id: b, match: {prefix: /b}, resource_server: {authorization_servers: ["https://o.example"]}}
  - {id: c, match: {prefix: /c}, accept: [bearer], issuers: other, resource_server: off}
"""
DATA = "version: 1\nteams: {red: {members: [u1]}}\n"
WORLD = snapshot(CONTRACT, orders=CONTRACT_POLICY)

SCALARS = st.sampled_from(
    [None, True, False, 0, 1, -1, 1.5, 10**30, "", " ", "a", "/", "*", "true", "null", "1s", "{x}",
     "{body.a}", "{", "user.id == '", "((", "é", "a/b", "unix:/x", "http://[::1", "http://h:x",
     "x" * 300, "2026-13-01", "\x7f", "role-permissions", "signed-in", "10.0.0.0/8", "::1/129"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "id", "match", "path",
        "version", "allow", "when", "rules", "key", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


def spoilt(value: Any, draw: Any, depth: int = 0) -> Any:
    """`value` with one part of it, somewhere, exchanged, left out or doubled."""
    here = draw(st.integers(0, 5)) == 0 or not isinstance(value, dict | list) or not value
    if here:
        return draw(VALUES)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], spoilt(value[at], draw, depth + 1), *value[at + 1 :]]
    name = draw(st.sampled_from(list(value)))
    action = draw(st.integers(0, 6))
    changed = dict(value)
    if action == 0:
        del changed[name]
    elif action == 1:
        changed[draw(st.text(max_size=8))] = changed.pop(name)
    else:
        changed[name] = spoilt(value[name], draw, depth + 1)
    return changed


def loaded(text: str) -> Any:
    # Only to be spoilt: that YAML 1.1 reads `on` as true is one more way to spoil it.
    return yaml.safe_load(text)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_file_with_anything_in_it_is_told_about_and_never_raises(data: Any) -> None:
    which = data.draw(st.sampled_from(["routes", "policy", "roles", "data"]))
    routes, policy, roles, tables = (
        CONTRACT,
        CONTRACT_POLICY,
        "version: 1\nroles: {a: [b:c]}\n",
        DATA,
    )
    made = {"routes": routes, "policy": policy, "roles": roles, "data": tables}
    made[which] = yaml.safe_dump(spoilt(loaded(made[which]), data.draw), allow_unicode=True)
    found = compile_snapshot(
        Sources(
            ("routes.yaml", made["routes"]),
            (
                ("policies/data/t.yaml", made["data"]),
                ("policies/orders.yaml", made["policy"]),
                ("policies/roles.yaml", made["roles"]),
            ),
        )
    )
    if isinstance(found, list):
        assert found
        assert all(isinstance(problem, ConfigProblem) and problem.line >= 1 for problem in found)
    else:
        assert isinstance(found, Snapshot)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_issuers_with_anything_in_them_are_told_about_and_never_raise(data: Any) -> None:
    text = yaml.safe_dump(spoilt(loaded(ISSUERS), data.draw), allow_unicode=True)
    found = compile_snapshot(Sources(("routes.yaml", text)), secrets=UnreadSecrets())
    assert isinstance(found, Snapshot) or all(problem.line >= 1 for problem in found)


def test_what_is_spoilt_is_a_good_file() -> None:
    found = compile_snapshot(Sources(("routes.yaml", ISSUERS)), secrets=UnreadSecrets())
    assert isinstance(found, Snapshot), found


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_file_of_tests_with_anything_in_it_never_raises(data: Any) -> None:
    text = yaml.safe_dump(spoilt(loaded(TESTS), data.draw), allow_unicode=True)
    assert isinstance(read_cases("t.yaml", text, WORLD), list)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60))
def test_any_text_is_yaml_or_is_not(text: str) -> None:
    found = compile_snapshot(Sources(("routes.yaml", text)))
    assert isinstance(found, Snapshot | list)


TOKENS = st.sampled_from(
    ["user", "resource", "request", "client", "now", "data", ".", "id", "roles", "owner", "[", "]",
     "(", ")", "{", "}", "'x'", '"', "'", "==", "&&", "||", "!", "in", "null", "true", "1", "0x",
     "?", ":", ",", "has", "all", "exists", "has_role", "x", " ", "//", "\n", "r'", "'''", "-", "é"]
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(TOKENS, max_size=14).map("".join))
def test_any_condition_is_taken_or_told_about(source: str) -> None:
    read_expression(source)
    found = ConditionCompiler({"teams": {}}).compile(source)
    assert isinstance(found, Condition) or (found and all(text for _, text in found))
