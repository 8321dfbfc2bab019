"""What stands beside an address, or is joined to one, is asked as it is written, in every spelling."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from collections.abc import ItemsView
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import read_expression
from gateway.access.conditions.mailboxes import named_mailboxes
from gateway.access.conditions.spelled_alike import Alike, is_plain
from gateway.access.conditions.worlds_alike import PolicyTables
from gateway.access.decision import Decision
from gateway.access.snapshot import Snapshot
from tests.access.decision_world import call_of
from tests.access.test_explanation import told
from tests.access.test_mailboxes import BODY, DATA, of
from tests.access.test_policies import OWN
from tests.access.worlds import decide, rule_world, snapshot
from tests.cpu_cost import cost_ratio

JOINED = """
version: 1
grants: {'ann@corp.test:Apollo': write, 'Ann@Corp.test:Apollo': write, 'ann@corp.test|ORD-17': write}
blocked: ['eve@x.example:Apollo', 'Apollo:eve@x.example']
dom: [xn--bcher-kva.example, Contoso.example]
pats: ['^bot\\S+@corp[.]test$']
role: {ann@corp.test: Lead@Corp}
"""


def _joined(rule: str) -> Snapshot:
    more = "" if rule.startswith("allow") else "  - {id: all, allow: ['*']}\n"
    return snapshot(BODY, f"policy: p\nrules:\n{more}  - {{id: r, {rule}}}\n", data__tables=JOINED)


@pytest.mark.parametrize(
    ("condition", "value", "email"),
    [
        ("resource.l == 'User:' + user.email", "User:ann@corp.test", "ann@corp.test"),
        ("resource.l == 'User:' + user.email", "User:Ann@Corp.test", "Ann@Corp.test"),
        ("(user.email + ':' + resource.l) in data.grants", "Apollo", "ann@corp.test"),
        ("(user.email + ':' + resource.l) in data.grants", "Apollo", "Ann@Corp.test"),
        ("data.grants[user.email + '|' + resource.l] == 'write'", "ORD-17", "ann@corp.test"),
        ("resource.l == 'Users/' + user.email", "Users/ann@corp.test", "ann@corp.test"),
        ("resource.l.startsWith('DOC-') && user.email != 'x@y'", "DOC-17@v2", "ann@corp.test"),
        ("resource.l.endsWith('.PDF') && user.email != 'x@y'", "scan@home.PDF", "Ann@Corp.test"),
        ("resource.l.matches('^[A-Z]+@v[0-9]+$') && user.email != 'x@y'", "DOC@v2", "Ann@Corp.test"),
        ("resource.l + '@corp.test' == user.email", "Ann", "Ann@corp.test"),
        ("user.email.startsWith(resource.l + '@')", "Ann", "Ann@corp.test"),
        ("user['email'].endsWith('Corp.test') && resource.l != 'y'", "x", "Ann@Corp.test"),
        ("data.dom.exists(d, user.email.endsWith('@' + d)) && resource.l != 'y'", "x",
         "eve@xn--bcher-kva.example"),
        ("data.dom.exists(d, user.email.endsWith('@' + d)) && resource.l != 'y'", "x",
         "Ann@Contoso.example"),
        ("user.roles.exists(r, has_role(r) && r == 'Team@Corp') && user.email != resource.l",
         "Bob@x.example", "ann@corp.test"),
        ("timestamp(resource.l) < now && user.email != 'x@y'", "2020-01-01T00:00:00Z",
         "Ann@Corp.test"),
        ("resource.l == 'Ann\\\\u0040Corp.test' && user.email == resource.l", "Ann@Corp.test",
         "Ann@Corp.test"),
        ("user.email.endsWith('.bücher.example') && resource.l != 'y'", "x",
         "ann@a.bücher.example"),
        ("user.email in resource.l && resource.l.all(e, e.matches('^[a-z0-9@.]+$'))",
         ["ann@corp.test"], "ann@corp.test"),
    ],
)  # fmt: skip
def test_what_is_joined_begins_or_ends_is_so_in_every_letter(
    condition: str, value: Any, email: str
) -> None:
    caller = dataclasses.replace(of(email), roles=("Team@Corp",))
    allowed = _joined(f"allow: ['*'], when: \"{condition}\"")
    assert decide(allowed, "POST /list", caller, body={"l": value}).allowed
    denied = _joined(f"deny: ['*'], when: \"!({condition})\"")
    assert decide(denied, "POST /list", caller, body={"l": value}).allowed


@pytest.mark.parametrize(
    ("condition", "value", "emails"),
    [
        ("(user.email + ':' + resource.l) in data.blocked", "Apollo", ["eve@x.example", "Eve@x.example"]),
        ("(resource.l + ':' + user.email) in data.blocked", "Apollo", ["eve@X.example", "Eve@x.example"]),
        ("data.pats.exists(p, user.email.matches(p))", "x", ["bot-7@corp.test", "Bot-7@CORP.test"]),
        ("data.dom.exists(d, user.email.endsWith('@' + d))", "x",
         ["eve@xn--bcher-kva.example", "eve@bücher.example", "Eve@Bücher.example"]),
        ("user.email.endsWith('.xn--p1ai')", "x", ["e@a.xn--p1ai", "e@a.рф"]),
        ("user.email.contains('xn--bcher-kva')", "x", ["e@xn--bcher-kva.example", "e@bücher.example"]),
        ("user.email.startsWith('groß.')", "x", ["groß.x@x.example", "Groß.x@x.example", "GROSS.x@x.example"]),
        ("user.email.startsWith('νίκος.')", "x", ["νίκος.x@x.example", "ΝΊΚΟΣ.x@x.example"]),
        ("user.email == 'Eve\\\\u0040x.example'", "x", ["eve@x.example", "EVE@x.example"]),
        ("user.email == resource.l", "Eve@X.example", ["eve@x.example", "EVE@x.example"]),
    ],
)  # fmt: skip
def test_what_is_joined_begins_or_ends_keeps_away_every_spelling(
    condition: str, value: Any, emails: list[str]
) -> None:
    world = _joined(f"deny: ['*'], when: \"{condition}\"")
    for email in emails:
        assert not decide(world, "POST /list", of(email), body={"l": value}).allowed
    assert decide(world, "POST /list", of("ann@corp.test"), body={"l": value}).allowed


def test_fields_keep_the_names_by_which_conditions_know_them() -> None:
    rules = "policy: p\nrules:\n  - {id: a, allow: ['*'], when: \"%s\"}\n"
    for condition in (
        "resource.l.ownerId == user.email && resource.l['ownerId'] != 'x@y'",
        "has(resource.l.ownerId) && 'ownerId' in resource.l && user.email != 'x@y'",
        "resource.l['Other Name'] == 'A' && user.email != 'x@y'",
        "request.headers['x-tenant'] == 'Acme' && user.email != 'x@y'",
        "user.claims.Group == 'Staff' && user.claims['https://ns/Roles'] == ['R'] && user.email != 'x@y'",
    ):
        world = snapshot(BODY, rules % condition)
        caller = of("Ann@Corp.test")
        claims = {**caller.claims, "Group": "Staff", "https://ns/Roles": ["R"]}
        caller = dataclasses.replace(caller, claims=claims)
        body = {"l": {"ownerId": "Ann@Corp.test", "Other Name": "A"}}
        decision = decide(world, "POST /list", caller, body=body, headers=(("X-Tenant", "Acme"),))
        assert decision.allowed, condition


def test_a_table_is_rewritten_once_for_all_rules_of_a_policy() -> None:
    class Counted(UserDict[str, Any]):
        read = 0

        def items(self) -> ItemsView[str, Any]:
            self.read += 1
            return super().items()

    table = Counted({"Eve@x.example": True})
    sources = [f"user.email in data.high && resource.x != '{number}'" for number in range(3)]
    conditions = [Condition(source, read_expression(source)) for source in sources]
    tables = PolicyTables({"high": table})
    for condition in conditions:
        named = named_mailboxes(condition, is_deny=True)
        assert named is not None
        tables.worlds(named)
    assert table.read == 1


@given(st.text(alphabet="aZ@x-n ß.ＡTZ:0", max_size=12))
def test_what_is_plain_reads_in_one_way_where_it_matters(text: str) -> None:
    for folds in (False, True):
        alike = Alike(folds=folds)
        alike.value({text: [text]})
        assert not (is_plain({text: [text]}) and alike.says_address)


@given(st.text(max_size=12), st.text(max_size=12))
def test_what_is_in_plain_letters_is_so_wherever_it_stands(one: str, other: str) -> None:
    alike = Alike(folds=False, is_bounded=False)
    for text in (one, other):
        assert alike.text(alike.text(text)) == alike.text(text)
    if one.isascii() and other.isascii() and "--" not in one + other and "T" not in one + other:
        assert alike.text(one + other) == alike.text(one) + alike.text(other)


NAMED = r"""
version: 1
blocked: {POST: [eve@x.example], Sales: [eve@x.example]}
may: {POST: [ann@corp.test, Bob@corp.test]}
teams: {Sales: {max: 5}}
people: {ann@corp.test: {team: Sales}, Bob@corp.test: {team: Sales}}
dom: [Contoso.example]
pre: [Svc-]
names: [Eve]
accts: {ann@corp.test: 'CORP\Ann', Bob@corp.test: 'CORP\Bob'}
"""
OTHER = (
    "resource.l == 'never' && (data.blocked.POST == [] || data.blocked.Sales == []"
    " || data.may.POST == [] || data.teams.Sales.max == 1 || resource.l.isAdmin || has(resource.l.dueDate))"
)


def _named(rule: str) -> Snapshot:
    more = "" if rule.startswith("allow") else "  - {id: all, allow: ['*']}\n"
    other = f"  - {{id: o, deny: ['*'], when: \"{OTHER}\"}}\n"
    return snapshot(
        BODY, f"policy: p\nrules:\n{more}{other}  - {{id: r, {rule}}}\n", data__tables=NAMED
    )


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("user.email in data.blocked[request.method]", "x"),
        ("resource.l in data.blocked && user.email in data.blocked[resource.l]", "Sales"),
        ("user.email == 'eve@x.example' && resource.l.field in ['isAdmin', 'role']", {"field": "isAdmin"}),
        ("user.email == 'eve@x.example' && 'isAdmin' in resource.l.fields", {"fields": ["isAdmin"]}),
        ("user.email == 'eve@x.example' && resource.l.p.exists(k, k in ['isAdmin'])", {"p": {"isAdmin": True}}),
        ("user.email == 'eve@x.example' && has(resource.l.isAdmin) && resource.l['isAdmin']", {"isAdmin": True}),
        ("data.names.exists(n, user.email == n + '@x.example')", "x"),
        ("user.email == resource.l + '@x.example'", "EVE"),
        ("user.email == resource.l + '@x.example'", "Ｅve"),
    ],
)  # fmt: skip
def test_a_field_is_what_it_is_in_a_key_or_a_value(condition: str, value: Any) -> None:
    world = _named(f"deny: ['*'], when: \"{condition}\"")
    for email in ("eve@x.example", "Eve@x.example", "eve@X.example"):
        assert not decide(world, "POST /list", of(email), body={"l": value}).allowed


@pytest.mark.parametrize("email", ["ann@corp.test", "Ann@Corp.test"])
@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("resource.l.sort in ['createdAt', 'name'] && (!has(resource.l.createdAt) || false) && user.email != 'x@Y'", {"sort": "createdAt"}),
        ("resource.l.all(k, k in ['title', 'dueDate']) && (!has(resource.l.dueDate) || resource.l.dueDate == 'A') && user.email != 'x@Y'", {"dueDate": "A"}),
        ("resource.l.matches('^/' + 'x' + '/\\\\\\\\S+$') && user.email != 'x@Y'", "/x/Yz"),
        ("resource.l.startsWith('2026-01-01T') && resource.l.endsWith('Z') && user.email != 'x@Y'", "2026-01-01T10:00:00Z"),
        ("timestamp(resource.l) < timestamp('2026-01-02T00:00:00+02:00') && user.email != 'x@Y'", "2026-01-01T10:00:00Z"),
        ("timestamp('2026-01-01' + 'T00:00:00Z') <= timestamp(resource.l) && user.email != 'x@Y'", "2026-01-01T10:00:00Z"),
        ("resource.l.startsWith('CORP\\\\\\\\') && user.email != 'x@Y'", "CORP\\Ann"),
    ],
)  # fmt: skip
def test_other_texts_are_what_they_are_beside_an_address(
    condition: str, value: Any, email: str
) -> None:
    world = _named(f"allow: ['*'], when: \"{condition}\"")
    assert decide(world, "POST /list", of(email), body={"l": value}).allowed


@pytest.mark.parametrize(
    "condition",
    [
        "user.email in data.may[request.method]",
        "user.email in data.people && data.teams[data.people[user.email].team].max > 1",
        "data.accts[user.email] == resource.l",
    ],
)
def test_who_is_in_a_table_passes_whoever_else_is_in_it(condition: str) -> None:
    world = _named(f"allow: ['*'], when: \"{condition}\"")
    assert decide(world, "POST /list", of("ann@corp.test"), body={"l": "CORP\\Ann"}).allowed


@pytest.mark.parametrize(
    ("condition", "email"),
    [
        ("data.dom.exists(d, user.email.endsWith('@' + d))", "eve@contoso.example"),
        ("['Contoso.example'].exists(d, user.email.endsWith('@' + d))", "eve@contoso.example"),
        ("data.pre.exists(p, user.email.startsWith(p))", "svc-1@x.example"),
        ("user.email.matches('^Svc-')", "svc-1@x.example"),
        ("user.claims['email'].endsWith('.Contoso.example')", "a@b.contoso.example"),
        ("user.email.endsWith('@' + user.claims.hd)", "eve@contoso.example"),
        ("user.claims.names.exists(n, user.email.startsWith(n))", "svc-1@x.example"),
        ("user.roles.exists(r, user.email.startsWith(r + '-'))", "svc-1@x.example"),
        ("user.email == 'Svc' + '-' + resource.l + '@x.example'", "svc-x@x.example"),
        ("user.email.matches('@XN--BCHER-KVA[.]example$')", "e@BÜCHER.example"),
        ("['ACME', 'GLOBEX'].exists(c, user.email.endsWith('@' + c + '.test'))", "eve@acme.test"),
        ("{'ACME': 1}.exists(c, user.email.contains(c))", "eve@acme.test"),
    ],
)
def test_a_part_in_capitals_keeps_away_who_writes_none(condition: str, email: str) -> None:
    world = _named(f"deny: ['*'], when: \"{condition}\"")
    claims = {"email": email, "hd": "Contoso.example", "names": ["Svc"]}
    caller = dataclasses.replace(of(email), claims=claims, roles=("Svc",))
    assert not decide(world, "POST /list", caller, body={"l": "x"}).allowed


CORP = {
    "sam": "CORP\\Adm-ann",
    "login": "AnnB",
    "groups": ["CORP\\Sales"],
    "dept": "Straßenbau Nord",
}


@pytest.mark.parametrize("email", ["ann@corp.test", "Ann@Corp.test"])
@pytest.mark.parametrize(
    ("condition", "value"),
    [
        (r"user.claims.sam.startsWith('CORP\\\\Adm-')", "x"),
        (r"resource.l == 'CORP\\\\' + user.claims.login", "CORP\\AnnB"),
        (r"user.claims.groups.exists(g, g == 'CORP\\\\' + resource.l)", "Sales"),
        (r"resource.l == 'AD\\\\' + user.email || resource.l == 'y'", "AD\\{}"),
        ("user.claims.dept.startsWith('Straßenbau')", "x"),
        ("resource.l.startsWith('Außen')", "Außendienst"),
        ("resource.l.startsWith('https://xn--bcher-kva.example/')", "https://xn--bcher-kva.example/A"),
        ("resource.l.startsWith('ΤΜΗΜΑ ΠΩΛΗΣ')", "ΤΜΗΜΑ ΠΩΛΗΣΕΩΝ"),
        ("resource.l.endsWith('Σ')", "ΟΔΟΣ"),
        ("user.email.matches('^(?P<n>[a-zA-Z]+)@(corp|Corp)[.]test$')", "x"),
    ],
)  # fmt: skip
def test_what_stands_beside_an_address_is_asked_as_it_is_written(
    condition: str, value: str, email: str
) -> None:
    world = _named(f"allow: ['*'], when: \"({condition}) && user.email != 'x@Y'\"")
    caller = dataclasses.replace(of(email), claims={"email": email, **CORP})
    assert decide(world, "POST /list", caller, body={"l": value.format(email)}).allowed


@pytest.mark.parametrize("email", ["ΝΊΚΟΣ.π@x.example", "Νίκος.π@x.example", "νίκος.π@x.example"])
def test_a_sigma_is_one_letter_wherever_it_stands(email: str) -> None:
    world = _named("deny: ['*'], when: \"['νίκος'].exists(p, user.email.startsWith(p))\"")
    assert not decide(world, "POST /list", of(email), body={"l": "x"}).allowed


def test_what_all_conditions_read_again_of_a_body_is_counted_together() -> None:
    rule = "  - {id: d%s, deny: ['*'], when: \"user.email.endsWith('@n%s.example') && resource.l != 'n'\"}\n"
    rules = "policy: p\nrules:\n  - {id: all, allow: ['*']}\n"
    world = snapshot(BODY, rules + "".join(rule % (number, number) for number in range(5)))
    for count, allowed in ((590, True), (610, False)):
        body = {"l": [f"A{number}@x.example" for number in range(count)]}
        assert decide(world, "POST /list", of("ann@x.example"), body=body).allowed is allowed


@pytest.mark.parametrize("count", [128, 129])
def test_what_names_more_encoded_hosts_than_are_read_keeps_away(count: int) -> None:
    rules = "policy: p\nrules:\n  - {id: all, allow: ['*']}\n  - {id: d, deny: ['*'], when: \"user.email in resource.l\"}\n"
    world = snapshot(BODY, rules)
    body = {"l": [f"xn--b{number}.example" for number in range(count)]}
    assert decide(world, "POST /list", of("ann@x.example"), body=body).allowed is (count == 128)


@pytest.mark.parametrize("text", ["xn--" + "b" * 59, "\ufdfa" * 20, "e" + "\u0301" * 20])
def test_what_a_call_brings_is_written_anew_at_little_cost_whatever_it_is(text: str) -> None:
    rule = "  - {id: d%s, deny: ['*'], when: \"resource.l == user.email && resource.l != '%s'\"}\n"
    rules = "policy: p\nrules:\n  - {id: all, allow: ['*']}\n"
    world = snapshot(BODY, rules + "".join(rule % (number, number) for number in range(3)))
    long, plain = {"l": text * (60_000 // len(text.encode()))}, {"l": "x" * 60_000}

    def asked(body: dict[str, str]) -> Decision:
        return decide(world, "POST /list", of("ann@x.example"), body=body)

    assert cost_ratio(lambda: asked(long)) < 4 + cost_ratio(lambda: asked(plain))


def test_an_explanation_leaves_the_policy_that_serves_as_it_is() -> None:
    rules = "policy: p\nrules:\n  - {id: all, allow: ['*']}\n  - {id: d, deny: ['*'], when: \"user.email in data.high\"}\n"
    world = snapshot(BODY, rules, data__tables=DATA)
    policy = next(route.policy for route in world.routes if route.policy is not None)
    made_up = dataclasses.replace(policy, data=PolicyTables({"high": []}))
    context = EvaluationContext(call_of("GET /"), of("EVE@x.example"), policy.roles, lambda: 0.0)
    for one, outcome in ((made_up, False), (policy, True), (made_up, False)):
        context.data = one.data
        assert one.rules[1].applies("", context) is outcome


def test_claims_that_lie_too_deep_keep_away() -> None:
    claims: dict[str, Any] = {"email": "ann@corp.test"}
    deep: Any = "x"
    for _ in range(2_000):
        deep = [deep]
    claims["deep"] = deep
    caller = dataclasses.replace(of("ann@corp.test"), claims=claims)
    world = rule_world("- {id: a, allow: ['*'], when: \"user.claims.email == 'ann@corp.test'\"}")
    assert not decide(world, OWN, caller).allowed


def test_texts_that_become_one_have_a_condition_read_again_so_many_times_only() -> None:
    rule = "  - {id: d%s, deny: ['*'], when: \"resource.l.exists(l, l.by == user.email || l.by == 'n%s')\"}\n"
    rules = "policy: p\nrules:\n  - {id: all, allow: ['*']}\n"
    world = snapshot(BODY, rules + "".join(rule % (number, number) for number in range(5)))
    for count, allowed in ((490, True), (510, False)):
        body = {"l": [{"by": ("A@a", "a@a", "b@b")[number % 3]} for number in range(count)]}
        assert decide(world, "POST /list", of("ann@x.example"), body=body).allowed is allowed


def test_an_explanation_asks_each_rule_by_itself() -> None:
    rule = "  - {id: d%s, deny: ['*'], when: \"user.email.endsWith('@n%s.example') && resource.l != 'n'\"}\n"
    rules = "policy: p\nrules:\n  - {id: all, allow: ['*']}\n"
    world = snapshot(BODY, rules + "".join(rule % (number, number) for number in range(3)))
    body = {"l": [f"A{number}@x.example" for number in range(900)]}
    evaluations = told(world, "POST /list", of("ann@x.example"), body=body).evaluations
    assert [one.outcome for one in evaluations if one.rule != "all"] == ["does not apply"] * 3
    assert {one.note for one in evaluations} == {""}
