"""In which form conditions take what a body gives, and what is refused for being another."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.conditions.expressions import read_expression
from gateway.access.conditions.resource_uses import ITEM
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from tests.access.worlds import decide, snapshot, who
from tests.cpu_cost import cost_ratio

DATA = 'version: 1\nmine: [a-1, a-2]\nfrozen: [7]\nnames: [root]\nword: sudo\nteams: {red: [u1]}\nsets: [[x], [y]]\nper: {u1: {on: [7, y]}}\nlim: {role: root, closed: 7}\nflags: [true]\nby_number: {"7": [5]}\n'


def world(*rules: str, key: str = "") -> Snapshot:
    lines = [f"  - {{id: r{n}, {rule}}}" for n, rule in enumerate(rules)]
    limits = f"limits: {{few: {{key: {key}, rate: 1/1h, scope: local}}}}\n" if key else ""
    return snapshot(
        f"""
version: 1
upstreams: {{api: {{targets: ["http://127.0.0.1:9001"]}}}}
{limits}
routes:
  - id: x
    match: {{path: /x, methods: [POST]}}
    policy: p
    upstream: api
    {"limits: [few]" if key else ""}
    resource: {{a: "{{body.a}}", b: "{{body.b}}", joined: "acc-{{body.id}}"}}
""",
        "policy: p\nrules:\n" + "\n".join(lines),
        data__tables=DATA,
    )


def reason(where: Snapshot, body: Any) -> str:
    decision = decide(where, "POST /x", who("u1"), body=body)
    return Reason.RULE_ALLOWED if decision.allowed else decision.reason


ALL = 'allow: ["*"]'
OWN = "allow: ['*'], when: \"resource.a.owner_id == user.id\""
ITEMS = "allow: ['*'], when: \"resource.a.all(i, i.owner_id == user.id)\""


@pytest.mark.parametrize(
    ("rule", "wrap"),
    [
        (OWN, lambda one: one),
        (ITEMS, lambda one: [one]),
        (ITEMS, lambda one: [{"owner_id": "u1"}, one]),
        ("allow: ['*'], when: \"resource.a['owner_id'] == user.id\"", lambda one: one),
        ("allow: ['*'], when: \"resource.a[0].owner_id == user.id\"", lambda one: [one]),
        ("allow: ['*'], when: \"resource.a.x.owner_id == user.id\"", lambda one: {"x": one}),
        (
            "allow: ['*'], when: \"resource.a.all(i, i.x.owner_id == 'u1')\"",
            lambda one: [{"x": one}],
        ),
        (
            "allow: ['*'], when: \"resource.a.filter(i, has(i.owner_id)).all(j, j.owner_id == 'u1')\"",
            lambda one: [one],
        ),
    ],
)
def test_a_field_that_a_condition_reads_within_a_value_has_one_name(rule: str, wrap: Any) -> None:
    where = world(rule)
    assert reason(where, {"a": wrap({"owner_id": "u1", "n": 1})}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": wrap({"owner_id": "u2"})}) is Reason.NO_RULE
    for other in ("ownerId", "OWNER_ID", "own_er_id", " owner_id", "owner_id(1)"):
        body = {"a": wrap({"owner_id": "u1", other: "u2"})}
        assert reason(where, body) is Reason.BODY_MALFORMED, other
    assert reason(where, {"a": wrap({"owner_id": "u1", "owner_id.x": 1})}) is Reason.RULE_ALLOWED
    for hidden in ({"$set": {"owner_id": "u2"}}, {"__proto__": {"owner_id": "u2"}}):
        assert reason(where, {"a": wrap({"owner_id": "u1", **hidden})}) is Reason.BODY_MALFORMED


def test_a_name_with_a_dot_is_one_name() -> None:
    where = world("allow: ['*'], when: \"resource.a.labels['x.y'] == 'q'\"")
    assert reason(where, {"a": {"labels": {"x.y": "q", "x": 1}}}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": {"labels": {"x.y": "q", "X.Y": "z"}}}) is Reason.BODY_MALFORMED
    assert reason(where, {"a": {"labels": {"x.y": "q"}, "Labels": {}}}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    "deny", ["has(resource.a.is_admin)", "'is_admin' in resource.a && has(resource.a.name)"]
)
def test_what_a_deny_looks_for_has_no_other_name(deny: str) -> None:
    where = world(ALL, f"deny: ['*'], when: \"{deny}\"")
    assert reason(where, {"a": {"name": "x"}}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": {"name": "x", "is_admin": True}}) is Reason.NO_RULE
    assert reason(where, {"a": {"name": "x", "isAdmin": True}}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    "rule",
    [
        "allow: ['*'], when: \"resource.a.all(i, i in data.mine)\"",
        "deny: ['*'], when: \"resource.a.exists(i, i == 'secret')\"",
        "deny: ['*'], when: \"'secret' in resource.a\"",
        "deny: ['*'], when: \"user.id in resource.a\"",
        "deny: ['*'], when: \"'secret' in resource.a || resource.a[0] == 'secret'\"",
        "allow: ['*'], when: \"size(resource.a) <= 10 && resource.a.all(i, i in data.mine)\"",
        "allow: ['*'], when: \"resource.a != [] && resource.a.all(i, i in data.mine)\"",
        "deny: ['*'], when: \"!(resource.a.filter(i, i == 'secret') == [])\"",
    ],
)
def test_where_a_list_is_gone_through_an_object_is_none(rule: str) -> None:
    where = world(ALL, rule)
    assert reason(where, {"a": ["a-1"]}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": {"a-1": "secret"}}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    ("deny", "value"),
    [
        ("resource.a == 'admin'", "admin"),
        ("((resource.a)) == 'admin'", "admin"),
        ("'admin' == resource.a", "admin"),
        ("resource.a in data.names", "root"),
        ("resource.a in ['root', 'x']", "root"),
        ("resource.a in (['root', 'x'])", "root"),
        ("resource.a in [user.id, user.email]", "u1"),
        ("resource.a == 'root' || resource.a == string(resource.b)", "root"),
        ("resource.a == user.id", "u1"),
        ("size(resource.a) > 64 || resource.a == 'root'", "root"),
        ("resource.a == data.lim.role", "root"),
        ("resource.a != null && resource.a == 'admin'", "admin"),
        ("user.id == resource.a", "u1"),
        ("has_role(resource.a)", "x"),
    ],
)
def test_where_one_value_is_compared_a_list_of_it_is_none(deny: str, value: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    for other in ([value], [[value]], {"0": value}):
        assert reason(where, {"a": other}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    "deny",
    [
        "resource.a == 7",
        "7 == resource.a",
        "resource.a in data.frozen",
        "resource.a in [7, 8]",
        "resource.a == data.lim.closed",
    ],
)
def test_a_text_of_a_number_is_none_where_a_number_is_compared(deny: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": 7}) is Reason.NO_RULE
    assert reason(where, {"a": 7.0}) is Reason.NO_RULE
    for taken in (
        "7",
        " 7 ",
        "+7",
        "7.0",
        "07",
        "0_7",
        "0x7",
        "7abc",
        "\ufeff7",
        7.9,
        6.9,
        [7],
        ["7"],
        {"value": 7},
        True,
        "0x7z",
        "0x7.",
        "0x7 z",
        "0x0_7",
    ):
        assert reason(where, {"a": taken}) is Reason.BODY_MALFORMED
    for other in (6, 9.1, 99.95, "seven", "", "70", "5m", False, [9, 8], ["x"], {"type": "x"}):
        assert reason(where, {"a": other}) is Reason.RULE_ALLOWED


@pytest.mark.parametrize("deny", ["resource.a == '7'", "resource.a in ['x', '7']"])
def test_a_number_is_none_where_its_text_is_compared(deny: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": "7"}) is Reason.NO_RULE
    assert reason(where, {"a": 7}) is Reason.BODY_MALFORMED
    assert reason(where, {"a": "8"}) is Reason.RULE_ALLOWED


@pytest.mark.parametrize("deny", ["resource.a in [7, '7']", "string(resource.a) == '7'"])
def test_who_compares_with_both_takes_both(deny: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": "7"}) is Reason.NO_RULE
    assert reason(where, {"a": 7}) is Reason.NO_RULE
    assert reason(where, {"a": "8"}) is Reason.RULE_ALLOWED


@pytest.mark.parametrize("deny", ["resource.a > 100", "resource.a == 7 || resource.a >= 100"])
def test_a_fraction_is_a_number_where_one_is_meant(deny: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": 99.95}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": "99.95"}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    "deny",
    [
        "resource.a == 'root'",
        "resource.a in data.names",
        "resource.a == data.lim.role",
        "!(resource.a in ['x', 'root'] == false)",
    ],
)
def test_a_text_is_no_other_with_blanks_at_its_ends(deny: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": "root"}) is Reason.NO_RULE
    for padded in ("root ", " root", "\u3000root\n"):
        assert reason(where, {"a": padded}) is Reason.BODY_MALFORMED
    assert reason(where, {"a": " some text \n"}) is Reason.RULE_ALLOWED


@pytest.mark.parametrize(
    ("deny", "passes", "becomes"),
    [
        ("resource.a == 0", (99.95, 1, "7", True), ("0", "", "x", 0.5, False, [0], [], {})),
        ("resource.a in [0, 'none']", (1, "many", "7"), ("0", "0x", "", " ", 0.5, [], False)),
        ("resource.a == 1", (0, 2, "2", [], {}), (True, [5], {"type": "x"}, "1", 1.5)),
        ("resource.a == 8", (10, "0107", "12"), ("010", "0o10", "0_10", "08", [8])),
        ("resource.a == 7.5", (7, 8, "7", 7.9, False), ("7.5", "7.50", "75e-1", [7.5], True)),
        (
            "resource.a == 'required'",
            ("x", 5, [], ["x"], {}, {"type": "function"}, {"a": "x", "b": "required"}),
            (True, {"type": "required"}, [{"0": "required"}]),
        ),
        ("resource.a == 'false'", ("x", 1, "true"), (False, True)),
        ("resource.a == user.id", ("u2", "x y"), (5, 7.5, True, False, ["x"], {"x": "y"})),
        (
            "resource.a == '123e4567-e89b-12d3-a456-426614174000'",
            ("123e4567-e89b-12d3-a456-426614174001", "x"),
            (
                "123E4567-E89B-12D3-A456-426614174000",
                "123e4567e89b12d3a456426614174000",
                "{123e4567-e89b-12d3-a456-426614174000}",
            ),
        ),
        ("resource.a == 0.0", (0.5, 99.95), ("0", "0.0")),
        ("resource.a == -1", (1, 0.5, "1"), ("-1", "-1.0", [-1], -1.5)),
        ("resource.a in [-1]", (1,), ("-1",)),
        ("resource.a in [7, '7']", (8, "8"), ("07", "7abc", " 7", 7.5)),
        ("resource.a == '7'", ("8", "7abc", 8), (7, 7.0, 6.9, [7], "07", "7.0", "+7")),
        ("resource.a == ''", ("x", 1, True), (False, 0, [], " ")),
        ("resource.a == 'true'", (0, 2, False, "all"), (1, 1.0, True, [1], "1")),
        ("resource.a == 'yes'", (0, 2, False), (1, True)),
        ("resource.a == 'false'", (1, 2, 0.5, "", []), (0, 0.0, False, [0], "0")),
        ("resource.a == 'off'", (1, 2, "", []), (0, False, [False])),
        ("resource.a in [true, 'auto']", ("manual", "no", 0), ("1", "on", "TRUE", 2, [1])),
        ("resource.a == true || resource.a == 7", (0, False), (2, "2", "x")),
        (
            "resource.a == 1234567890123456789",
            (1234567890123456788, "1234567890123456788"),
            ("1234567890123456789", "1234567890123456789x", [1234567890123456789]),
        ),
        ("resource.a == 'root'", ("0x" + "f" * 400, "9" * 9_000), ("\x01root", "\u200broot\x1b")),
        ("resource.a == 7", ("8", "75"), ("7_5", "7e1", "0b111", "0o7", "7.9x")),
        ("resource.a == user.email", ("bob@example.com",), (" u1", ["u1"], "x ")),
        ("resource.a in data.per[user.id].on", ("x", 5, "on"), ("7", 7.5, " y ")),
        ("resource.a in data.per['u1'].on", ("x", 5, "on"), ("7", 7.5, " y ")),
    ],
)
def test_what_a_backend_makes_of_a_value_is_what_is_named(
    deny: str, passes: Any, becomes: Any
) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    for value in passes:
        assert reason(where, {"a": value}) is Reason.RULE_ALLOWED, value
    for value in becomes:
        assert reason(where, {"a": value}) is Reason.BODY_MALFORMED, value


NOUGHTS = "0" * 500


@pytest.mark.parametrize(
    "long",
    [
        NOUGHTS + "7",
        "-" + NOUGHTS + "7",
        f"0x{NOUGHTS}7",
        f"-0o{NOUGHTS}7",
        f"0b{NOUGHTS}111",
        f"{NOUGHTS}7.{NOUGHTS}",
        f"7.{NOUGHTS}1",
        "6." + "9" * 500,
        f"0.{NOUGHTS}7e501",
        f"7{NOUGHTS}e-500",
        f"{NOUGHTS}7 items",
        "\uff10" * 5_000 + "7",
    ],
)
def test_noughts_make_no_other_number(long: str) -> None:
    where = world(ALL, "deny: ['*'], when: \"resource.a in [7, -7]\"")
    assert reason(where, {"a": long}) is Reason.BODY_MALFORMED
    for other in (NOUGHTS + "8", f"0x{NOUGHTS}8", f"8.{NOUGHTS}", "7" + NOUGHTS):
        assert reason(where, {"a": other}) is Reason.RULE_ALLOWED


@pytest.mark.parametrize(
    "text", ["9" * 399 + "x", "9" * 399 + ".", "0" * 399 + "x", "0x" + "_" * 397, "9_" * 199 + "x"]
)
@pytest.mark.parametrize("deny", ["i == 7", "i in ['x', '7']", "i == true", "i == 'x'"])
def test_texts_like_numbers_cost_no_more_than_their_length(deny: str, text: str) -> None:
    """A pattern that tries its beginnings again took a thousand times the yardstick."""
    where = world(ALL, f'deny: ["*"], when: "resource.a.exists(i, {deny})"')
    route = where.routes.get("x")
    values = None if route is None else route.body_values
    assert values is not None
    body = {"a": [text] * 160}
    assert cost_ratio(lambda: values.reads_alike(body), rounds=3) < 60


@pytest.mark.parametrize(
    ("deny", "value"),
    [
        ("data.word == resource.a", "sudo"),
        ("resource.a != data.word ? false : true", "sudo"),
        ("data.lim.role == resource.a", "root"),
        ("data.lim['role'] == resource.a", "root"),
        ("data['lim'].role == resource.a", "root"),
        ("user.id == 'x' || data.lim.role == resource.a", "root"),
        ("user['id'] == resource.a", "u1"),
        ("resource.a == user['id']", "u1"),
        ("resource.a == data.names[0]", "root"),
        ("data.names[0] == resource.a", "root"),
        ("resource.a in [data.lim.role, 'x']", "root"),
        ("resource.a == ('root')", "root"),
        ("('root') == resource.a", "root"),
    ],
)
def test_what_it_is_compared_with_is_read_to_its_root(deny: str, value: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": value}) is Reason.NO_RULE
    assert reason(where, {"a": "other"}) is Reason.RULE_ALLOWED
    for other in ([value], f"{value} "):
        assert reason(where, {"a": other}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(("named", "text"), [(".5", "0.5"), ("-7", "-7"), ("(-7)", "-7")])
def test_a_number_is_seen_as_it_may_be_written(named: str, text: str) -> None:
    for deny in (f"resource.a == {named}", f"{named} == resource.a", f"resource.a in [{named}]"):
        assert reason(world(ALL, f'deny: ["*"], when: "{deny}"'), {"a": text}) is (
            Reason.BODY_MALFORMED
        ), deny


@pytest.mark.parametrize(
    "condition",
    [
        "resource.a == 'user:' + user.id",
        "'user:' + user.id == resource.a",
        "resource.a == user.id + 'x'",
        "resource.a == data.lim.role + 'x'",
        "data.lim.role + 'x' == resource.a",
        "resource.a in ['p' + user.id]",
        "resource.a in data.names + ['x']",
        "resource.a in ['x'] + data.names",
        "resource.a == 5 + 2",
        "5 + 2 == resource.a",
        "5 - 7 == resource.a",
        "resource.a == ('x') + 'y'",
        "resource.a + 1 == 7",
        "7 == resource.a + 1",
        "7 == resource.a.size()",
        "resource.a == 'X'.lowerAscii()",
        "resource.a == string('x')",
        "string('x') == resource.a",
    ],
)
def test_a_part_of_what_is_put_together_is_no_named_value(condition: str) -> None:
    uses = read_expression(condition).uses
    assert (uses.values, uses.equals, uses.tables, uses.texts) == (set(), set(), set(), set())


@pytest.mark.parametrize(
    "condition", ["resource.b == 'eu' && resource.a < 100", "100 > resource.a"]
)
def test_an_order_in_an_allow_asks_for_no_form(condition: str) -> None:
    where = world(f'allow: ["*"], when: "{condition}"', "allow: ['*'], when: \"user.id == 'u1'\"")
    assert reason(where, {"a": "99", "b": ["eu"]}) is Reason.RULE_ALLOWED


def test_a_table_is_looked_in_by_whatever_key() -> None:
    where = world(ALL, "deny: ['*'], when: \"resource.a in data.by_number[resource.b]\"")
    assert reason(where, {"a": 5, "b": "7"}) is Reason.NO_RULE
    assert reason(where, {"a": 6, "b": "7"}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": "5", "b": "7"}) is Reason.BODY_MALFORMED


def test_what_allows_by_an_equal_sign_allows_no_other_form() -> None:
    where = world("allow: ['*'], when: \"resource.a == 'u1' || resource.b in [7]\"")
    assert reason(where, {"a": ["u1"], "b": "7"}) is Reason.NO_RULE


@pytest.mark.parametrize(
    "condition",
    ["resource.a != 'u1'", "!(resource.a in ['u1'])", "resource.a == 'u1' ? false : true"],
)
def test_what_allows_whatever_is_not_equal_allows_no_other_form(condition: str) -> None:
    where = world(f'allow: ["*"], when: "{condition}"')
    assert reason(where, {"a": "u1"}) is Reason.NO_RULE
    assert reason(where, {"a": ["u1"]}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    ("named", "become", "others"),
    [
        (
            "true",
            ("true", "on", "x", " ", 1, 2, [True], [1, 2], [0], {"type": "x"}),
            (False, 0, "", "false", "off", [], {}),
        ),
        (
            "false",
            ("false", "off", "", " ", "0.0", "00", "-0", "0.", "0x0", "0e0", 0, [False], [], {}),
            (True, 1, "x", "true", "0x", {"type": "x"}),
        ),
    ],
)
def test_what_becomes_a_truth_is_none(named: str, become: Any, others: Any) -> None:
    where = world(ALL, f'deny: ["*"], when: "resource.a == {named}"')
    assert reason(where, {"a": named == "true"}) is Reason.NO_RULE
    for value in become:
        assert reason(where, {"a": value}) is Reason.BODY_MALFORMED, value
    for value in others:
        assert reason(where, {"a": value}) is Reason.RULE_ALLOWED, value


def test_each_item_of_a_list_is_one_value_where_it_is_compared() -> None:
    where = world(ALL, "deny: ['*'], when: \"resource.a.exists(i, i == 'admin')\"")
    assert reason(where, {"a": ["x", 1]}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": ["x", True]}) is Reason.BODY_MALFORMED
    assert reason(where, {"a": ["x", ["admin"]]}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    ("deny", "item"),
    [
        ("7 in resource.a", "7"),
        ("'7' in resource.a", 7),
        ("'admin' in resource.a", ["admin"]),
        ("user.id in resource.a", ["u1"]),
        ("resource.a.exists(i, i == 7)", "7"),
    ],
)
def test_what_is_looked_for_in_a_list_is_an_item_of_its_kind(deny: str, item: Any) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    assert reason(where, {"a": ["x"]}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": ["x", item]}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("size(resource.a) > 0", {"k": "v"}),
        ("resource.a.size() > 0", ["v"]),
        ("resource.a == data.mine", ["a-1", "a-2"]),
        ("resource.a == data.mine || 'v' == user.id", ["a-1", "a-2"]),
        ("resource.a == data.mine && resource.a != null", ["a-1", "a-2"]),
        ("resource.a == 'x' || 7 in [7]", "7"),
        ("resource.a in data.by_number['7']", 5),
        ("(((((((((((resource.a == 5)))))))))))", 5),
        ("((((((((((((resource.a)))))))))))) == 5", 5),
        ("resource.a in ['x', '7'] || 7 == 7", "7"),
        ("resource.a != []", ["v"]),
        ("has(resource.a)", {"k": "v"}),
        ("(resource.a + resource.b).filter(i, i == 'v') == ['v']", ["v"]),
        ("resource.a.exists(i, true)", [{"x": 1}, [2]]),
        ("'eu' in resource.a.regions", {"regions": ["eu"]}),
        ("resource.a.all(o, o.path != '/r' || 'x' in o.value)", [{"path": "/", "value": {"c": 1}}]),
        ("resource.a in [['x'], ['y']] && user.id != 'u2'", ["x"]),
        ("resource.a == 'none' || resource.a == data.mine || user.id == 'u2'", ["a-1", "a-2"]),
        ("!(resource.a == 'none' || resource.a in data.sets)", ["z"]),
        ("resource.a[0].id == 'x' && resource.b == []", [{"id": "x", "of": {"_id": "z"}}]),
        ("resource.a[user.id].role == 'x' && resource.b != [1]", {"u1": {"role": "x"}}),
        ("!has(resource.a.labels.app)", {"labels": {"app.kubernetes.io/name": "y"}}),
        ("string(resource.a) == '7' || user.id == 'u2'", "7"),
        ("resource.a.all(i, 'x' in i.roles)", [{"roles": ["x"]}]),
        ("resource.a.owner == user.id || resource.a.owner.id == user.id", {"owner": "u1"}),
        ("(has(resource.a) ? resource.a : []).all(t, t in data.mine)", ["a-1"]),
        ("size(has(resource.a) ? resource.a : []) == 1", ["a-1"]),
        ("(resource.b == [] ? resource.a : resource.b) == ['x']", ["x"]),
        ("resource.a.map(i, i.tags).all(t, 'x' in t)", [{"tags": ["x"]}]),
        ("resource.a.map(i, i.of).all(t, t.city == 'x')", [{"of": {"city": "x"}}]),
        ("resource.a.all(o, o.op != 'x' || o.value == true)", [{"op": "y", "value": ["x"]}]),
        ("dyn(resource.a).all(k, k in ['name'])", {"name": 1}),
        ("resource.a in data.sets", ["x"]),
        ("resource.a == true || resource.a == 'auto'", "auto"),
        ("resource.a in [false, 'auto']", "auto"),
        ("resource.a in [1, 2, 3, 4, 5, 6, 7, 8, '1', '2', '3']", "1"),
        ("resource.a in data.flags", True),
        ("resource.a.labels.app == 'x'", {"labels": {"app": "x", "app.kubernetes.io/name": "y"}}),
        ("resource.a.labels['x.y'] == 'q'", {"labels": {"x.y": "q", "other": 1}}),
        ("resource.a.user.id == resource.b[0]", {"user": {"id": "v"}}),
        ("resource.a.all(i, i.id == 1)", [{"id": 1, "of": {"_id": 2, "id": 3}}]),
        ("resource.a.x.id == 1 && resource.b == []", {"x": {"id": 1}, "y": {"ID": 2}, "ID": 3}),
        ("resource.a['x.y'] == 1", {"x.y": 1}),
        ("resource.a['k'] == 'v' && resource.a.all(k, k == 'k')", {"k": "v"}),
        ("'k' in resource.a && resource.a.k == 'v'", {"k": "v"}),
        ("resource.a == 'x' || 'v' in resource.a", ["v"]),
        ("data.mine.exists(m, m != resource.b)", [{"ID": 1, "Email": 2}]),
        ("resource.a[user.id] == 'v'", {"u1": "v", "U2": 1}),
        ("data.names.exists(n, n == 'root') && resource.a.all(i, i.id == 1)", [{"id": 1, "n": 2}]),
    ],
)
def test_what_is_taken_in_its_form_passes(condition: str, value: Any) -> None:
    assert reason(
        world(f'allow: ["*"], when: "{condition}"'),
        {"a": value, "b": ["v"] if "resource.b[0]" in condition else []},
    ) is (Reason.RULE_ALLOWED)


@pytest.mark.parametrize("value", ["7.0", "7e0", "70E-1", "1e-7"])
def test_a_text_is_made_of_no_number_that_backends_write_in_several_ways(value: str) -> None:
    where = world(ALL, "deny: ['*'], when: \"resource.joined == 'acc-7'\"")
    assert reason(where, {"id": float(value)}) is Reason.BODY_MALFORMED
    assert reason(where, {"id": 7}) is Reason.NO_RULE
    assert reason(where, {"id": 7.9}) is Reason.BODY_MALFORMED
    assert reason(where, {"id": 8}) is Reason.RULE_ALLOWED


def test_what_a_limit_counts_within_a_value_has_one_name() -> None:
    where = world(ALL, key="resource.a.account")
    assert reason(where, {"a": {"account": 7}}) is Reason.RULE_ALLOWED
    assert reason(where, {"a": {"account": 8, "Account": 7}}) is Reason.BODY_MALFORMED


def test_a_rule_in_shadow_refuses_nothing() -> None:
    where = world(ALL, "deny: ['*'], mode: shadow, when: \"resource.a == 'admin'\"")
    assert reason(where, {"a": ["admin"]}) is Reason.RULE_ALLOWED


def test_the_places_of_an_expression() -> None:
    uses = read_expression(
        "resource.l.exists(i, i.d.o == 1 && i.r in ['x']) && 'k' in resource.m"
    ).uses
    assert uses.lists == {("l",), ("m",)}
    assert uses.objects == {("l", ITEM), ("l", ITEM, "d")}
    assert uses.values == {
        (("l", ITEM, "d", "o"), int, 1),
        (("l", ITEM, "r"), str, "x"),
        (("m", ITEM), str, "k"),
    }
    assert uses.fields == {(("l", ITEM), ("d", "o")), (("l", ITEM), ("r",)), (("m",), ("k",))}
    assert uses.names == set()


@pytest.mark.parametrize(
    "other",
    [
        {"_id": "admin", "x": 1},
        {"_id": " admin", "x": 1},
        {"$ne": None},
        {"$in": ["admin", "y"]},
        {"$eq": "admin", "$exists": True},
    ],
)
def test_an_object_that_a_database_takes_for_the_value_is_none(other: object) -> None:
    """Mongoose makes the text of an `_id` in it, and asks MongoDB what its operators say."""
    for rule in ("deny: ['*'], when: \"resource.a == 'admin'\"",
                 "allow: ['*'], when: \"resource.a != 'admin'\""):  # fmt: skip
        where = world(ALL, rule) if rule.startswith("deny") else world(rule)
        assert reason(where, {"a": other}) is Reason.BODY_MALFORMED
        assert reason(where, {"a": {"_id": "buyer", "x": 1}}) is Reason.RULE_ALLOWED


@pytest.mark.parametrize(
    ("deny", "others"),
    [
        ("resource.a in ['036', '040']", ["044", "050", "032", "008"]),
        ("resource.a in ['840', '978', '036']", ["044"]),
        ("resource.a == '64'", ["0100"]),
        ("resource.a in ['1', '2', '10']", ["012"]),
    ],
)
def test_of_two_codes_none_is_the_other_in_octal(deny: str, others: list[str]) -> None:
    where = world(ALL, f'deny: ["*"], when: "{deny}"')
    for other in others:
        assert reason(where, {"a": other}) is Reason.RULE_ALLOWED
    assert reason(world(ALL, 'deny: ["*"], when: resource.a == 8'), {"a": "010"}) is (
        Reason.BODY_MALFORMED
    )


@pytest.mark.parametrize("place", ["resource.a", "(resource.a)", "((resource.a))"])
@pytest.mark.parametrize("count", [1, 5, 6, 8, 40])
def test_a_list_is_looked_in_to_its_end_behind_brackets_too(place: str, count: int) -> None:
    items = [f"a{number}" for number in range(count)]
    where = world(ALL, f'deny: ["*"], when: "{place} in {items}"')
    for item in (items[0], items[-1]):
        assert reason(where, {"a": f"{item} "}) is Reason.BODY_MALFORMED
        assert reason(where, {"a": [item]}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize("named", ["''", "0"])
def test_a_list_of_null_is_as_empty_as_none(named: str) -> None:
    where = world(ALL, f'deny: ["*"], when: "resource.a == {named}"')
    for other in ([], [None], {"x": None}):
        assert reason(where, {"a": other}) is Reason.BODY_MALFORMED
