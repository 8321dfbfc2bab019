"""Whom a token of another issuer speaks of, once it is verified."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.model import Reason
from tests.identity.issuers.provider import AUDIENCE, issuer, path
from tests.identity.issuers.verdicts import Failing, Judge, accepted
from tests.identity.keyring import START


def test_every_name_of_another_issuer_begins_with_its_own(judged: Judge) -> None:
    principal = accepted(judged())
    assert principal.subject == "company:alice"
    assert principal.session_id == "company:s-1"
    assert principal.token_id == "company:t-1"
    assert principal.client_id == "company:shop"
    assert principal.kid == "company:k-1"
    assert principal.issuer == "company"


def test_the_rest_of_a_token_is_read_as_it_stands(judged: Judge) -> None:
    principal = accepted(judged())
    assert principal.roles == ("viewer", "orders:read")
    assert (principal.email, principal.email_verified) == ("alice@example.com", True)
    assert (principal.issued_at, principal.auth_time) == (START, START - 60)
    assert (principal.amr, principal.audience) == (("pwd",), (AUDIENCE,))
    assert principal.granted_scopes == ("openid", "orders:read")
    assert principal.claims["realm_access"] == {"roles": ["viewer", "orders:read"]}
    assert principal.resource_only is False


def test_a_token_needs_little(judged: Judge) -> None:
    left_out = ("sid", "azp", "scope", "realm_access", "email", "email_verified", "auth_time")
    principal = accepted(judged(**dict.fromkeys((*left_out, "amr", "jti"), ...)))
    assert (principal.session_id, principal.client_id) == (None, None)
    assert (principal.roles, principal.email, principal.email_verified) == ((), None, False)
    assert (principal.amr, principal.auth_time) == ((), None)


def test_a_token_without_jti_is_known_by_what_was_signed(judged: Judge) -> None:
    one, again, other = (accepted(judged(jti=..., sub=sub)).token_id for sub in ("a", "a", "b"))
    assert one == again != other
    assert one.startswith("company:")
    assert len(one) == len("company:") + 43


@pytest.mark.parametrize(
    "sub",
    ["auth0|5f7c8ec7c33c6c004bbafe82", "system:serviceaccount:ns:name", "a/b,c<d>", "x" * 255],
)
def test_subjects_as_others_write_them_are_taken(judged: Judge, sub: str) -> None:
    assert accepted(judged(sub=sub)).subject == f"company:{sub}"


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\n", "a\x00", "a\x7f", "é", "x" * 256, 7, True, None, ["a"], {}]
)
@pytest.mark.parametrize("name", ["sub", "sid", "jti"])
def test_a_name_that_is_not_of_visible_letters_is_refused(
    judged: Judge, name: str, value: Any
) -> None:
    assert judged(**{name: value}) is Reason.TOKEN_CLAIMS_INVALID


def test_a_token_without_subject_is_refused(judged: Judge) -> None:
    assert judged(sub=...) is Reason.TOKEN_CLAIMS_INVALID


def test_another_claim_may_be_the_subject(judged: Judge) -> None:
    assert accepted(judged(issuer(subject=path("claims.oid")), oid="o-1")).subject == "company:o-1"
    assert judged(issuer(subject=path("claims.oid"))) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"client_id": "c", "azp": "a"}, "company:c"),
        ({"azp": ..., "appid": "e"}, "company:e"),
        ({"azp": ..., "cid": "o"}, "company:o"),
        ({"azp": "a b"}, None),
        ({"azp": ["a"]}, None),
    ],
)
def test_a_client_is_named_in_several_ways(
    judged: Judge, claims: dict[str, Any], client: str | None
) -> None:
    assert accepted(judged(**claims)).client_id == client


@pytest.mark.parametrize(
    ("roles", "taken"),
    [
        (["viewer", "viewer"], ("viewer",)),
        ("viewer", ("viewer",)),
        (["a b", "viewer", "x,y", 7, None, ["z"], "é"], ("viewer",)),
        ({"viewer": True}, ()),
        (7, ()),
        (None, ()),
    ],
)
def test_roles_that_are_no_names_are_left_out(
    judged: Judge, roles: Any, taken: tuple[str, ...]
) -> None:
    assert accepted(judged(realm_access={"roles": roles})).roles == taken


@pytest.mark.parametrize("claim", [..., 7, "x", [], {"more": []}])
def test_a_path_that_leads_nowhere_is_no_role(judged: Judge, claim: Any) -> None:
    assert accepted(judged(realm_access=claim)).roles == ()


def test_an_issuer_without_a_word_on_roles_gives_none(judged: Judge) -> None:
    assert accepted(judged(issuer(roles=None), roles=["admin"])).roles == ()


@pytest.mark.parametrize("email", ["a\r\nb@example.com", "", "x" * 255, 7, ["a@example.com"], None])
def test_an_address_of_another_form_is_none_and_never_verified(judged: Judge, email: Any) -> None:
    principal = accepted(judged(email=email))
    assert (principal.email, principal.email_verified) == (None, False)


@pytest.mark.parametrize("value", [..., None, False, "true", 1, ["true"]])
def test_only_true_itself_says_that_an_address_is_verified(judged: Judge, value: Any) -> None:
    assert accepted(judged(email_verified=value)).email_verified is False


@pytest.mark.parametrize("name", ["subject", "roles", "email", "email_verified"])
def test_an_expression_that_fails_refuses_the_token(judged: Judge, name: str) -> None:
    failing: dict[str, Any] = {name: Failing()}
    assert judged(issuer(**failing)) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, ("a", "b")),
        ({"scope": ..., "scp": "a b"}, ("a", "b")),
        ({"scope": ..., "scp": ["a", "b"]}, ("a", "b")),
        ({"scope": ["a", "b"]}, ("a", "b")),
        ({"scope": ""}, ()),
        ({"scope": 7}, ()),
    ],
)
def test_scopes_come_in_several_forms(
    judged: Judge, claims: dict[str, Any], scopes: tuple[str, ...]
) -> None:
    assert accepted(judged(**claims)).granted_scopes == scopes


@pytest.mark.parametrize(("value", "taken"), [("7", None), (True, None), (7.5, None), (7.0, 7)])
def test_a_time_of_sign_in_is_whole_seconds_or_none(
    judged: Judge, value: Any, taken: int | None
) -> None:
    assert accepted(judged(auth_time=value)).auth_time == taken


@pytest.mark.parametrize("at", [0, 2**53])
def test_the_first_and_the_last_second_that_all_readers_see_alike_are_taken(
    judged: Judge, at: int
) -> None:
    assert accepted(judged(auth_time=at)).auth_time == at


def test_an_issuer_without_a_word_on_addresses_tells_none(judged: Judge) -> None:
    principal = accepted(judged(issuer(email=None, email_verified=None)))
    assert (principal.email, principal.email_verified) == (None, False)
