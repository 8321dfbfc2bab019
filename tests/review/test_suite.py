"""Tests of policies: coverage, mutants, flips and JUnit."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

import pytest

from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.edge.replies.problems import problem_type
from gateway.model import Principal, Reason
from gateway.review.cases import Case, read_cases
from gateway.review.counterfactuals import find_counterfactuals
from gateway.review.coverage import coverage
from gateway.review.junit import junit
from gateway.review.mutants import mutants, mutation_report
from gateway.review.suite import CaseResult, run_cases
from tests.access.worlds import NOW, rule_world, snapshot, who

WORLD = rule_world(
    """
    - {id: own, allow: [orders:read], when: resource.owner == user.id, reason: not_yours}
    - {id: lead, allow: role-permissions}
    - {id: frozen, deny: ["*"], when: "'frozen' in user.roles"}
    """,
    roles="lead: [orders:*]",
)
HEAD = """
version: 1
people:
  anna: {id: u1}
  lead: {id: l1, roles: [lead]}
  frozen: {id: u1, roles: [frozen]}
cases:
"""
FULL = (
    HEAD
    + """
  - {request: GET /orders/u1, expect: 401}
  - {as: anna, request: GET /orders/u1, expect: allow}
  - {as: anna, request: GET /orders/u2, expect: not_yours}
  - {as: lead, request: GET /orders/u1, expect: allow}
  - {as: frozen, request: GET /orders/u1, expect: {decision: deny, rule: frozen}}
"""
)


def status(reason: str, refusal: Reason | None) -> int:
    return problem_type(reason, refusal).status


def cases(text: str, world: Snapshot = WORLD) -> list[Case]:
    found = read_cases("tests.yaml", text, world)
    assert all(isinstance(case, Case) for case in found), [str(one) for one in found]
    return found  # type: ignore[return-value]


def results(text: str, world: Snapshot = WORLD) -> list[CaseResult]:
    return run_cases(cases(text, world), world, status)


def test_a_full_set_of_tests_covers_every_rule_and_kills_every_mutant() -> None:
    done = results(FULL)
    assert all(result.passed for result in done)
    covered = coverage(done, WORLD)
    assert (covered.rules_percent, covered.routes_percent) == (100.0, 100.0)
    report = mutation_report(done, WORLD, status)
    assert (report.tried, report.survivors) == (13, [])


def test_a_rule_that_never_decided_is_told() -> None:
    done = results(HEAD + "  - {as: anna, request: GET /orders/u2, expect: not_yours}\n")
    covered = coverage(done, WORLD)
    # Naming the reason of an allow that did not hold is no decision of it.
    assert [rule.id for _, rule in covered.open_rules] == ["own", "lead", "frozen"]
    assert covered.open_routes == ()


@pytest.mark.parametrize(
    ("left_out", "survivor"),
    [
        ("as: frozen", "rule frozen removed"),
        ("as: lead", "rule lead removed"),
        ("GET /orders/u2", "rule own without its condition"),
    ],
)
def test_a_mutant_that_no_test_notices_is_told(left_out: str, survivor: str) -> None:
    text = "\n".join(line for line in FULL.splitlines() if left_out not in line)
    report = mutation_report(results(text), WORLD, status)
    assert any(survivor in str(mutant) for mutant in report.survivors)


TEAMS = snapshot(
    """
    - id: teams
      match: {host: a.example, path: "/teams/{team}", methods: [GET, PUT]}
      accept: [bearer]
      policy: p
      action: teams:read
      resource: {team: "{team}"}
      upstream: api
    - {id: cart, match: {path: /cart}, auth: optional, upstream: api}
    """,
    """
    policy: p
    roles:
      lead: {inherits: [boss], permissions: [teams:read, other:write]}
      boss: [teams:*]
    rules:
      - id: members
        allow: [teams:read]
        when: >-
          user.id in data.teams[resource.team].members && data.teams[resource.team].open &&
          has(data.teams[resource.team].plan)
      - {id: by-role, allow: role-permissions}
    """,
    data__teams="""
    version: 1
    teams:
      acme: {members: [ann], open: true, plan: gold, unread: 1}
      tiny: {members: [tim], open: true, plan: free}
    """,
)
TEAM_TESTS = """
version: 1
people:
  ann: {id: ann}
  lead: {id: lea, roles: [lead]}
  boss: {id: bob, roles: [boss]}
