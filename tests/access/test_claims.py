"""What is read of the claims of a token."""

from __future__ import annotations

from typing import Any

import cel
import pytest

from gateway.access.conditions.claims import claim_path, compile_claims
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.issuers import ClaimError, ClaimPath, ClaimReader, RequiredClaim
from tests.cpu_cost import cost_ratio


def reader(text: str, *, truth: bool = False) -> ClaimReader:
    compiled = compile_claims(text, EngineTypes(), truth=truth)
    assert not isinstance(compiled, list), compiled
    return compiled


def problem(text: str, *, truth: bool = False) -> str:
    compiled = compile_claims(text, EngineTypes(), truth=truth)
    assert isinstance(compiled, list), "it is taken"
    return compiled[0][1]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("claims.roles", ("roles",)),
        ("claims.realm_access.roles", ("realm_access", "roles")),
        ('claims["https://example.com/roles"]', ("https://example.com/roles",)),
        ("claims.resource_access['my-app'].roles", ("resource_access", "my-app", "roles")),
    ],
)
def test_a_path_leads_to_a_claim(text: str, keys: tuple[str, ...]) -> None:
    assert reader(text) == ClaimPath(text, keys)


@pytest.mark.parametrize(
    "text",
    ["claims", "sub", "user.id", "claims.a == 'b'", "claims.a + 'b'", "claims[claims.a]",
     "claims.a.size()", "claims[abc]", "claims[123]", "claims['a", "claims.a.", "claims.a['b'", "claims['\\x41']",
     "claims + abc", "claims.'a'", "claims('a']", "claims['a',"],
)  # fmt: skip
def test_what_is_more_or_less_than_a_path_is_none(text: str) -> None:
    assert claim_path(text) is None


def test_a_path_that_leads_nowhere_gives_nothing() -> None:
    assert reader("claims.realm_access.roles").read({"realm_access": "x"}) is None
    assert reader("claims.realm_access.roles").read({}) is None


@pytest.mark.parametrize(
    ("text", "claims", "value"),
    [
        ("claims.groups.map(g, 'team:' + g)", {"groups": ["a"]}, ["team:a"]),
        ("has(claims.groups) ? claims.groups : []", {}, []),
        ("claims.hd == 'example.com' ? ['staff'] : []", {"hd": "example.com"}, ["staff"]),
        ("['ci']", {"sub": "x"}, ["ci"]),
        ("claims[claims.kind]", {"kind": "b", "b": ["c"]}, ["c"]),
        ("claims.groups.filter(g, g.startsWith('app-'))", {"groups": ["app-a", "b"]}, ["app-a"]),
    ],
)
def test_an_expression_is_read_of_the_claims(text: str, claims: dict[str, Any], value: Any) -> None:
    assert reader(text).read(claims) == value


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("claims.groups.map(g, 'team:' + g)", {}),
        ("claims.groups.map(g, 'team:' + g)", {"groups": [1]}),
        ("claims.groups.map(g, 'team:' + g)", {"groups": "a"}),
        ("claims.groups.map(g, 'team:' + g)", {"groups": ["a"] * 1001}),
        ("1 / claims.a", {"a": 0}),
    ],
)
def test_an_expression_that_fails_is_an_error_that_names_it(
    text: str, claims: dict[str, Any]
) -> None:
    with pytest.raises(ClaimError) as raised:
        reader(text).read(claims)
    assert f"`{text}`" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups", "`groups` is not known here: the claims of the token are, such as `claims.groups`"),
        ("user.id", "such as `claims.user.id`"),
        ("claims.a.map(x, has_role('b'))", "`has_role` is for policies"),
        ("in_cidr(claims.ip, '10.0.0.0/8')", "`in_cidr` is for policies"),
        ("claims.a.nope()", "unknown function `nope`"),
        ("claims.a.map(claims, claims)", "may not be named `claims`"),
        ("claims.a.map(x, x.map(y, y))", "one level is the limit"),
        ("claims.a +", "not a CEL expression"),
        ("'a' + 1", "`+` is not defined for text and a number"),
        ("claims.a § 1", "has no meaning here"),
    ],
)  # fmt: skip
def test_what_could_never_be_read_is_a_problem(text: str, said: str) -> None:
    assert said in problem(text)


def test_what_has_to_be_true_or_false_is_checked() -> None:
    assert "not true or false" in problem("'yes'", truth=True)
    assert reader("claims.a == 'b'", truth=True).read({"a": "b"}) is True


def test_expressions_of_one_text_are_one() -> None:
    assert reader("claims.a + 'b'") == reader("claims.a + 'b'")
    assert reader("claims.a + 'b'") != reader("claims.a + 'c'")
    assert len({reader("claims.a + 'b'"), reader("claims.a + 'b'")}) == 1


