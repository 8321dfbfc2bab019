"""`gateway diff` of what only begins, ends or is filled like something, and of methods."""

from __future__ import annotations

from itertools import combinations

import pytest

from bench.differences import Reader, Tally, check, disagreements
from gateway.access.simulation import FixedClock, SimulatedRequest
from gateway.access.snapshot import Snapshot
from gateway.review.affixes import affixed, met_by
from gateway.review.diff import compare
from tests.access.worlds import NOW, rule_world, snapshot, who

DATA = """
version: 1
methods: [GET]
more: [GET, MKCOL]
needed: [ann, bob]
callers: {GET: [ann], LOCK: [zoe]}
first: m
last: p
"""


def world(when: str, keys: str = "", data: str = DATA) -> Snapshot:
    return snapshot(
        f"""
        - id: a
          match: {{path: "/a/{{x}}"}}
          policy: p
          upstream: api
          {keys}
        """,
        f'policy: p\nrules:\n  - {{id: r, allow: ["*"], when: "{when}"}}\n',
        data__tables=data,
    )


def gained(old: Snapshot, new: Snapshot) -> list[str]:
    """Who gains what, without the place; and that all could be tried."""
    report = compare(old, new)
    assert report.inexact == []
    lines = [str(one) for one in report.changes if one.gains]
    return [line.replace(" /a/{x} (policies/p0.yaml:4)", "") for line in lines]


