"""What an attribute may be, and for which tenant a caller acts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.access.attributes import (
    Attribute,
    AttributeType,
    attributes_of,
    in_tenant,
    is_tenant_name,
    tenant_of,
    tenant_role_of,
    tenants_of,
)
from gateway.model import Principal
from tests.access.worlds import who

TEXT, WHOLE = Attribute("a"), Attribute("a", AttributeType.INTEGER)
TRUTH, LIST = Attribute("a", AttributeType.BOOLEAN), Attribute("a", AttributeType.LIST)
COLOUR = Attribute("a", values=("red", "blue"))
COLOURS = Attribute("a", AttributeType.LIST, values=("red", "blue"))
ONE_LINE = "is one line of at most 256 characters"


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        (TRUTH, True, None),
        (TRUTH, False, None),
        (TRUTH, 1, "is true or false"),
        (WHOLE, 2**53, None),
        (WHOLE, -(2**53), None),
        (WHOLE, 2**53 + 1, f"is a whole number, {2**53} at most"),
        (WHOLE, -(2**53) - 1, f"is a whole number, {2**53} at most"),
        (WHOLE, True, f"is a whole number, {2**53} at most"),
        (WHOLE, 1.0, f"is a whole number, {2**53} at most"),
        (TEXT, "x" * 256, None),
        (TEXT, "x" * 257, ONE_LINE),
        (TEXT, "a\nb", ONE_LINE),
        (TEXT, "", "is text, and not empty"),
        (TEXT, 1, "is text, and not empty"),
        (COLOUR, "red", None),
        (COLOUR, "green", "is one of red, blue"),
        (LIST, ["a"] * 32, None),
        (LIST, [], None),
        (LIST, ("a",), None),
        (LIST, ["a"] * 33, "holds at most 32 entries"),
        (LIST, "a", "is a list of texts"),
        (LIST, ["a", ""], "holds a text that is text, and not empty"),
        (COLOURS, ["red", "green"], "holds a text that is one of red, blue"),
    ],
)
def test_why_an_attribute_cannot_have_a_value(
    attribute: Attribute, value: Any, problem: str | None
) -> None:
    assert attribute.problem(value) == problem


def ann(**claims: Any) -> Principal:
    return replace(who("ann"), claims=claims)


BOTH = {"north": "editor", "south": "viewer"}


@pytest.mark.parametrize(
    ("claims", "tenants", "tenant", "role"),
    [
        ({}, {}, None, None),
        ({"tenants": BOTH}, BOTH, None, None),
        ({"tenants": BOTH, "tenant": "south"}, BOTH, "south", "viewer"),
        ({"tenants": BOTH, "tenant": "west"}, BOTH, "west", None),
        ({"tenants": BOTH, "tenant": "a b"}, BOTH, None, None),
        ({"tenants": {"a b": "x", "n": 1, "ok": "y"}}, {"ok": "y"}, None, None),
        ({"tenants": ["north"], "tenant": 7}, {}, None, None),
        ({"tenants": {"None": "x"}}, {"None": "x"}, None, None),
    ],
)
def test_which_tenants_a_caller_has_and_for_which_they_act(
    claims: dict[str, Any], tenants: dict[str, str], tenant: str | None, role: str | None
) -> None:
    caller = ann(**claims)
    assert (tenants_of(caller), tenant_of(caller), tenant_role_of(caller)) == (
        tenants,
        tenant,
        role,
    )
    other = replace(caller, issuer="company")
    assert (tenants_of(other), tenant_of(other), tenant_role_of(other)) == ({}, None, None)


def test_attributes_are_those_of_a_token_of_ours() -> None:
    caller = ann(attributes={"team": "blue"})
    assert attributes_of(caller) == {"team": "blue"}
    assert attributes_of(replace(caller, issuer="company")) == {}
    for odd in ("team", ["team"], None, 7):
        assert attributes_of(ann(attributes=odd)) == {}


def test_whoever_acts_for_another_tenant_is_sent_as_they_are_there() -> None:
    """What was made for the fields of the tenant before would tell the backend of that one."""
    caller = replace(
        ann(tenants=BOTH, tenant="north", other=1),
        identity_headers=b"X-Auth-Tenant: north\r\n",
        identity_lines={"other": b"X-Tenant: north\r\n"},
    )
    assert in_tenant(caller, "north") is caller
    south = in_tenant(caller, "south")
    assert south.claims == {"tenants": BOTH, "tenant": "south", "other": 1}
    none = in_tenant(caller, "west")
    assert none.claims == {"tenants": BOTH, "other": 1}
    for moved in (south, none):
        assert (moved.subject, moved.identity_headers, moved.identity_lines) == ("ann", None, None)


def test_a_tenant_is_named_as_a_role_is() -> None:
    good = ("a", "A.b_c:d@e-f", "0" * 128)
    assert all(map(is_tenant_name, good))
    assert not any(map(is_tenant_name, ("", "a b", "ä", "a\n", "0" * 129, 7, None)))