@pytest.mark.parametrize(
    ("values", "claim", "met"),
    [
        (("shop",), "shop", True),
        (("shop", "web"), "web", True),
        (("shop",), "Shop", False),
        (("shop",), ["web", "shop"], True),
        (("shop",), [], False),
        (("shop",), None, False),
        ((1,), 1, True),
        ((1,), True, False),
        ((1,), "1", False),
        ((True,), 1, False),
        ((True,), "true", False),
        ((True,), True, True),
        ((1,), 1.0, False),
        (("shop",), {"shop": True}, False),
    ],
)
def test_a_required_claim_is_compared_by_value_and_type(
    values: tuple[str | int | float | bool, ...], claim: Any, met: bool
) -> None:
    required = RequiredClaim(ClaimPath("claims.a.b", ("a", "b")), values)
    assert required.met_by({"a": {"b": claim}}) is met


def test_a_required_claim_that_is_absent_is_not_met() -> None:
    assert not RequiredClaim(ClaimPath("azp", ("azp",)), ("shop",)).met_by({})


def test_of_the_claims_those_that_are_named_are_handed_over() -> None:
    other = object()  # the engine takes no such thing
    expression = reader("claims.a == 'x' && claims.b.c == 'y'")
    assert expression.read({"a": "x", "b": {"c": "y"}, "other": other}) is True
    whole = reader("size(claims) == 2 && claims.a == 'x'")
    assert whole.read({"a": "x", "b": 1}) is True
    with pytest.raises(ClaimError):
        whole.read({"a": "x", "other": other})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("claims.a + 'b'", "`claims.a + 'b'`: there is no a"),
        ("claims.list[7] == 'a'", "`claims.list[7] == 'a'`: index out of bounds: 7"),
        (
            "-claims.word == 1",
            "`-claims.word == 1`: No such overload: the operation is not defined for the given "
            "operand types. CEL does not coerce between types, so common causes are mixing int "
            "with uint or doub",
        ),
    ],
)
def test_a_failure_is_told_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ClaimError) as failed:
        reader(text).read({"list": ["a"], "word": "w"})
    assert str(failed.value) == why


def test_an_expression_is_known_by_its_text() -> None:
    one, other = reader("claims.a + 'b'"), reader("claims.a + 'c'")
    assert one == reader("claims.a + 'b'")
    assert one != other
    assert len({hash(one), hash(other), hash(reader("claims.a + 'b'"))}) == 2


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("user.id + usr.id + claims.a", [0, 10]),
        ("nope(claims.a) + nope(claims.b) + claims.c", [0, 17]),
        ("usr.id + nope(claims.a)", [0, 9]),
        ("claims.a.all(claims, claims == 'a')", [0]),
        ("claims.a 'b'", [9]),
        ("claims.a + 1 == 'a' + 1", [20]),
    ],
)
def test_every_problem_of_an_expression_is_told_with_its_place(
    text: str, places: list[int]
) -> None:
    found = compile_claims(text, EngineTypes())
    assert isinstance(found, list)
    assert [at for at, _ in found] == places


def test_it_has_to_be_a_truth_where_that_is_said() -> None:
    assert not isinstance(compile_claims("'a' + 'b'", EngineTypes()), list)
    assert compile_claims("'a' + 'b'", EngineTypes(), truth=True) == [
        (0, "gives text, not true or false")
    ]


LONG = ["a", "ab", "b"] * 333


@pytest.mark.parametrize(
    "text",
    [
        "claims.groups.filter(g, g.startsWith('a'))",
        "claims.groups.map(g, 'acme-' + g)",
        "claims.groups.map(g, g != 'b', g + '(' + g)",
        "claims.groups.filter(g, g != 'b').map(g, 'acme-' + g)",
        "claims.groups.map(g, [g])[0]",
        "claims.groups.filter(g, g == claims.groups[0])",
        "claims.groups.map(g, g) + ['x']",
    ],
)
@pytest.mark.parametrize("many", [0, 1, 50, 51, 123])
def test_a_long_list_gives_what_the_engine_makes_of_it_at_once(text: str, many: int) -> None:
    claims = {"groups": LONG[:many]}
    if not many and "[0]" in text and "map" in text:
        with pytest.raises(ClaimError):
            reader(text).read(claims)
        return
    assert reader(text).read(claims) == cel.compile(text).execute({"claims": claims})


def test_a_long_list_within_a_claim_is_read_item_by_item() -> None:
    text = "claims['a'].groups.filter(g, g == 'b')"
    assert reader(text).read({"a": {"groups": LONG}}) == ["b"] * 333
    assert sorted(reader(text).read({"a": {"groups": {"b": 1, "c": 2}}})) == ["b"]
    with pytest.raises(ClaimError):
        reader(text).read({"a": {"groups": "b"}})
    with pytest.raises(ClaimError):
        reader("claims.groups.map(g, 'x' + g)").read({"groups": [*LONG, 7]})


def test_who_is_in_a_thousand_groups_costs_no_thousand_squared() -> None:
    """Somebody who brings token after token would stop the worker for 60 ms with each,
    which is some 200 plain loops."""
    read = reader("claims.groups.map(g, 'acme-' + g)").read
    assert cost_ratio(lambda: read({"groups": LONG})) < 50