ROLES = [
    ("user.roles.exists(r, r.startsWith('x-'))", "user.roles.exists(r, r.startsWith('x'))",
     "xanother-role GAINS any method"),
    ("'admin' in user.roles", "user.roles.exists(r, r.startsWith('adm'))",
     "adm-another-role GAINS any method"),
    ("'admin' in user.roles", "'admin' in user.roles || user.roles.exists(r, r.endsWith('-ext'))",
     "another-role-ext GAINS any method"),
    ("'admin' in user.roles", "'admin' in user.roles || user.roles.exists(r, r.contains('dm'))",
     "another-role-dm GAINS any method"),
    ("user.roles.all(r, r.startsWith('a'))", "user.roles.all(r, r.startsWith('a') || r == 'b')",
     "b GAINS any method"),
    ("user.roles.exists(r, r.startsWith('a') && r.endsWith('z'))",
     "user.roles.exists(r, r.startsWith('a')) && user.roles.exists(r, r.endsWith('z'))",
     "a-another-role+qz GAINS any method"),
    # A name that is spelled as one would be made up.
    ("'another-role' in user.roles", "user.roles.exists(r, r != 'guest' && r != 'another-role')",
     None),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line"), ROLES)
def test_a_role_that_begins_or_ends_so_is_told(old: str, new: str, line: str | None) -> None:
    told = gained(world(old), world(new))
    assert len(told) == 1
    assert line is None or told == [line]


def test_whoever_a_deny_by_the_end_of_a_role_kept_out_gains_without_it() -> None:
    allow = "- {id: a, allow: ['*']}"
    deny = "\n- {id: d, deny: ['*'], when: \"user.roles.exists(r, r.endsWith('-ext'))\"}"
    (line,) = (str(one) for one in compare(rule_world(allow + deny), rule_world(allow)).changes)
    assert line.startswith("another-role-ext GAINS any method")


def test_a_role_of_the_policy_that_begins_so_is_told_by_its_name() -> None:
    rules = (
        "- {id: a, allow: role-permissions, when: \"!user.roles.exists(r, r.startsWith('x-'))\"}"
    )
    roles = "viewer: [orders:read]\nx-viewer: [orders:read]"
    new = rule_world("- {id: a, allow: role-permissions}", roles=roles)
    lines = [str(one) for one in compare(rule_world(rules, roles=roles), new).changes]
    assert any(line.startswith("x-viewer") or " x-viewer" in line for line in lines), lines


METHODS = [
    ("request.method in ['GET', 'PROPFIND']", "request.method in ['GET', 'PROPFIND', 'MKCOL', 'MOVE']",
     "MKCOL,MOVE"),
    ("request.method == 'GET'", "request.method == 'GET' || request.method == 'PURGE'", "PURGE"),
    ("request.method != 'PUT' && request.method != 'MKCOL'", "request.method != 'PUT'", "MKCOL"),
    ("request.method in data.methods", "request.method in data.more", "MKCOL"),
    ("request.method == 'GET'", "request.method.startsWith('G')", "G-OTHER"),
    ("request.method == 'GET'", "request.method != 'OTHER'",
     "z,POST,PUT,PATCH,DELETE,HEAD"),
    ("user.id in data.callers['GET'] && request.method == 'GET'", "user.id in data.callers[request.method]",
     "LOCK"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "methods"), METHODS)
def test_a_method_that_conditions_or_tables_name_is_told(old: str, new: str, methods: str) -> None:
    (line,) = gained(world(old), world(new))
    said = line.partition(" GAINS ")[2].partition(" ")[0]
    assert sorted(said.split(",")) == sorted(methods.split(","))


def test_a_method_that_is_added_to_a_table_is_told() -> None:
    rule = "request.method in data.methods"
    assert gained(world(rule), world(rule, data=DATA.replace("[GET]", "[GET, MKCOL]"))) == [
        "everyone signed in GAINS MKCOL"
    ]


def test_a_deny_of_a_method_that_goes_is_told() -> None:
    allow = "- {id: a, allow: ['*']}"
    deny = "\n- {id: d, deny: ['*'], when: \"request.method == 'PURGE'\"}"
    (line,) = (str(one) for one in compare(rule_world(allow + deny), rule_world(allow)).changes)
    assert line.startswith("everyone signed in GAINS PURGE /orders/{id}")


SIX = [f"'g{n}' in user.claims.groups" for n in range(7)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Between two numbers that lie close.
        ("user.claims.level >= 3.2", "user.claims.level > 3"),
        ("now - user.auth_time < duration('300s')", "now - user.auth_time < duration('300500ms')"),
        # The text that is made up is one that is compared with.
        ("request.params.x == 'n'", "request.params.x.startsWith('x') && request.params.x != 'xz'"),
        # Texts in their order.
        ("false", "request.params.x > data.first && request.params.x < data.last"),
        # All that a table lists, and not one of it.
        ("false", "data.needed.all(r, r in user.roles)"),
        ("false", "data.needed.all(r, has_role(r))"),
        ("false", "!data.needed.exists(r, !(r in user.roles))"),
        ("false", "data.needed.all(r, r in user.claims.groups)"),
        ("false", "data.needed.all(r, r in user.attributes.teams)"),
        # Some of many that a claim holds.
        (" && ".join(SIX), " && ".join(SIX[:4])),
        # One of what a condition lists.
        ("'x-y' in user.roles", "[request.params.x, user.id].exists(v, v.startsWith('adm'))"),
    ],
)
def test_what_is_told_apart_only_by_several_values_is_told(old: str, new: str) -> None:
    def of(when: str) -> Snapshot:
        routes = """
        version: 1
        attributes: {teams: {type: list}}
        upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
        routes:
          - {id: a, match: {path: "/a/{x}"}, policy: p, upstream: api}
        """
        rule = f'policy: p\nrules:\n  - {{id: r, allow: ["*"], when: "{when}"}}\n'
        return snapshot(routes, rule, data__tables=DATA)

    report = compare(of(old), of(new))
    assert any(change.gains for change in report.changes)


@pytest.mark.parametrize("when", ["contains('b')", "endsWith('b')", "contains('one')"])
def test_a_part_of_the_id_of_another_issuers_caller_is_told(when: str) -> None:
    def of(rule: str) -> Snapshot:
        return snapshot(
            """
            version: 1
            issuers: {company: {issuer: "https://id.example", audience: api}}
            upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
            routes:
              - {id: a, match: {path: /a}, policy: p, issuers: [own, company], upstream: api}
            """,
            f"""
            policy: p
            rules:
              - {{id: r, allow: ["*"], when: "{rule}"}}
              - {{id: d, deny: ["*"], when: "user.issuer == 'own'"}}
            """,
        )

    (change,) = compare(of("false"), of(f"user.id.{when}")).changes
    assert change.caller() == "everyone signed in with a token of company"
    assert [one.source for one in change.where] == [f"user.id.{when}"]


