from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.roles import Role, RoleBook, is_action, is_action_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "action", "covered"),
    [
        ("orders:read", "orders:read", True),
        ("orders:*", "orders:read", True),
        ("orders:*", "orders:items:read", True),
        ("orders:*", "orders", False),
        ("orders:*", "ordersx:read", False),
        # GHSA-gx7w-56w6-g48x: rights matched by prefix opened their neighbours.
        ("order", "orders", False),
        ("*", "anything:at:all", True),
        ("*", "", True),
        ("*:read", "orders:read", True),
        ("*:read", "orders:write", False),
        ("*:read", "orders:items:read", False),
        ("*:read", "orders:read:x", False),
        ("orders:*:read", "orders:items:read", True),
        ("orders:*:read", "orders:read", False),
        ("Orders:read", "orders:read", False),
    ],
)
def test_a_star_stands_for_whole_words(pattern: str, action: str, covered: bool) -> None:
    assert matches(pattern, action) is covered


@pytest.mark.parametrize("text", ["", "a b", "orders:", ":read", "a::b", "a,b", "a/b", "ord*"])
def test_what_is_no_action(text: str) -> None:
    assert not is_action(text)
    assert not is_action_pattern(text)


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(":".join)


@given(WORDS)
def test_an_action_covers_itself_and_nothing_else(action: str) -> None:
    assert matches(action, action)
    assert not matches(action, action + ":x")
    assert matches(action.rpartition(":")[0] + ":*" if ":" in action else "*", action)


def book(**roles: tuple[list[str], list[str]]) -> RoleBook:
    return RoleBook(Role(n, tuple(i), tuple(p)) for n, (i, p) in roles.items())


def test_a_role_has_what_it_inherits_through_every_step() -> None:
    roles = book(a=([], ["x:read"]), b=(["a"], []), c=(["b"], ["x:write"]))
    assert roles.expand(("c",)) == {"a", "b", "c"}
    assert roles.permits(("c",), "x:read")
    assert roles.permits(("c",), "x:write")
    assert not roles.permits(("b",), "x:write")


def test_an_undefined_role_permits_nothing() -> None:
    assert book().expand(("ghost",)) == {"ghost"}
    assert not book().permits(("ghost",), "x:read")


def test_the_granting_role_and_permission_are_named() -> None:
    roles = book(a=([], ["x:*"]), b=(["a"], []))
    assert roles.granting(("b",), "x:read") == ("a", "x:*")
    assert roles.granting(("b",), "y:read") is None


@pytest.mark.parametrize(
    "roles",
    [
        {"a": (["a"], [])},
        {"a": (["b"], []), "b": (["a"], [])},
        {"x": (["a"], []), "a": (["b"], []), "b": (["c"], []), "c": (["a"], [])},
    ],
)
def test_a_ring_is_found(roles: dict[str, tuple[list[str], list[str]]]) -> None:
    ring = book(**roles).cycle()
    assert ring is not None
    assert ring[0] == ring[-1]


def test_a_ring_is_found_beside_what_is_none() -> None:
    roles = book(base=([], []), a=(["base", "c"], []), c=(["a"], []))
    assert roles.cycle() == ("a", "c", "a")


def test_a_role_that_is_held_twice_hides_no_other() -> None:
    roles = book(a=(["base"], []), b=(["base"], []), base=([], ["x:read"]))
    assert roles.expand(("z", "a", "a", "b", "base")) == {"z", "a", "b", "base"}


def test_of_10000_lists_of_roles_what_was_worked_out_is_remembered_and_then_anew() -> None:
    roles = book(a=([], ["x:*"]))
    first = roles.expand(("a",))
    for number in range(9_999):
        roles.expand((f"r{number}",))
    assert roles.expand(("a",)) is first
    roles.expand(("one more",))
    assert roles.expand(("a",)) is not first
    assert roles.expand(("a",)) == first


def test_a_diamond_is_no_ring() -> None:
    roles = book(top=(["l", "r"], []), l=(["base"], []), r=(["base"], []), base=([], []))
    assert roles.cycle() is None


def test_ten_thousand_roles_in_a_row_are_no_trouble() -> None:
    chain = RoleBook(Role(f"r{i}", (f"r{i + 1}",)) for i in range(10_000))
    assert chain.cycle() is None
    assert len(chain.expand(("r0",))) == 10_001