cases:
  - {as: ann, request: {url: /teams/acme, host: a.example}, expect: allow}
  - {as: ann, request: {url: /teams/tiny, host: a.example}, expect: deny}
  - {as: {id: zoe}, request: {url: /teams/acme, host: a.example}, expect: deny}
  - {as: lead, request: {url: /teams/acme, host: a.example}, expect: allow}
  - {as: boss, request: {method: PUT, url: /teams/acme, host: a.example}, expect: allow}
  - {request: {url: /teams/acme, host: a.example}, expect: 401}
  - {as: {id: ann, with: api_key}, request: {url: /teams/acme, host: a.example}, expect: 401}
  - {as: ann, request: {method: POST, url: /teams/acme, host: a.example}, expect: 405}
  - {as: ann, request: {url: /teams/acme, host: b.example}, expect: 404}
  - {request: POST /cart, expect: allow}
"""


def test_mutants_cover_roles_tables_and_routes() -> None:
    tried = {(one.of, one.name, one.how) for one in mutants(TEAMS)}
    assert {one for one in tried if one[0] != "rule"} == {
        # `other:write` is an action of no route, and either way to `teams:read` is enough.
        ("role", "boss", "without teams:*"),
        ("table", "data.teams.*.members", "empty"),
        ("table", "data.teams.*.members", "the same everywhere"),
        ("table", "data.teams.*.open", "the other way round"),
        ("table", "data.teams.*.open", "gone"),
        ("table", "data.teams.*.plan", "gone"),
        ("route", "teams", "removed"),
        ("route", "teams", "open to everybody"),
        ("route", "teams", "without GET"),
        ("route", "teams", "without PUT"),
        ("route", "teams", "for every method"),
        ("route", "teams", "for every host"),
        ("route", "teams", "for every kind of credential"),
        ("route", "teams", "without resource.team"),
        ("route", "cart", "removed"),
        ("route", "cart", "for the signed-in alone"),
    }
    done = results(TEAM_TESTS, TEAMS)
    assert [result.differences for result in done if not result.passed] == []
    assert list(map(str, mutation_report(done, TEAMS, status).survivors)) == []


@pytest.mark.parametrize(
    ("left_out", "survivor"),
    [
        ("method: POST", "route teams for every method"),
        ("host: b.example", "route teams for every host"),
        ("with: api_key", "route teams for every kind of credential"),
        ("url: /teams/tiny", "table data.teams.*.members the same everywhere"),
        ("as: boss", "role boss without teams:*"),
        ("POST /cart", "route cart for the signed-in alone"),
    ],
)
def test_what_no_test_asks_of_roles_tables_and_routes_is_told(left_out: str, survivor: str) -> None:
    text = "\n".join(line for line in TEAM_TESTS.splitlines() if left_out not in line)
    report = mutation_report(results(text, TEAMS), TEAMS, status)
    assert any(survivor in str(mutant) for mutant in report.survivors)


def test_a_removed_route_leaves_its_calls_to_another() -> None:
    world = snapshot(
        "- {id: all, match: {path: '/a/{rest:path}'}, auth: public, upstream: api}\n"
        "- {id: one, match: {path: /a/b}, auth: public, upstream: api}"
    )
    done = results("version: 1\ncases: [{request: GET /a/b, expect: allow}]", world)
    survivors = map(str, mutation_report(done, world, status).survivors)
    assert any("route one removed" in text for text in survivors)


def test_a_route_without_a_test_is_told() -> None:
    world = snapshot("- {id: a, match: {path: /a}, auth: public, upstream: api}")
    done = results("version: 1\ncases: [{request: GET /b, expect: 404}]", world)
    assert [route.id for route in coverage(done, world).open_routes] == ["a"]


def test_a_case_may_set_everything_a_policy_reads() -> None:
    world = rule_world(
        """
        - id: a
          allow: ["*"]
          when: >-
            user.email == 'a@b.example' && user.email_verified && user.claims.tier == 'gold' &&
            request.headers['x-zone'] == 'z' && client.ip == '10.0.0.1' && request.host == 'h' &&
            now - user.auth_time > duration('4m') && now.getHours() == 9 && has_scope('orders:read')
        """
    )
    text = """
    version: 1
    now: 2026-01-05T09:00:00Z
    cases:
      - as:
          {id: u1, email: a@b.example, verified: true, claims: {tier: gold}, auth_age: 5m,
           scopes: ["orders:*"], amr: [pwd, totp], with: api_key}
        request: {method: GET, url: /orders/7, host: h, headers: {X-Zone: z}, ip: 10.0.0.1}
        expect: {decision: allow, status: 200, reason: rule_allowed, concealed: false}
    """
    (result,) = results(text, world)
    assert result.differences == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1", "`cases:` is missing"),
        ("version: 1\ncases: [{expect: allow}]", "no `request`"),
        ("version: 1\ncases: [{request: GET /a}]", "no `expect`"),
        ("version: 1\ncases: [{request: GET /a, expect: maybe-not}]", "`expect` is `allow`"),
        ("version: 1\ncases: [{request: GET /a, expect: {decison: allow}}]", "`decision`"),
        ("version: 1\ncases: [{request: GET /a, expect: {}}]", "could never fail"),
        ("version: 1\ncases: [{as: {rols: [a]}, request: GET /a, expect: allow}]", "`roles`"),
        ("version: 1\npeople: {a: {id: x, user_id: y}}\ncases: []", "`id` says this already"),
        ("version: 1\nnow: today\ncases: []", "`now` is a time"),
        ("version: 1\ncases: [{request: {url: /a, ip: x}, expect: allow}]", "is no address"),
    ],
)
def test_what_is_wrong_with_a_case_is_told(text: str, said: str) -> None:
    found = read_cases("tests.yaml", text, WORLD)
    assert any(said in str(problem) for problem in found), [str(one) for one in found]


def test_a_file_may_be_a_list_of_cases_alone() -> None:
    text = """
    - {as: {user_id: u1, roles: []}, request: GET /orders/u1, expect: allow}
    - {as: {id: u1, email_verified: true}, request: {path: /orders/u2}, expect: deny}
    - {request: GET /orders/u1, expect: 401}
    """
    assert [result.passed for result in results(text)] == [True, True, True]


def test_junit_tells_each_case_and_each_failure() -> None:
    done = results(FULL.replace("expect: allow", "expect: deny", 1))
    root = fromstring(junit(done))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures")) == ("5", "1")
    (failure,) = root.iter("failure")
    assert failure.get("message") == "decision: expected deny, got allow"


def test_junit_takes_any_text() -> None:
    text = 'version: 1\ncases: [{name: "<&\\u0001\\"\\u2028", request: GET /orders/1, expect: 401}]'
    root = fromstring(junit(results(text)))
    assert [case.get("name") for case in root.iter("testcase")] == ['<&\ufffd"\u2028']


# Flips


def turned(request: str, caller: Principal | Reason, world: Snapshot = WORLD) -> list[str]:
    method, _, url = request.partition(" ")
    question = SimulatedRequest(method, url, caller, clock=FixedClock(NOW))
    return [
        flip.change for flip in find_counterfactuals(question, simulate(question, world), world)
    ]


def test_a_stranger_learns_what_would_let_them_in() -> None:
    found = turned("GET /orders/u2", who("u1"))
    assert found[:2] == [
        'the caller were "u2" (user.id = resource.owner)',
        "the caller had the role lead",
    ]


def test_an_owner_learns_what_would_keep_them_out() -> None:
    assert turned("GET /orders/u1", who("u1"))[:2] == [
        "the caller had the role frozen",
        "the caller were somebody else",
    ]


def test_the_anonymous_learn_who_would_pass() -> None:
    assert turned("GET /orders/u1", Reason.NO_CREDENTIAL)[:2] == [
        'the caller were "u1" (user.id = resource.owner)',
        "somebody with the role lead were signed in",
    ]


@pytest.mark.parametrize(
    ("rule", "caller", "change"),
    [
        ("when: user.email_verified", who(), "the caller's address were verified"),
        ("step_up: {max_age: 1m}", who(auth_time=0), "the sign-in were fresh"),
        ("step_up: {amr: [totp]}", who(), "the caller had signed in with totp"),
        ("when: request.method == 'PUT'", who(), "the method were PUT"),
        ("when: \"in_cidr(client.ip, '10.0.0.0/8')\"", who(), "it came from 10.0.0.0/8"),
        ("when: true", who(scopes=["x:*"]), "the credential were not limited to scopes"),
    ],
)
def test_each_kind_of_single_change_is_tried(rule: str, caller: Principal, change: str) -> None:
    world = rule_world(f"- {{id: a, allow: ['*'], {rule}}}")
    assert change in turned("GET /orders/u9", caller, world)


def edits(
    world: Snapshot, request: str, caller: Principal
) -> list[tuple[str, str, tuple[str, ...]]]:
    method, _, url = request.partition(" ")
    question = SimulatedRequest(method, url, caller, clock=FixedClock(NOW))
    found = find_counterfactuals(question, simulate(question, world), world)
    return [(flip.change, str(flip.location), flip.chain) for flip in found]


SPELLED = """
- id: a
  match: {{path: '/orders/{{owner}}'}}
  policy: p
  action: {action}
  resource: {{owner: '{{owner}}'}}
  upstream: api
