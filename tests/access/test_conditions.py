"""A condition is checked when it is loaded, and fails closed when it is judged."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.functions import AddressBlocks, address_of
from gateway.access.conditions.long_lists import MAX_ITEMS
from gateway.access.roles import Role, RoleBook
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Principal
from tests.access.worlds import NOW, who

BOOK = RoleBook([Role("lead", ("member",)), Role("member", (), ("docs:read",))])


def evaluate(source: str, caller: Principal | None = None, **more: Any) -> bool | str:
    data = more.pop("data", {})
    condition = ConditionCompiler(data).compile(source)
    assert isinstance(condition, Condition), condition
    call = simulated_call(
        SimulatedRequest("GET", "/a/b?x=1", client_ip=more.pop("ip", "127.0.0.1"))
    )
    assert not isinstance(call, str)
    return condition.evaluate(EvaluationContext(call, caller, BOOK, lambda: NOW, data=data, **more))


def refused(source: str) -> str:
    found = ConditionCompiler({"teams": {}}).compile(source)
    assert not isinstance(found, Condition), f"{source} was taken"
    return " / ".join(text for _, text in found)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("usr.id == 'a'", "unknown name `usr`; did you mean `user`?"),
        ("user.nope == 1", "`user` has no field `nope`"),
        ("user.emial == 'a'", "did you mean `email`?"),
        ("size(user) > 1", "`user` alone can only be compared"),
        ("user == resource", "`user` alone can only be compared"),
        ("has(user.tenant)", "is true of everybody who is signed in: ask `user.tenant != null`"),
        ("user != null && !has((user.email))", "ask `user.email != null`"),
        ("has(user.tenant_role) || has(user.auth_time)", "ask `user.auth_time != null`"),
        ("has(user.session_id) ? true : false", "ask `user.session_id != null`"),
        ("has(", "`has` takes 1 argument(s), not 0"),
        ("user.id.x == 'a'", "`user.id` has no fields of its own"),
        ("user[resource.x] == 1", "is written out"),
        ("client.port == 1", "client.ip"),
        ("now.hours == 1", "now.getHours()"),
        ("request.body == 1", "`request` has no field `body`"),
        ("request.query[user.id] == 'a'", "the name is written out"),
        ("request.query == {}", "the name is written out"),
        ("request.headers['X-Tenant'] == 'a'", 'request.headers["x-tenant"]'),
        ("request.headers['x-auth-user-id'] == 'a'", "never believed; use `user`"),
        ("request.headers['x-forwarded-for'] == 'a'", "use `client.ip`"),
        ("request.headers['x-original-uri'] == 'a'", "use `request.path`"),
        ("request.headers['x_original_proto'] == 'a'", "what another proxy tells of a call"),
        ("request.headers['authorization'] != ''", "use `user`"),
        ("request.headers['x_auth_user_id'] == 'a'", "never believed; use `user`"),
        ("request.headers['x.real.ip'] == 'a'", "use `client.ip`"),
        ("request.headers['cf-connecting-ip'] == 'a'", "use `client.ip`"),
        ("request.headers['proxy'] == 'a'", "it never reaches the backend"),
        ("request.headers['proxy-authorization'] == 'a'", "it never reaches the backend"),
        ("request.headers['te'] == 'a'", "it never reaches the backend"),
        ("request.headers['x-request-id'] == 'a'", "the gateway writes it"),
        ("request.headers['user-agent'] == 'probe'", "a client writes it as it pleases"),
        ("nope(user.id)", "unknown function `nope`"),
        ("user.id.startWith('a')", "did you mean `startsWith`?"),
        ("hasrole('a')", "did you mean `has_role`?"),
        ("in_cidr(client.ip, '10.0.0.300/8')", "is no address block"),
        ("in_cidr(client.ip, '10.0.0.1/8')", "has host bits set"),
        ("in_cidr(client.ip)", "takes 2 argument(s)"),
        ("user.has_role('a')", "stands alone"),
        ("user.roles.all(a, user.roles.all(b, a == b))", "one level is the limit"),
        ("user.roles.all(user, user == 'a')", "may not be named `user`"),
        ("data.team['a'] == 1", "did you mean `teams`?"),
        ("user.id == ", "not a CEL expression"),
        ("(" * 300 + "true" + ")" * 300, "not a CEL expression: nested too deeply"),
        ("user.id = 'a'", "has no meaning here"),
        ("", "not a CEL expression"),
        ("$x", "has no meaning here"),
        ("env.PATH == ''", "unknown name `env`"),
    ],
)
def test_what_nobody_could_answer_is_refused_at_load(source: str, said: str) -> None:
    assert said in refused(source)


@pytest.mark.parametrize(
    "source",
    [
        "has(user.claims.tenant) || has(user.tenants.north)",
        "has(data.teams[user.email].lead)",
        "has(resource.owner) && user.tenant != null",
        "'north' in user.tenants && user.email in data.teams",
    ],
)
def test_what_may_be_absent_is_asked_for_by_has(source: str) -> None:
    assert isinstance(ConditionCompiler({"teams": {}}).compile(source), Condition)


def test_every_problem_of_an_expression_is_told_with_its_place() -> None:
    found = ConditionCompiler().compile("usr.id == 1 && nope(user.x)")
    assert isinstance(found, list)
    assert [at for at, _ in found] == [0, 15, 20]


@pytest.mark.parametrize(
    ("source", "at"),
    [
        ("'a' 'b'", 4),
        ("true &&\n 'a' 'b'", 13),
        ("true &&\n\n  true &&\n'a' 'b'", 23),
        ("'a'\n'b'", 4),
        ("(" * 300 + "true" + ")" * 300, 0),
    ],
)
def test_a_mistake_of_grammar_is_told_where_it_stands(source: str, at: int) -> None:
    found = ConditionCompiler().compile(source)
    assert isinstance(found, list)
    assert [where for where, _ in found] == [at]


@pytest.mark.parametrize(
    "source",
    [
        "'user.nope' == user.id",
        'user.id == "usr.x" // usr.y',
        "user.id == r'usr\\d'",
        "user.id == '''usr.x'''",
        "user.roles.exists(r, r == 'a')",
        "user.claims.anything.at.all == 1",
        "user.claims['https://example.com/tier'] == 'gold'",
        "has(resource.owner) && resource.owner == user.id",
        "now - user.auth_time < duration('5m')",
        "now.getHours() > 8",
        "user.email.endsWith('@example.com') && user.email_verified",
        "resource.tags.filter(t, t == 'x').size() > 0",
        "'x' in request.query",
    ],
)
def test_what_can_be_answered_is_taken(source: str) -> None:
    assert isinstance(ConditionCompiler().compile(source), Condition)


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("user.id == 'u1'", True),
        ("user.email == null", True),
        ("user.id == 'u2'", False),
        ("'lead' in user.roles", True),
        ("has_role('member')", True),
        ("has_role('boss')", False),
        ("'member' in user.roles", False),
        ("has_scope('docs:read')", True),
        ("user.auth_time == now", True),
        ("now.getFullYear() == 2027", True),
        ("request.method == 'GET' && request.path == '/a/b' && request.host == 'localhost'", True),
        ("in_cidr(client.ip, '127.0.0.0/8')", True),
        ("client.ip.in_cidr('10.0.0.0/8')", False),
        ("user != null", True),
        ("user != null && user.email == null && user.id == 'u1'", True),
    ],
)
def test_a_condition_reads_the_call(source: str, outcome: bool) -> None:
    assert evaluate(source, who("u1", "lead")) is outcome


@pytest.mark.parametrize(
    "source",
    [
        "user.claims.word",
        "user.claims.number",
        "user.claims.nothing",
        "user.claims.list",
        "user.claims.level > 3",
        "resource.owner == user.id",
        "user.email.size() > 3",
        "user.roles[7] == 'a'",
        "1 / user.claims.zero == 1",
        "int(user.id) == 1",
        "in_cidr(user.id, '10.0.0.0/8') || false",
        "request.query.y == '1'",
        "user.claims.most + 1 > 0",
    ],
)
def test_only_true_itself_allows_and_failures_say_why(source: str) -> None:
    claims = {
        "word": "true", "number": 1, "nothing": None, "list": [True], "zero": 0, "most": 2**63 - 1,
    }  # fmt: skip
    outcome = evaluate(source, who("u1", claims=claims))
    assert isinstance(outcome, str)
    assert outcome


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("resource.word", "gives str 'true', not true or false"),
        ("resource.number", "gives int 1, not true or false"),
        ("resource.nothing", "gives NoneType None, not true or false"),
        ("resource.level > 3", "there is no level"),
        ("user.roles[7] == 'a'", "index out of bounds: 7"),
        ("1 / resource.zero == 1", "division by zero in CEL expression"),
        ("in_cidr(user.id, '10.0.0.0/8') || false", "`in_cidr` cannot read what it is given"),
        ("user.id.matches(resource.word + '(')", "`matches` cannot read what it is given"),
        (
            "!(resource.number + 'a' == 'b')",
            "No such overload: the operation is not defined for the given operand types. CEL does "
            "not coerce between types, so common causes are mixing int with uint or doub",
        ),
    ],
)
def test_a_failure_is_one_line_of_at_most_160_characters(source: str, why: str) -> None:
    resource = {"word": "true", "number": 1, "nothing": None, "zero": 0}
    assert evaluate(source, who("u1"), resource=resource) == why


def test_a_failure_without_words_is_told_all_the_same() -> None:
    class Unreadable(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise KeyError

    assert evaluate("resource.x == 1", resource=Unreadable(x=1)) == "there is no such key"


def test_what_the_call_gives_by_name_is_read_of_its_own_kind() -> None:
    kinds = ("params", "query", "headers")
    given: dict[str, Any] = {kind: {"a": kind} for kind in kinds}
    for kind in kinds:
        assert evaluate(f"request.{kind}.a == '{kind}'", **given) is True
        assert isinstance(evaluate(f"request.{kind}.b == '{kind}'", **given), str)


def test_what_is_nested_too_deeply_is_told_as_such() -> None:
    source = "(" * 300 + "true" + ")" * 300
    assert ConditionCompiler().compile(source) == [(0, "not a CEL expression: nested too deeply")]


def test_a_condition_has_to_be_a_truth_unless_it_is_said_otherwise() -> None:
    assert ConditionCompiler().compile("user.id") == [(0, "gives text, not true or false")]
    assert isinstance(ConditionCompiler().compile("user.id", truth=False), Condition)


def test_null_user_has_no_fields() -> None:
    assert evaluate("user == null") is True
    assert isinstance(evaluate("user.id == 'a'"), str)
    assert evaluate("has_role('member')") is False


def test_iteration_over_more_than_a_thousand_items_fails() -> None:
    source = "resource.items.exists(i, i == 'a')"
    assert evaluate(source, resource={"items": ["a"] * MAX_ITEMS}) is True
    outcome = evaluate(source, resource={"items": ["a"] * (MAX_ITEMS + 1)})
    assert outcome == "iterates over more than 1000 items"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda items: items,
        tuple,
        lambda items: dict.fromkeys(map(str, range(len(items)))),
        lambda items: [items],
        lambda items: ["a", items],
        lambda items: (["a"], items),
        lambda items: {"a": items},
        lambda items: {"a": "b", "c": [{"d": tuple(items)}]},
    ],
)
def test_a_list_or_map_is_counted_wherever_it_stands(wrapped: Callable[[list[str]], Any]) -> None:
    source = "size(resource.items) > 0 || resource.none.exists(i, i == 'b')"
    assert evaluate(source, resource={"items": wrapped(["a"] * MAX_ITEMS)}) is True
    outcome = evaluate(source, resource={"items": wrapped(["a"] * (MAX_ITEMS + 1))})
    assert outcome == "iterates over more than 1000 items"


def test_a_text_is_no_list_of_signs() -> None:
    source = "resource.items.all(i, i != resource.text)"
    assert evaluate(source, resource={"items": ["a"], "text": "b" * 1001}) is True


def test_looking_up_is_no_iteration() -> None:
    assert evaluate("'a' in resource.items", resource={"items": ["b"] * 5000 + ["a"]}) is True


DATA = {"teams": {"red": {"members": ["u1"], "lead": "u9"}, "blue": {"members": ["u2"]}}}


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("user.id in data.teams[resource.team].members", True),
        ("user.id in data.teams['blue'].members", False),
        ("user.id in data.teams.red.members && data.teams.red.lead == 'u9'", True),
        ("'red' in data.teams", True),
        ("'green' in data.teams", False),
        ("resource.team in data.teams", True),
        ("data.teams[resource.team].members.exists(m, m == user.id)", True),
        ("data.teams['r' + 'ed'].lead == 'u9'", True),
    ],
)
def test_relations_are_read_from_data(source: str, outcome: bool) -> None:
    assert evaluate(source, who("u1"), data=DATA, resource={"team": "red"}) is outcome


@pytest.mark.parametrize(
    "source",
    [
        "data.teams[data.homes[user.id]].lead == 'u9'",
        "data.teams[data.homes[data.names[user.email]]].lead == 'u9'",
        "data.teams[user.roles[0]].lead == 'u9'",
        "data.teams[data.homes[user.id] + ''].lead == 'u9'",
        "user.id in data.teams[data.homes[user.id]].members && !(user.id in data.teams.blue.members)",
    ],
)
def test_a_table_may_be_asked_by_what_another_table_or_a_list_says(source: str) -> None:
    tables = {**DATA, "homes": {"u1": "red"}, "names": {"u1@a.example": "u1"}}
    assert evaluate(source, who("u1", "red", email="u1@a.example"), data=tables) is True


@pytest.mark.parametrize("team", ["green", "", None, 7, ["red"], {"red": 1}])
def test_a_team_that_is_not_there_is_a_failure(team: Any) -> None:
    source = "user.id in data.teams[resource.team].members"
    assert isinstance(evaluate(source, who("u1"), data=DATA, resource={"team": team}), str)


def test_judging_leaves_the_data_as_it_was() -> None:
    before = str(DATA)
    source = "data.teams.red.lead == 'u9' && data.teams.red.members[0] == 'u1' && 'x' in data.teams"
    evaluate(source, who("u1"), data=DATA)
    evaluate(
        "data.teams.red == data.teams[resource.team]", who(), data=DATA, resource={"team": "red"}
    )
    assert str(DATA) == before


@pytest.mark.parametrize(
    ("address", "block", "inside"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        # GHSA-7jmw-8259-q9jx: IPv4-mapped addresses fell outside address lists.
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("not an address", "10.0.0.0/8", None),
        ("10.1.2.3", "nonsense", None),
        (None, "10.0.0.0/8", None),
        ("10.1.2.3", 8, None),
    ],
)
def test_in_cidr(address: Any, block: Any, inside: bool | None) -> None:
    assert AddressBlocks().in_cidr(address, block) is inside


@pytest.mark.parametrize(
    "source",
    [
        "in_cidr(resource.ip, '10.0.0.0/8') != true",
        "in_cidr(resource.ip, '10.0.0.0/8') == null",
        "!in_cidr(resource.ip, '10.0.0.0/8')",
        "[in_cidr(resource.ip, '10.0.0.0/8')].size() == 1",
    ],
)
def test_what_is_no_address_lies_neither_inside_nor_outside(source: str) -> None:
    assert isinstance(evaluate(source, resource={"ip": "10.0.0.1.evil"}), str)


def test_a_text_that_is_too_long_for_an_address_is_not_remembered() -> None:
    in_cidr = AddressBlocks().in_cidr
    assert in_cidr("10.1.2.3" * 1_000, "10.0.0.0/8") is None
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(300):
            assert in_cidr("1" * 4_096 + str(number), "1" * 4_096 + str(number)) is None
        grown_by = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown_by < 300 * 4_096 // 4


def test_an_address_and_a_block_of_128_characters_are_read_and_longer_ones_are_not() -> None:
    zone = "fe80::1%" + "z" * 120
    assert AddressBlocks().in_cidr(zone, zone) is True
    assert AddressBlocks().in_cidr(zone + "z", "fe80::/10") is None
    assert AddressBlocks().in_cidr("fe80::1", zone + "z") is None
    assert address_of(zone) is not None
    assert address_of(zone + "z") is None


def test_a_mapped_address_is_shown_as_ipv4() -> None:
    assert evaluate("client.ip == '10.0.0.1'", ip="::ffff:10.0.0.1") is True


def test_scopes_limit_a_credential() -> None:
    assert evaluate("has_scope('docs:read')", who(scopes=["docs:*"])) is True
    assert evaluate("has_scope('docs:read')", who(scopes=["mail:*"])) is False
    assert evaluate("has_scope('docs:read')") is False
    foreign = replace(who(), issuer="company", granted_scopes=("docs:read", "mail:*"))
    assert evaluate("has_scope('docs:read')", foreign) is True
    assert evaluate("has_scope('docs:write')", foreign) is False
    assert evaluate("has_scope('mail:read')", foreign) is False


def test_a_failing_function_writes_nothing_to_standard_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    caller = who(claims={"number": 1, "list": ["a"]})
    for source in (
        "in_cidr(user.claims.number, '10.0.0.0/8')",
        "has_role(user.claims.list)",
        "has_scope(user.claims.number)",
    ):
        evaluate(source, caller)
    assert capfd.readouterr() == ("", "")
