"""Who gains, who loses: nothing missed, nothing made up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.differences import Reader, Tally, check, disagreements
from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.simulation import FixedClock, SimulatedRequest
from gateway.access.snapshot import Snapshot
from gateway.model import Principal, Reason
from gateway.review.diff import Report, compare
from gateway.review.parts import taken_apart
from tests.access.worlds import NOW, rule_world, snapshot, who

ROLES = "viewer: [orders:read]\nlead: {inherits: [viewer], permissions: [orders:*]}"


def changes(old: str, new: str, roles: tuple[str, str] = (ROLES, ROLES)) -> list[str]:
    report = compare(rule_world(old, roles=roles[0]), rule_world(new, roles=roles[1]))
    assert report.inexact == []
    return [str(change) for change in report.changes]


OWN = "- {id: own, allow: [orders:read], when: resource.owner == user.id}"


def test_the_same_configuration_changes_nothing_and_asks_nothing() -> None:
    report = compare(rule_world(OWN), rule_world(OWN))
    assert (report.changes, report.decisions) == ([], 0)


def test_the_owner_who_loses_is_named_with_the_line() -> None:
    assert changes(OWN, "- {id: a, allow: role-permissions}") == [
        "everyone signed in as {id} LOSES any method /orders/{id} (policies/p0.yaml:7)"
        " unless lead or viewer",
        "lead or viewer GAINS any method /orders/{id} (policies/p0.yaml:7)",
    ]


def test_a_role_that_gets_a_permission_gains() -> None:
    rule = "- {id: a, allow: role-permissions}"
    assert changes(rule, rule, (ROLES, ROLES + "\nguest: [orders:read]")) == [
        "guest GAINS any method /orders/{id} (policies/p0.yaml:8)"
    ]


def test_what_only_two_roles_together_do_is_found() -> None:
    old = "- {id: a, allow: role-permissions}"
    new = old + "\n- {id: d, deny: ['*'], when: \"'frozen' in user.roles\"}"
    assert changes(old, new) == [
        "(lead or viewer)+frozen LOSES any method /orders/{id} (policies/p0.yaml:8)"
    ]


def test_a_network_is_told_by_its_addresses() -> None:
    new = OWN.replace(
        "resource.owner == user.id",
        "\"resource.owner == user.id && in_cidr(client.ip, '10.0.0.0/8')\"",
    )
    assert changes(OWN, new) == [
        "everyone signed in as {id} LOSES any method /orders/{id} (policies/p0.yaml:7)"
        " from outside 10.0.0.0/8"
    ]


def test_the_same_condition_has_the_same_outcome_on_both_sides() -> None:
    one = "- {id: a, allow: ['*'], when: user.email_verified}"
    two = "- {id: b, allow: [orders:read], when: user.email_verified}"
    assert changes(one, two) == []


def test_a_route_that_goes_or_comes_is_a_change() -> None:
    a = "- {id: a, match: {path: /a, methods: [GET]}, policy: signed-in, upstream: api}\n"
    b = "- {id: b, match: {path: /b, methods: [GET]}, auth: public, upstream: api}\n"
    said = [str(change) for change in compare(snapshot(a), snapshot(b)).changes]
    assert said == [
        "everyone GAINS GET /b (routes.yaml:11)",
        "everyone signed in LOSES GET /a (routes.yaml:11)",
    ]


def test_a_more_specific_route_takes_over() -> None:
    a = "- {id: a, match: {path: '/a/{x}', methods: [GET]}, auth: public, upstream: api}\n"
    b = (
        a
        + "- {id: b, match: {path: '/a/{x:int}', methods: [GET]}, policy: signed-in, upstream: api}\n"
    )
    said = [str(change) for change in compare(snapshot(a), snapshot(b)).changes]
    assert said == ["anonymous LOSES GET /a/{x:int} (routes.yaml:12)"]


def test_a_step_up_takes_access_from_a_stale_sign_in() -> None:
    new = OWN.replace("}", ", step_up: {max_age: 5m}}")
    assert changes(OWN, new) == [
        "everyone signed in as {id} without a fresh sign-in LOSES any method /orders/{id}"
        " (policies/p0.yaml:7)"
    ]


def test_eight_claims_are_tried_in_every_combination() -> None:
    parts = " && ".join(f"user.claims.c{i} == 1" for i in range(8))
    new = f"- {{id: a, allow: ['*'], when: '{parts}'}}"
    report = compare(rule_world("- {id: a, allow: ['*']}"), rule_world(new))
    assert (len(report.changes), report.inexact) == (1, [])


def test_a_rewrite_that_bypasses_a_route_on_some_paths_is_told_of_those() -> None:
    old = (
        "- {id: a, match: {path: '/v1/{rest:path}', methods: [GET]}, auth: public, upstream: api,"
        " rewrite: {strip_prefix: /v1}}\n"
    )
    new = (
        old + "- {id: b, match: {path: '/x/{y}', methods: [GET]}, policy: signed-in, upstream: api}"
    )
    said = [str(change) for change in compare(snapshot(old), snapshot(new)).changes]
    assert said == [
        "everyone LOSES GET /v1/{rest:path} (routes.yaml:11) on paths such as /v1/x/other-y",
        "everyone signed in GAINS GET /x/{y} (routes.yaml:12)",
    ]


@pytest.mark.parametrize("count", [1, 8])
def test_what_cannot_be_judged_here_may_widen(count: int) -> None:
    parts = " || ".join(f"user.email.matches('a{i}.*')" for i in range(count))
    new = f'- {{id: a, allow: ["*"], when: "{parts}"}}'
    report = compare(rule_world("[]"), rule_world(new))
    assert (report.may_widen, report.widened) == (True, False)
    assert "MAY GAIN" in str(report.changes[0])
    assert bool(report.inexact) is (count > 4)


def test_a_part_that_cannot_be_judged_has_the_same_outcome_on_both_sides() -> None:
    old = "- {id: a, allow: ['*'], when: \"user.email.matches('a.*')\"}"
    new = "- {id: b, allow: [orders:read], when: \"user.email.matches('a.*')\"}"
    assert changes(old, new) == []


@pytest.mark.parametrize("host", ["corp.example", "Corp.example", "xn--strae-oqa.example"])
def test_what_names_an_address_beside_what_is_not_known_is_told(host: str) -> None:
    old = "- {id: a, allow: ['*'], when: has_role('nobody')}"
    condition = (
        f"user.email.endsWith('@{host}') && user.email != 'eve@{host}'"
        " && resource.owner.matches('^7[0-9]$')"
    )
    new = f'{old}\n- {{id: b, allow: ["*"], when: "{condition}"}}'
    report = compare(rule_world(old), rule_world(new))
    assert report.may_widen
    assert any("MAY GAIN" in str(change) for change in report.changes)


def test_a_part_that_cannot_be_judged_is_another_where_its_table_was_changed() -> None:
    rule = "data.lead.contains(user.id) || size(data.lead) > 3"
    report = compare(table_world(rule, "lead: ann"), table_world(rule, "lead: anna"))
    assert report.may_widen


def test_a_rewrite_that_now_bypasses_a_route_is_a_change() -> None:
    v1 = "- {id: a, match: {path: '/v1/x', methods: [GET]}, auth: public, upstream: api, rewrite: {strip_prefix: /v1}}\n"
    new = v1 + "- {id: b, match: {path: /x, methods: [GET]}, policy: signed-in, upstream: api}\n"
    said = [str(change) for change in compare(snapshot(v1), snapshot(new)).changes]
    assert said[0] == "everyone LOSES GET /v1/x (routes.yaml:11)"


TABLES = """
teams:
  acme: {members: [ann, bob], admins: [ann], plan: gold}
  tiny: {members: [tim], admins: [tim], plan: free}