"""


def test_an_action_that_is_misspelt_is_the_first_thing_told() -> None:
    rules = "policy: p\nrules: [{id: own, allow: [orders:read], when: resource.owner == user.id}]"
    world = snapshot(SPELLED.format(action="orders:raed"), rules)
    found = edits(world, "GET /orders/u1", who("u1"))
    assert found[0][:2] == (
        "the route's action were orders:read, not orders:raed",
        "routes.yaml:12",
    )
    assert found[1][:2] == (
        "rule own were about orders:raed, not orders:read",
        "policies/p0.yaml:3",
    )
    # Where the right spelling would not help, nothing is told.
    assert edits(world, "GET /orders/u1", who("u2")) == []


def test_a_permission_that_is_misspelt_is_told_with_its_role() -> None:
    rules = (
        "policy: p\nroles:\n  clerk: [orders:raed]\n  lead: {inherits: [clerk]}\n"
        "rules: [{id: r, allow: role-permissions}]"
    )
    world = snapshot(SPELLED.format(action="orders:read"), rules)
    found = edits(world, "GET /orders/u1", who("u1", "lead"))
    assert found[0][0] == "the route's action were orders:raed, not orders:read"
    assert found[1] == (
        "the role clerk held orders:read, not orders:raed",
        "policies/p0.yaml:4",
        ("lead inherits clerk (policies/p0.yaml:5)",),
    )


BY_ROLE = """
policy: p
roles:
  clerk: [orders:read]
  lead: {inherits: [clerk], permissions: [orders:cancel]}
  chief: {inherits: [lead]}
  guest: [bills:read]
