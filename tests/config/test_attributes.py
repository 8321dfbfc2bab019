"""The blocks `attributes:` and `tenants:`, and what reads them."""

from __future__ import annotations

import pytest

from gateway.access.attributes import Attribute, AttributeType, SetBy, TenantRules
from gateway.access.snapshot import Snapshot
from tests.access.worlds import decide, problems, snapshot, who

WORLD = """
version: 1
attributes:
  department: {type: string, values: [sales, support], claim: dept}
  clearance: {type: integer, set_by: [operator, provider]}
  active: {type: boolean}
  teams: {type: list}
  note: {claim: "off"}
tenants: {roles: [owner, member]}
limits: {per-tenant: {key: tenant, rate: 2/1h}}
upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - id: a
    match: {path: /a}
    policy: p
    upstream: api
  - id: t
    match: {path: "/t/{org}"}
    tenant: "{org}"
    policy: p
    limits: [per-tenant]
    upstream: api
"""


def world(when: str, routes: str = WORLD) -> Snapshot:
    return snapshot(routes, _policy(when))


def _policy(when: str) -> str:
    return f'policy: p\nrules: [{{id: r, allow: ["*"], when: {when!r}}}]'


def test_the_blocks_are_read() -> None:
    read = world("true")
    assert read.attributes == {
        "department": Attribute("department", values=("sales", "support"), claim="dept"),
        "clearance": Attribute(
            "clearance", AttributeType.INTEGER, set_by=frozenset((SetBy.OPERATOR, SetBy.PROVIDER))
        ),
        "active": Attribute("active", AttributeType.BOOLEAN),
        "teams": Attribute("teams", AttributeType.LIST),
        "note": Attribute("note", in_token=False),
    }
    assert read.tenants == TenantRules(("owner", "member"))


@pytest.mark.parametrize(
    ("when", "claims", "allowed"),
    [
        ("user.attributes.department == 'sales'", {"attributes": {"department": "sales"}}, True),
        ("user.attributes.department == 'sales'", {"attributes": {"department": "support"}}, False),
        ("user.attributes.department != 'sales'", {}, False),
        ("has(user.attributes.department)", {}, False),
        ("has(user.attributes.department)", {"attributes": {"department": "x"}}, True),
        ("user.attributes.clearance >= 3", {"attributes": {"clearance": 3}}, True),
        ("'red' in user.attributes.teams", {"attributes": {"teams": ["blue", "red"]}}, True),
        ("user.tenant == 'acme'", {"tenants": {"acme": "owner"}, "tenant": "acme"}, True),
        ("user.tenant == null", {"tenants": {"acme": "owner"}}, True),
        ("user.tenant_role == 'owner'", {"tenants": {"acme": "owner"}, "tenant": "acme"}, True),
        ("user.tenant_role == null", {"tenants": {"acme": "owner"}, "tenant": "other"}, True),
        ("user.tenants['acme'] == 'owner'", {"tenants": {"acme": "owner"}}, True),
        ("'acme' in user.tenants", {"tenants": {"acme": "owner"}}, True),
        ("'acme' in user.tenants", {"tenants": {"acme": 1}}, False),
        ("user.tenant == null", {"tenant": {"id": 1}}, True),
        ("user.tenant == null", {"tenant": "a\r\nb"}, True),
    ],
)
def test_conditions_read_them(when: str, claims: dict[str, object], allowed: bool) -> None:
    assert decide(world(when), "GET /a", who(claims=claims)).allowed is allowed


def test_of_another_issuer_they_are_claims_alone() -> None:
    stranger = who(claims={"attributes": {"department": "sales"}, "tenant": "a", "tenants": {}})
    stranger.issuer = "company"
    routes = WORLD.replace("routes:", "issuers: {company: {issuer: https://i.example, audience: a}}"
                           "\nroutes:").replace("policy: p", "policy: p\n    issuers: [company]")  # fmt: skip
    assert decide(world("user.tenant == null", routes), "GET /a", stranger).allowed
    assert not decide(world("has(user.attributes.department)", routes), "GET /a", stranger).allowed