office: [10.0.0.0/8]
until: "2027-01-20T00:00:00Z"
"""


def table_world(rule: str, tables: str = TABLES, **more: str) -> Snapshot:
    routes = """
    - id: orders
      match: {path: "/teams/{team}", methods: [GET]}
      policy: p
      action: orders:read
      resource: {team: "{team}"}
      upstream: api
    """
    for old, new in more.items():
        routes = routes.replace(old, new)
    policy = f"policy: p\nroles: {{viewer: [orders:read]}}\nrules:\n  - {{id: a, allow: ['*'], when: \"{rule}\"}}\n"
    return snapshot(routes, policy, data__tables="version: 1\n" + tables)


def of_tables(rule: str, old: str, new: str) -> Report:
    assert old in TABLES
    return compare(table_world(rule), table_world(rule, TABLES.replace(old, new)))


MEMBERS = "user.id in data.teams[resource.team].members"
EDITS = [
    (MEMBERS, "[ann, bob]", "[ann, bob, carl]",
     'everyone signed in GAINS GET /teams/{team} (L) where user.id is "carl" and {team} is "acme"'),
    (MEMBERS, "[ann, bob]", "[ann]",
     'everyone signed in LOSES GET /teams/{team} (L) where user.id is "bob" and {team} is "acme"'),
    (MEMBERS, "  tiny: {members: [tim]", "  new: {members: [x, y]}\n  tiny: {members: [tim]",
     'everyone signed in GAINS GET /teams/{team} (L) where user.id is "x" or "y" and {team} is "new"'),
    (MEMBERS + " && data.teams[resource.team].plan == 'gold'", "plan: free", "plan: gold",
     'everyone signed in GAINS GET /teams/{team} (L) where {team} is "tiny" and `' + MEMBERS + "` is true"),
    ("data.office.exists(n, in_cidr(client.ip, n))", "10.0.0.0/8", "10.0.0.0/9",
     "everyone signed in LOSES GET /teams/{team} (L) from 10.128.0.0/9"),
    ("data.office.exists(n, in_cidr(client.ip, n))", "[10.0.0.0/8]", "[10.0.0.0/8, 192.168.1.0/24]",
     "everyone signed in GAINS GET /teams/{team} (L) from 192.168.1.0/24"),
    ("data.office.exists(n, in_cidr(client.ip, n))", "[10.0.0.0/8]", "[]",
     "everyone signed in LOSES GET /teams/{team} (L) from 10.0.0.0/8"),
    ("resource.team in data.teams", "  tiny: {", "  new: {members: []}\n  tiny: {",
     'everyone signed in GAINS GET /teams/{team} (L) where {team} is "new"'),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "old", "new", "line"), EDITS)
def test_an_edit_of_a_table_is_told_in_one_line(rule: str, old: str, new: str, line: str) -> None:
    report = of_tables(rule, old, new)
    assert [str(change).replace("policies/p0.yaml:5", "L") for change in report.changes] == [line]
    assert (report.widened, report.may_widen) == ("GAINS" in line, False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("in_cidr(client.ip, '10.0.0.0/8')", "in_cidr(client.ip, '10.0.0.0/9')", "LOSES"),
        ("in_cidr(client.ip, '10.0.0.0/8')", "in_cidr(client.ip, '10.0.0.0/7')", "GAINS"),
        ("client.ip == '10.0.0.7'", "client.ip == '10.0.0.7' || client.ip == '10.0.0.8'", "GAINS"),
        ("now.getHours() < 17", "now.getHours() < 18", "GAINS"),
        ("now < timestamp('2027-02-01T00:00:00Z')", "now < timestamp('2027-03-01T00:00:00Z')", "GAINS"),
        ("now - user.auth_time < duration('1h')", "now - user.auth_time < duration('5m')", "LOSES"),
        ("user.claims.level >= 3", "user.claims.level >= 2", "GAINS"),
        ("has(user.claims.tier)", "user.claims.tier == 'gold'", "LOSES"),
        ("'a' in user.claims.groups", "'a' in user.claims.groups || 'b' in user.claims.groups", "GAINS"),
        ("request.headers['x-a'].startsWith('E')", "request.headers['x-a'].startsWith('EM')", "LOSES"),
        ("'page' in request.query", "request.query['page'] == '1'", "LOSES"),
        ("resource.team == 'acme'", "resource.team in ['acme', 'tiny']", "GAINS"),
        ("resource.team == user.id", "user.email_verified && resource.team == user.id", "LOSES"),
        ("has_role('viewer')", "has_role('viewer') || has_role('lead')", "GAINS"),
        ("has_role('viewer')", "has_role('viewer') && user.email.endsWith('@a.example')", "LOSES"),
        ("has_scope('orders:write')", "true", "GAINS"),
        (MEMBERS, "user.id in data.teams[resource.team].admins", "LOSES"),
        (MEMBERS, MEMBERS + " || user.id in data.teams.acme.admins", "GAINS"),
    ],
)  # fmt: skip
def test_an_edit_of_a_condition_is_told_in_one_line(old: str, new: str, said: str) -> None:
    report = compare(table_world(old), table_world(new))
    assert [said in str(change) for change in report.changes] == [True], report.changes
    assert (report.inexact, report.may_widen) == ([], False)


def test_a_route_that_takes_another_method_is_told_in_one_line() -> None:
    report = compare(
        table_world("user != null"), table_world("user != null", **{"[GET]": "[GET, PUT]"})
    )
    assert [str(c) for c in report.changes] == [
        "everyone signed in GAINS PUT /teams/{team} (policies/p0.yaml:5)"
    ]


def test_parameters_may_be_named_anew() -> None:
    assert (
        compare(
            table_world("resource.team == user.id"),
            table_world("resource.team == user.id", **{"{team}": "{group}"}),
        ).changes
        == []
    )


@pytest.mark.parametrize(
    ("source", "atoms"),
    [
        ("a && b || !(c)", ["a", "b", "c"]),
        ("user.id == 'a && b' && (x || y)", ["user.id == 'a && b'", "x", "y"]),
        ("a ? b : c && d", ["a ? b : c && d"]),
        (
            "user.roles.exists(r, r == 'x' || r == 'y')",
            ["user.roles.exists(r, r == 'x' || r == 'y')"],
        ),
        ("((a))", ["a"]),
        ("!a", ["a"]),
        ("(a) || (b)", ["a", "b"]),
    ],
)
def test_a_condition_is_taken_apart_at_its_connectives(source: str, atoms: list[str]) -> None:
    names = {"a": "user.email_verified", "b": "user != null", "c": "has_role('c')",
             "d": "has_role('d')", "x": "has_role('x')", "y": "has_role('y')"}  # fmt: skip

    def filled(text: str) -> str:
        import re

        return re.sub(r"(?<![\w.'])([abcdxy])(?![\w'(])", lambda m: names[m.group(1)], text)

    plain = "'" in source
    given_source = (
        source.replace("x || y", f"{names['x']} || {names['y']}") if plain else filled(source)
    )
    condition = ConditionCompiler().compile(given_source)
    assert isinstance(condition, Condition), condition
    wanted = [names.get(atom, atom if plain else filled(atom)) for atom in atoms]
    assert [atom.source for atom in taken_apart(condition).atoms()] == wanted


# Against brute force

CONDITIONS = st.sampled_from(
    [None, "resource.owner == user.id", "'a' in user.roles", "has_role('viewer')",
     "'b' in user.roles && resource.owner != user.id", "user != null"]
)  # fmt: skip
RULES = st.tuples(
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(['["*"]', "[orders:read]", "[orders:write]", "role-permissions"]),
    CONDITIONS,
).filter(lambda rule: rule[:2] != ("deny", "role-permissions"))
WORLDS = st.tuples(st.lists(RULES, max_size=4), st.sampled_from(["required", "optional"]))


def world_of(made: tuple[list[tuple[str, str, str | None]], str]) -> Snapshot:
    rules, auth = made
    lines = [
        f"- {{id: r{n}, {effect}: {actions}" + (f', when: "{when}"' if when else "") + "}"
        for n, (effect, actions, when) in enumerate(rules)
    ]
    return rule_world("\n".join(lines) or "[]", roles=ROLES, route=f"auth: {auth}")


@settings(deadline=None, max_examples=60)
@given(WORLDS, WORLDS)
def test_what_is_told_of_every_set_of_roles_is_what_both_sides_decide(
    old: tuple[list[tuple[str, str, str | None]], str],
    new: tuple[list[tuple[str, str, str | None]], str],
) -> None:
    before, after = world_of(old), world_of(new)
    reader = Reader(before, after, compare(before, after))
    nobody: Principal | Reason = Reason.NO_CREDENTIAL
    for caller in (nobody, *callers()):
        asked = SimulatedRequest("GET", "/orders/mine", caller, clock=FixedClock(NOW))
        assert list(disagreements(reader, asked)) == []


def callers() -> Iterator[Principal]:
    """The owner and a stranger, with every set of the roles."""
    roles = ["a", "b", "viewer", "lead"]
    for held in chain.from_iterable(combinations(roles, n) for n in range(5)):
        for subject in ("mine", "somebody"):
            yield who(subject, *held)


def test_diff_agrees_with_deciding_both_ways() -> None:
    tally = Tally()
    for seed in range(520, 600):
        check(seed, 15, tally)
    # Pairs of which it once told something else.
    for seed in (40232, 40574, 40863, 61341, 61776, 101484, 201391, 300318):
        check(seed, 25, tally)
    assert tally.wrong == []
    assert tally.gains > 3
    assert tally.losses > 2


PREFIX = "- {id: a, match: {prefix: /app%s}, auth: public, upstream: api}"


def test_a_prefix_that_comes_is_told_in_one_line() -> None:
    (change,) = of_routes("- {id: z, match: {path: /z}, auth: public, upstream: api}", PREFIX % "")
    assert "anonymous" in change or "everyone" in change
    assert "GAINS any method /app/**" in change


def of_routes(old: str, new: str) -> list[str]:
    keep = "- {id: z, match: {path: /z}, auth: public, upstream: api}"
    sides = [text if text == keep else f"{keep}\n{text}" for text in (old, new)]
    return [str(one) for one in compare(snapshot(sides[0]), snapshot(sides[1])).changes]


def test_a_rest_that_becomes_a_prefix_gains_the_bare_name_and_the_slash() -> None:
    rest = "- {id: a, match: {path: '/app/{x:path}'}, auth: public, upstream: api}"
    told = of_routes(rest, PREFIX % "")
    assert [line.split(" (")[0].rpartition(" ")[2] for line in told] == ["/app", "/app/"]
    assert all("GAINS" in line for line in told)
    assert of_routes(PREFIX % "", PREFIX % "") == []


def test_what_a_more_specific_route_keeps_from_a_prefix_is_no_change() -> None:
    inner = "\n- {id: b, match: {path: /app/x}, policy: signed-in, upstream: api}"
    told = of_routes(PREFIX % "" + inner, PREFIX % "")
    assert len(told) == 1
    assert "GAINS any method /app/x" in told[0]


@pytest.mark.parametrize("accept", ["[cookie]", "[api_key, basic]"])
def test_a_route_that_takes_no_token_is_asked_with_what_it_takes(accept: str) -> None:
    """An access token was presented to it, and both sides refused it alike."""
    old, new = (
        rule_world(
            f"- {{id: a, allow: ['*'], when: has_role('{role}')}}", route=f"accept: {accept}"
        )
        for role in ("viewer", "lead")
    )
    kinds = accept.strip("[]").replace(", ", " or ")
    told = [str(change) for change in compare(old, new).changes]
    assert told == [
        f"viewer with {kinds} LOSES any method /orders/{{id}} (policies/p0.yaml:4) unless lead+viewer",
        f"lead with {kinds} GAINS any method /orders/{{id}} (policies/p0.yaml:4)",
    ]
