"""What a provider's claims say of somebody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.access.attributes import Attribute, AttributeType
from gateway.access.issuers import ClaimPath
from gateway.identity.providers.identities import IdentityRefused, identity_of
from tests.identity.providers.parts import provider

CLAIMS = {"sub": "alice", "email": "Ada@Example.com", "email_verified": True}


def test_an_address_is_verified_where_the_provider_says_so() -> None:
    one = identity_of(provider(), CLAIMS)
    assert (one.subject, one.email, one.email_verified) == ("alice", "Ada@Example.com", True)
    assert one.normalized_email == "ada@example.com"


@pytest.mark.parametrize("said", [True, "true", "1", 1])
def test_apple_and_microsoft_say_it_in_other_words(said: object) -> None:
    assert identity_of(provider(), {**CLAIMS, "email_verified": said}).email_verified


@pytest.mark.parametrize("said", [False, None, "false", "True", "yes", 0, 2, [], [True], {}])
def test_whatever_else_is_said_is_no_yes(said: object) -> None:
    assert not identity_of(provider(), {**CLAIMS, "email_verified": said}).email_verified


@pytest.mark.parametrize("email", [None, 7, "", "ada", "ada@localhost\n", ["a@b.example"]])
def test_what_mail_cannot_reach_is_no_address(email: object) -> None:
    one = identity_of(provider(), {**CLAIMS, "email": email})
    assert (one.email, one.email_verified) == (None, False)


@pytest.mark.parametrize("subject", [None, "", 7, "a b", "é", "x" * 256, ["alice"]])
def test_whoever_has_no_name_there_is_nobody(subject: object) -> None:
    with pytest.raises(IdentityRefused):
        identity_of(provider(), {**CLAIMS, "sub": subject})


def test_roles_are_names() -> None:
    one = identity_of(
        provider("roles: claims.groups"), {**CLAIMS, "groups": ["a", "b c", "a", 7, "d"]}
    )
    assert one.roles == ("a", "d")
    assert identity_of(provider("roles: claims.groups"), CLAIMS).roles == ()
    with pytest.raises(IdentityRefused):
        identity_of(provider("roles: claims.groups.map(g, g)"), CLAIMS)


@pytest.mark.parametrize(
    "claims",
    [
        {"amr": ["pwd", "mfa", "otp"]},
        {"amr": ["hwk"], "acr": "phr"},
        {"amr": "mfa"},
        {"acr": "mfa"},
    ],
)
def test_a_second_factor_there_counts_where_the_provider_is_trusted(
    claims: dict[str, Any],
) -> None:
    """Else a rule that asks for one would believe a stranger."""
    assert identity_of(provider(), {**CLAIMS, **claims}).amr == ("fed",)
    trusted = identity_of(provider("trust_mfa: true"), {**CLAIMS, **claims})
    assert {"mfa", "fed"} <= set(trusted.amr)


@pytest.mark.parametrize(
    "claims", [{}, {"amr": ["pwd"]}, {"amr": [7, {}]}, {"acr": "1"}, {"acr": ["mfa"]}]
)
def test_a_trusted_provider_that_says_nothing_of_it_had_none(claims: dict[str, Any]) -> None:
    one = identity_of(provider("trust_mfa: true"), {**CLAIMS, **claims})
    assert "mfa" not in one.amr
    assert set(one.amr) <= {"pwd", "fed"}


def test_groups_required_claims_and_domains_are_asked_for() -> None:
    staff = provider("groups: [staff]\ndomains: [example.com]\nrequire: {hd: example.com}")
    good = {**CLAIMS, "groups": ["staff"], "hd": "example.com"}
    assert identity_of(staff, good).missing is None
    for changed in (
        {"groups": ["guests"]},
        {"groups": "staffs"},
        {"hd": "evil.example"},
        {"email": "ada@evil.example"},
        {"email_verified": False},
        {"email": "ada@sub.example.com"},
    ):
        assert identity_of(staff, {**good, **changed}).missing is not None, changed


def test_attributes_are_read_and_held_against_their_type() -> None:
    department = Attribute("department", values=("sales",))
    teams = Attribute("teams", AttributeType.LIST, values=("a", "b"))
    mapped = replace(
        provider(),
        attributes=(
            (department, ClaimPath("claims.dept", ("dept",))),
            (teams, ClaimPath("claims.groups", ("groups",))),
        ),
    )
    for claims, read in (
        ({"dept": "sales", "groups": ["b", "x", "b", 7]}, {"department": "sales", "teams": ["b"]}),
        ({"dept": "marketing", "groups": []}, {"department": None, "teams": None}),
        ({"dept": ["sales"], "groups": "a"}, {"department": None, "teams": None}),
        ({}, {"department": None, "teams": None}),
    ):
        assert identity_of(mapped, {**CLAIMS, **claims}).attributes == read
