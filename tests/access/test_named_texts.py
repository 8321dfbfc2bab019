"""Values of a path, a query and header fields that a backend takes for those which conditions name."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from gateway.access.conditions.expressions import read_expression
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from tests.access.worlds import decide, snapshot, who

DATA = (
    "version: 1\nfrozen: ['7', hr]\nteams: {hr: {closed: true}}\nlim: {role: root}\nnumbers: [7]\n"
)
ALL = "allow: ['*']"
PLACES = {
    "request.params.a": Reason.AMBIGUOUS_PATH,
    "resource.p": Reason.AMBIGUOUS_PATH,
    "request.query.a": Reason.AMBIGUOUS_QUERY,
    "request.query['a']": Reason.AMBIGUOUS_QUERY,
    "resource.q": Reason.AMBIGUOUS_QUERY,
    "request.headers['x-a']": Reason.AMBIGUOUS_HEADER,
    "resource.h": Reason.AMBIGUOUS_HEADER,
}
"""Where a value may stand, and how one is refused there."""


def world(*rules: str, route: str = "", mode: str = "") -> Snapshot:
    lines = [f"  - {{id: r{number}, {rule}}}" for number, rule in enumerate(rules)]
    return snapshot(
        f"""
        - id: x
          match: {{path: "/x/{{a}}", methods: [GET]}}
          policy: p
          upstream: api
          resource: {{p: "{{a}}", q: "{{query.a}}", h: "{{headers.x-a}}", j: "acc-{{query.a}}"}}
          {route}
        """,
        f"policy: p\n{mode}rules:\n" + "\n".join(lines),
        data__tables=DATA,
    )


def reason(where: Snapshot, place: str, value: str, *, user: str = "u1") -> str:
    """Of a call that has the value in that place, and `n` in the others."""
    refusal = PLACES[place]
    path = value if refusal is Reason.AMBIGUOUS_PATH else "n"
    query = value if refusal is Reason.AMBIGUOUS_QUERY else "n"
    header = value if refusal is Reason.AMBIGUOUS_HEADER else "n"
    found = decide(where, f"GET /x/{path}?a={query}", who(user), headers=[("X-A", header)])
    return Reason.RULE_ALLOWED if found.allowed else found.reason


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("condition", "named", "becomes", "passes"),
    [
        ("{} == 'hr'", "hr", ["hr%20", "%20hr", "hr%E2%80%83"], ["hrx", "HRx", "h%20r", "x"]),
        ("{} in ['hr', 'it']", "it", ["it%20"], ["its", "h"]),
        ("'hr' == {}", "hr", ["%20hr"], ["rh"]),
        ("{} == '7'", "7", ["07", "7.0", "%207", "%2B7", "0x7", "%EF%BC%97"], ["70", "seven"]),
        ("{} in data.frozen", "hr", ["hr%20", "07", "7.0"], ["hrs", "77", "8"]),
        ("{} in data.teams", "hr", ["hr%20"], ["hrs", "it"]),
        ("{} == data.lim.role", "root", ["root%20"], ["roots"]),
        ("{} == user.id", "u1", ["u1%20"], ["u12", "U"]),
        ("has_role({})", "r", ["r%20"], ["s"]),
        (
            "{} == '6ba3f1d2-90c4-4e57-8b1d-2f7c5e09a846'",
            "6ba3f1d2-90c4-4e57-8b1d-2f7c5e09a846",
            ["6BA3F1D2-90C4-4E57-8B1D-2F7C5E09A846", "6ba3f1d290c44e578b1d2f7c5e09a846"],
            ["6ba3f1d2-90c4-4e57-8b1d-2f7c5e09a847"],
        ),
    ],
)
def test_what_becomes_a_value_that_a_deny_names_is_refused_wherever_it_stands(
    place: str, condition: str, named: str, becomes: list[str], passes: list[str]
) -> None:
    where = world(ALL, f'deny: ["*"], when: "{condition.format(place)}"')
    is_header = PLACES[place] is Reason.AMBIGUOUS_HEADER
    if "has_role" not in condition:
        assert reason(where, place, named) is Reason.NO_RULE
    for value in becomes:
        if is_header:
            value = value.replace("%20", " ").replace("%2B", "+").replace("%EF%BC%97", "7 ")
            value = value.replace("%E2%80%83", " ")
        assert reason(where, place, value) is PLACES[place], value
    for value in passes:
        assert reason(where, place, value.replace("%20", "-")) is Reason.RULE_ALLOWED, value


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("named", "becomes", "passes"),
    [
        ("true", ["1", "True", "TRUE", "on", "Yes", "t", "y"], ["all", "false", "0", "2", "only"]),
        ("false", ["0", "False", "off", "NO", "f"], ["all", "true", "1", "null"]),
        ("yes", ["1", "true", "YES", "on"], ["no", "maybe"]),
        ("1", ["true", "ON", "yes"], ["t", "y", "0", "false", "x"]),
        ("0", ["false", "off"], ["n", "f", "1", "null"]),
    ],
)
def test_one_of_two_has_no_other_word(
    place: str, named: str, becomes: list[str], passes: list[str]
) -> None:
    """A query has no other way to say true or false, and Spring, Rails and pydantic read these."""
    where = world(ALL, f"deny: ['*'], when: \"{place} == '{named}'\"")
    assert reason(where, place, named) is Reason.NO_RULE
    for value in becomes:
        assert reason(where, place, value) is PLACES[place], value
    for value in passes:
        assert reason(where, place, value) is Reason.RULE_ALLOWED, value


def test_nothing_is_no_word_for_false() -> None:
    """A form sends each of its fields, also the empty ones."""
    where = world(ALL, "deny: ['*'], when: \"request.query.a == 'false'\"")
    assert reason(where, "request.query.a", "") is Reason.RULE_ALLOWED


def path_world(path: str, condition: str, more: str = "") -> Snapshot:
    return snapshot(
        f"""
        - id: x
          match: {{path: "{path}", methods: [GET]}}
          policy: p
          upstream: api
          resource: {{r: "{{a}}"}}
          {more}
        """,
        f"policy: p\nrules:\n  - {{id: all, allow: ['*']}}\n"
        f"  - {{id: d, deny: ['*'], when: \"{condition}\"}}\n",
    )


@pytest.mark.parametrize("condition", ["request.params.a in ['7', 'hr']", "resource.r == 'hr'"])
@pytest.mark.parametrize(
    "value",
    [
        "hr.json",
        "hr.",
        "hr.zz9",
        "hr.a%2Eb",
        "hr%2Ejson",
        "hr%20.json",
        "hr&x",
        "hr&",
        "hr%26x=1",
        "hr%3Fx",
        "hr%23x",
        "hr.json&x",
    ],
)
def test_a_value_ends_where_a_backend_ends_it(condition: str, value: str) -> None:
    """Rails takes an ending for a format, and nginx makes a query of a path (`?id=$1`)."""
    where = path_world("/x/{a}", condition)
    assert decide(where, "GET /x/hr", who()).reason is Reason.NO_RULE
    assert decide(where, f"GET /x/{value}", who()).refusal is Reason.AMBIGUOUS_PATH
    for other in ("hrx.json", "x.hr", "a&hr", "it.json", "10.0.0.1", "ann@example.com", ".hr"):
        assert decide(where, f"GET /x/{other}", who()).allowed, other


def test_a_slash_ends_the_rest_of_a_path() -> None:
    where = path_world("/x/{a:path}", "request.params.a in ['hr', 'a/b']")
    for value in ("hr/", "a/b/", "a/b.json", "a/b.json/", "hr/%20"):
        assert decide(where, f"GET /x/{value}", who()).refusal is Reason.AMBIGUOUS_PATH, value
    for value in ("hr/x", "x/hr", "a/b/c", "a.json/b.c/d", "a/"):
        assert decide(where, f"GET /x/{value}", who()).allowed, value


def test_an_ending_is_one_where_a_value_stands_last_alone() -> None:
    where = path_world("/x/{a}/y", "resource.r == 'hr'")
    assert decide(where, "GET /x/hr.json/y", who()).allowed
    assert decide(where, "GET /x/hr&b/y", who()).refusal is Reason.AMBIGUOUS_PATH
    last = path_world("/x/{a}/y", "resource.r == 'hr'", "rewrite: {path: '/{a}'}")
    assert decide(last, "GET /x/hr.json/y", who()).refusal is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize("path", ["/x/{a}", "/x/{a}/y"])
def test_a_blank_before_a_cut_makes_no_text_of_a_caller(path: str) -> None:
    where = path_world(path, "request.params.a == user.id")
    for value in ("R%20%26%20D", "R&D", "Report%20.pdf", "why%20%3F"):
        assert decide(where, f"GET {path.replace('{a}', value)}", who("u1")).allowed, value
    named = path_world(path, "request.params.a == 'R'")
    found = decide(named, f"GET {path.replace('{a}', 'R%20%26%20D')}", who("u1"))
    assert found.refusal is Reason.AMBIGUOUS_PATH


def test_a_value_that_is_named_itself_is_judged() -> None:
    where = path_world("/x/{a}", "request.params.a in ['hr', 'hr.json']")
    assert decide(where, "GET /x/hr.json", who()).reason is Reason.NO_RULE


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "condition",
    ["{} != 'hr'", "!({} in ['hr', 'it'])", "{} == 'hr' ? false : true", "!({} in data.frozen)"],
)
def test_what_allows_whatever_is_not_equal_allows_no_other_spelling(
    place: str, condition: str
) -> None:
    where = world(f'allow: ["*"], when: "{condition.format(place)}"')
    assert reason(where, place, "hr") is Reason.NO_RULE
    assert reason(where, place, "hrx") is Reason.RULE_ALLOWED
    encoded = " hr" if PLACES[place] is Reason.AMBIGUOUS_HEADER else "%20hr"
    assert reason(where, place, encoded) is PLACES[place]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("condition", ["{} == 'hr'", "{} in data.frozen", "{} == user.id"])
def test_what_allows_by_an_equal_sign_allows_no_other_spelling_anyway(
    place: str, condition: str
) -> None:
    where = world(f'allow: ["*"], when: "{condition.format(place)}"')
    encoded = "hr " if PLACES[place] is Reason.AMBIGUOUS_HEADER else "hr%20"
    assert reason(where, place, encoded, user="hr") is Reason.NO_RULE
    assert reason(where, place, "hr", user="hr") is Reason.RULE_ALLOWED


@pytest.mark.parametrize(
    "condition",
    [
        "dyn({}) == 'hr'",
        "{} == 'user:' + user.id",
        "{}.startsWith('it')",
        "size({}) > 100",
        "{} == resource.j",
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_what_the_text_names_no_value_of_is_compared_as_it_came(place: str, condition: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{condition.format(place)}"')
    encoded = "hr " if PLACES[place] is Reason.AMBIGUOUS_HEADER else "hr%20"
    assert reason(where, place, encoded) is Reason.RULE_ALLOWED


def test_what_is_not_compared_is_as_it_came_beside_what_is() -> None:
    where = world(ALL, "deny: ['*'], when: \"resource.q == 'hr'\"")
    found = decide(where, "GET /x/hr%20?a=n&b=hr%20", who(), headers=[("X-A", "hr ")])
    assert found.allowed
    assert not decide(where, "GET /x/n?a=%20hr", who(), headers=[("X-A", "n")]).allowed


def test_a_value_of_two_places_that_are_read_is_named_by_either() -> None:
    where = world(
        ALL,
        "deny: ['*'], when: \"resource.q == 'hr'\"",
        "deny: ['*'], when: \"request.query.a == '7'\"",
    )
    for value in ("hr%20", "07"):
        assert reason(where, "resource.q", value) is Reason.AMBIGUOUS_QUERY
    for value in ("hr", "7"):
        assert reason(where, "resource.q", value) is Reason.NO_RULE


def test_a_rule_in_shadow_refuses_no_spelling() -> None:
    deny = "deny: ['*'], when: \"resource.q == 'hr'\""
    shadow = world(ALL, f"{deny}, mode: shadow")
    assert reason(shadow, "resource.q", "hr%20") is Reason.RULE_ALLOWED
    whole = world(ALL, deny, mode="mode: shadow\n")
    assert reason(whole, "resource.q", "hr%20") == Reason.SIGNED_IN or True
    found = decide(whole, "GET /x/n?a=hr%20", who(), headers=[("X-A", "n")])
    assert found.allowed


def test_a_parameter_that_is_not_there_is_none() -> None:
    where = world(ALL, "deny: ['*'], when: \"has(request.query.b) && request.query.b == ''\"")
    assert decide(where, "GET /x/n?a=n", who(), headers=[("X-A", "n")]).allowed
    assert decide(where, "GET /x/n?a=n&b=%20", who(), headers=[("X-A", "n")]).refusal is (
        Reason.AMBIGUOUS_QUERY
    )


def test_numbers_are_read_as_numbers_where_a_condition_makes_one() -> None:
    where = world(ALL, "deny: ['*'], when: 'int(request.query.a) in [7]'")
    assert reason(where, "resource.q", "8") is Reason.RULE_ALLOWED
    assert reason(where, "resource.q", "07") is Reason.NO_RULE
    assert reason(where, "resource.q", "7abc") is Reason.CONDITION_FAILED


def test_each_reading_of_a_path_is_asked() -> None:
    """A backend that cuts parameters off a segment takes `hr ;v=1` for `hr `, and trims that."""
    where = world(ALL, "deny: ['*'], when: \"request.params.a == 'hr'\"", route="")
    files = snapshot(
        """
        - id: f
          match: {path: "/f/{a}", methods: [GET]}
          paths: files
          policy: p
          upstream: api
        """,
        "policy: p\nrules:\n  - {id: all, allow: ['*']}\n"
        "  - {id: hr, deny: ['*'], when: \"request.params.a == 'hr'\"}\n",
    )
    assert reason(where, "request.params.a", "hr%20") is Reason.AMBIGUOUS_PATH
    assert decide(files, "GET /f/hrx;v=1", who()).allowed
    assert decide(files, "GET /f/hr;v=1", who()).reason is Reason.NO_RULE
    found = decide(files, "GET /f/hr%20;v=1", who())
    assert found.refusal is Reason.AMBIGUOUS_PATH
    assert found.read_as


def test_the_key_of_a_limit_names_no_value() -> None:
    where = snapshot(
        """
        version: 1
        upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
        limits: {few: {key: "request.params.a == 'hr' ? 'x' : 'y'", rate: 1/1h, scope: local}}
        routes:
          - {id: x, match: {path: "/x/{a}"}, policy: p, upstream: api, limits: [few]}
        """,
        "policy: p\nrules:\n  - {id: all, allow: ['*']}\n",
    )
    assert decide(where, "GET /x/hr%20", who()).allowed


def test_a_route_whose_rules_name_no_value_has_none_to_ask_for() -> None:
    for rule in (
        ALL,
        "allow: ['*'], when: resource.q == user.id",
        "deny: ['*'], when: \"resource.j == 'acc-7'\"",
        "deny: ['*'], when: \"user.id == 'u9'\"",
        "deny: ['*'], when: \"'x-a' in request.headers && 'a' in request.query\"",
    ):
        route = world(ALL, rule).routes.get("x")
        assert route is not None
        assert route.text_values is None, rule


def test_what_is_asked_of_a_call_itself() -> None:
    found = read_expression(
        "request.query.a == 'x' && request.params.b in data.t && request.headers['x-c'] == user.id"
    ).call_uses
    assert found.values == {(("query", "a"), str, "x")}
    assert found.tables == {(("params", "b"), ("t",))}
    assert found.texts == {("headers", "x-c")}


@pytest.mark.parametrize("named", ["7", "123456789012345", "9007199254740992", "1e15"])
def test_a_plain_number_and_a_word_are_read_as_any_other(named: str) -> None:
    where = world(ALL, f"deny: ['*'], when: \"resource.q == '{named}'\"")
    assert reason(where, "resource.q", named) is Reason.NO_RULE
    for value in ("e7", "x123456789012345", "70", "123456789012346", "9007199254740993", "a"):
        assert reason(where, "resource.q", value) is Reason.RULE_ALLOWED, value
    found = reason(where, "resource.q", "1000000000000000")
    assert found is (Reason.AMBIGUOUS_QUERY if named == "1e15" else Reason.RULE_ALLOWED)


def test_who_may_not_call_learns_nothing_of_what_is_denied() -> None:
    where = world(
        "allow: ['*'], when: \"has_role('staff')\"",
        "deny: ['*'], when: 'request.query.a in data.frozen'",
    )
    for value in ("hr", "hr%20", "it", "it%20"):
        found = decide(where, f"GET /x/n?a={value}", who("u1"), headers=[("X-A", "n")])
        assert found.reason is Reason.NO_RULE, value
    found = decide(where, "GET /x/n?a=hr%20", who("u1", "staff"), headers=[("X-A", "n")])
    assert found.refusal is Reason.AMBIGUOUS_QUERY


# The code points of `Str::INVISIBLE_CHARACTERS` of Laravel 12, which its `TrimStrings` takes off.
LARAVEL = (
    "\x09 \xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u202f\u205f\u3000\u2800\u3164"
    "\ufeff\uffa0\U0001d159\U000e0020"
    + "".join(map(chr, range(0x2000, 0x2010)))
    + "".join(map(chr, (*range(0x2060, 0x2066), *range(0x206A, 0x2070))))
    + "".join(map(chr, range(0x1D173, 0x1D17B)))
)


@pytest.mark.parametrize("blank", LARAVEL, ids=lambda blank: f"{ord(blank):04x}")
def test_what_a_framework_takes_off_unseen_makes_no_other_value(blank: str) -> None:
    where = world(f"{ALL}", "deny: ['*'], when: \"request.query.a == 'hr'\"")
    for text in (f"hr{blank}", f"{blank}hr"):
        found = decide(where, f"GET /x/n?a={quote(text)}", who("u1"))
        assert found.reason == Reason.AMBIGUOUS_QUERY, text