rules: [{id: r, allow: role-permissions}]
"""


def test_a_role_is_told_with_the_chain_that_gives_the_permission() -> None:
    world = snapshot(SPELLED.format(action="orders:read"), BY_ROLE)
    told = {
        change: (place, chain)
        for change, place, chain in edits(world, "GET /orders/u1", who("u1", "guest"))
    }
    assert told["the caller had the role chief"] == (
        "policies/p0.yaml:8",
        (
            "chief inherits lead (policies/p0.yaml:6)",
            "lead inherits clerk (policies/p0.yaml:5)",
            "clerk holds orders:read (policies/p0.yaml:4)",
        ),
    )
    assert told["the role guest held orders:read"] == ("policies/p0.yaml:7", ())
    told = {
        change: (place, chain)
        for change, place, chain in edits(world, "GET /orders/u1", who("u1", "chief"))
    }
    assert told["the role clerk did not hold orders:read"] == (
        "policies/p0.yaml:4",
        ("chief inherits lead (policies/p0.yaml:6)", "lead inherits clerk (policies/p0.yaml:5)"),
    )


def test_an_entry_of_the_data_is_told_with_its_line() -> None:
    rules = """
    policy: p
    rules:
      - {id: member, allow: ["*"], when: "user.id in data.teams[resource.owner].members"}
      - {id: shut, deny: ["*"], when: "has(data.teams[resource.owner].shut) && data.teams[resource.owner].shut"}
    """
    data = (
        "version: 1\nteams:\n  red: {members: [ann]}\n  blue: {members: [ann, bob], shut: true}\n"
    )
    world = snapshot(SPELLED.format(action="orders:read"), rules, data__teams=data)
    found = edits(world, "GET /orders/red", who("bob"))
    assert ('"bob" were in data.teams.red.members', "policies/data/teams.yaml:3", ()) in found
    found = edits(world, "GET /orders/red", who("ann"))
    assert ('"ann" were not in data.teams.red.members', "policies/data/teams.yaml:3", ()) in found
    found = edits(world, "GET /orders/blue", who("ann"))
    assert ("data.teams.blue.shut were false", "policies/data/teams.yaml:4", ()) in found
    assert ("there were no data.teams.blue.shut", "policies/data/teams.yaml:4", ()) in found


def test_a_text_of_the_data_is_told_as_the_condition_names_it() -> None:
    rules = """
    policy: p
    rules: [{id: paid, allow: ["*"], when: "data.plans[resource.owner] == 'business'"}]
    """
    data = "version: 1\nplans:\n  red: free\n"
    world = snapshot(SPELLED.format(action="orders:read"), rules, data__plans=data)
    found = edits(world, "GET /orders/red", who("ann"))
    assert ('data.plans.red were "business"', "policies/data/plans.yaml:3", ()) in found


def test_nothing_is_told_where_no_single_change_is_enough() -> None:
    world = rule_world("- {id: a, allow: ['*'], when: user.email_verified && has_role('x')}")
    assert turned("GET /orders/u1", who(), world) == []


def test_a_path_with_a_slash_too_many_is_found() -> None:
    world = snapshot("- {id: a, match: {path: /a}, auth: public, upstream: api}")
    assert turned("GET /a/", who(), world) == ["the path were /a (without the final /)"]