@pytest.mark.parametrize("when", ["request.params.x.startsWith('a/')", "request.params.x == 'a/b'"])
def test_an_encoded_slash_is_judged_by_what_conditions_ask_of_it(when: str) -> None:
    assert len(gained(world(when), world(when, "allow_encoded_slash: true"))) == 1


def test_more_lists_than_can_be_tried_may_widen() -> None:
    many = " && ".join(f"'g{n}' in user.claims.groups" for n in range(14))
    report = compare(world(many), world(many.rpartition(" && ")[0]))
    assert report.may_widen


OF_ROLES = [
    "'x-ops' in user.roles",
    "user.roles.exists(r, r.startsWith('x-'))",
    "user.roles.exists(r, r.startsWith('x'))",
    "user.roles.all(r, r.endsWith('-ext'))",
    "user.roles.exists(r, r.contains('ol') && !r.startsWith('x'))",
    "user.roles.all(r, r != 'xtra')",
    "data.needed.all(r, r in user.roles)",
    "data.needed.exists(r, r in user.roles)",
]
ODD_ROLES = ["x-ops", "xtra", "b-ext", "xolo-ext", "role", "ann", "bob"]


@pytest.mark.parametrize("old", OF_ROLES)
def test_of_every_set_of_odd_roles_what_is_told_is_what_both_sides_decide(old: str) -> None:
    sets = [held for n in range(4) for held in combinations(ODD_ROLES, n)]
    before = world(old)
    for new in OF_ROLES:
        after = world(new)
        reader = Reader(before, after, compare(before, after))
        assert not reader.inexact
        for held in sets:
            asked = SimulatedRequest("GET", "/a/b", who("mine", *held), clock=FixedClock(NOW))
            assert list(disagreements(reader, asked)) == [], (new, held)


def test_diff_agrees_with_deciding_both_ways_on_what_is_rare() -> None:
    """Beginnings of roles, odd methods, all of a list, routes that answer by themselves."""
    tally = Tally()
    for seed in range(1, 100):
        check(seed, 15, tally, odd=True)
    assert tally.wrong == []
    assert tally.gains > 3
    assert tally.losses


def test_a_line_counts_what_are_too_many_roles_and_methods() -> None:
    names = ", ".join(f"N{number}" for number in range(40))
    data = f"version: 1\nnames: [{names}]\n"
    by_role = world("data.names.exists(r, r in user.roles)", data=data)
    assert gained(world("false", data=data), by_role) == [
        "N0 or N1 or N10 or N11 or N12 or N13 or N14 or N15 or one of 32 more GAINS any method"
    ]
    every = world("data.names.all(r, r in user.roles)", data=data)
    assert gained(world("false", data=data), every) == [
        "N0+N1+N10+N11+N12+N13+N14+N15+32 more GAINS any method"
    ]
    by_method = world("request.method in data.names", data=data)
    (line,) = gained(world("false", data=data), by_method)
    assert line.endswith(",N10,N11,28 more methods")


def test_made_up_texts_stand_for_every_way_to_begin_and_end() -> None:
    asked = [("startsWith", "x"), ("startsWith", "x-"), ("endsWith", "-ext"), ("contains", "role")]
    found = {met_by(text, asked) for text in affixed(asked, readable="another-role")}
    for text in ("y", "x", "x-y", "xy-ext", "x-ext", "role", "x-role-ext", "y-ext", "xrole"):
        assert met_by(text, asked) in found


def test_a_made_up_text_is_never_one_that_is_taken() -> None:
    taken = {"xz", "xzz", "z"}
    assert not taken & set(affixed([("startsWith", "x")], taken))