@pytest.mark.parametrize(
    ("path", "when", "allowed"),
    [
        ("/t/acme", "user.tenant == 'acme' && user.tenant_role == 'member'", True),
        ("/t/globex", "user.tenant_role == 'owner'", True),
        ("/t/elsewhere", "user.tenant == null && user.tenant_role == null", True),
        ("/a", "user.tenant == 'globex'", True),
    ],
)
def test_a_route_names_the_tenant(path: str, when: str, allowed: bool) -> None:
    caller = who(claims={"tenants": {"acme": "member", "globex": "owner"}, "tenant": "globex"})
    decision = decide(world(when), f"GET {path}", caller)
    assert decision.allowed is allowed
    assert decision.principal is not None
    assert caller.claims["tenant"] == "globex"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("department: {", "Department: {", "lower-case letters"),
        ("type: integer", "type: integr", "cannot be `integr`; did you mean `integer`?"),
        ("claim: dept", "claim: roles", "says something of its own"),
        ("claim: dept", "claim: 'a b'", "is no name of a claim"),
        ("active: {type: boolean}", "active: {claim: dept}", "that of `department` already"),
        ("active: {type: boolean}", "active: {type: boolean, values: [x]}", "`values` are those"),
        ("active: {type: boolean}", "active: {typ: x}", "unknown key `typ`"),
        ("[operator, provider]", "[operator, me]", "cannot be `me`"),
        ("{roles: [owner, member]}", "{}", "needs `roles:`"),
        ("{roles: [owner, member]}", "{roles: ['a b']}", "is no role"),
        ('tenant: "{org}"', 'tenant: "{orgs}"', "is a parameter of the path"),
        ('tenant: "{org}"', 'tenant: "acme"', "is a parameter of the path"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, problem: str) -> None:
    assert old in WORLD
    told = problems(WORLD.replace(old, new), _policy("true"))
    assert any(problem in line and line.startswith("routes.yaml:") for line in told), told


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        ("user.attributes.departmant == 'x'", "has no `departmant`; did you mean `department`?"),
        ("user.attributes.note == 'x'", "no token carries `note`"),
        ("user.attributes == {}", "written out"),
        ("user.attributes.clearance == 'high'", "never equal"),
        ("user.attributes.active", None),
        ("user.tenants['a'] == 1", "never equal"),
        ("user.tenant.name == 'x'", "has no fields"),
    ],
)
def test_a_condition_is_held_against_the_block(when: str, problem: str | None) -> None:
    if problem is None:
        world(when)
        return
    assert problem in problems(WORLD, _policy(when))[0]


def test_a_route_with_a_tenant_that_no_rule_looks_at_is_warned_of() -> None:
    notices = [str(one) for one in world("true").notices]
    assert any("names the tenant `{org}`, and no rule reads `user.tenant`" in n for n in notices)
    assert not any("names the tenant" in str(one) for one in world("user.tenant != null").notices)


@pytest.mark.parametrize(
    ("attribute", "value", "good"),
    [
        (Attribute("a"), "x", True),
        (Attribute("a"), "", False),
        (Attribute("a"), "x\ny", False),
        (Attribute("a"), "x" * 257, False),
        (Attribute("a"), 1, False),
        (Attribute("a", values=("x",)), "y", False),
        (Attribute("a", AttributeType.INTEGER), True, False),
        (Attribute("a", AttributeType.INTEGER), 2**53 + 1, False),
        (Attribute("a", AttributeType.INTEGER), -3, True),
        (Attribute("a", AttributeType.BOOLEAN), 1, False),
        (Attribute("a", AttributeType.LIST), ["x"] * 33, False),
        (Attribute("a", AttributeType.LIST), ["x", 1], False),
        (Attribute("a", AttributeType.LIST), "x", False),
        (Attribute("a", AttributeType.LIST, values=("x",)), ["x"], True),
        (Attribute("a", AttributeType.LIST, values=("x",)), ["y"], False),
    ],
)
def test_a_value_is_of_its_type(attribute: Attribute, value: object, good: bool) -> None:
    assert (attribute.problem(value) is None) is good


def test_headers_tell_the_backend() -> None:
    routes = WORLD.replace(
        "  - id: a\n",
        "  - id: a\n    identity_headers: [authgate, {name: X-Dept, value: "
        "'{user.attributes.department}'}, {name: X-Acme, value: '{user.tenants.acme}'}]\n",
    )
    read = world("true", routes)
    caller = who(
        claims={"attributes": {"department": "sales"}, "tenants": {"acme": "owner"},
                "tenant": "acme"}
    )  # fmt: skip
    route = decide(read, "GET /a", caller).route
    assert route is not None
    sent = dict(route.identity.texts(caller))
    assert {name: sent[name] for name in ("X-Dept", "X-Acme", "X-Auth-Tenant")} == {
        "X-Dept": "sales", "X-Acme": "owner", "X-Auth-Tenant": "acme",
    }  # fmt: skip
    assert sent["X-Auth-Tenant-Role"] == "owner"
    wrong = routes.replace("{user.attributes.department}", "{user.attributes.depart}")
    assert "has no `depart`" in problems(wrong, _policy("true"))[0]
