"""What is told of each check to whoever looks at a token of another issuer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.issuers import ClaimError, ClaimPath, Issuer, RequiredClaim, TokenUse
from gateway.identity.issuers.verifier import IssuerVerifier, read_foreign_token
from tests.identity.issuers.provider import URL, issuer, path
from tests.identity.issuers.verdicts import KEY, Failing
from tests.identity.keyring import MAX_LIFE_S, START, HandClock


def test_each_check_says_what_is_wrong_and_what_would_be_right(clock: HandClock) -> None:
    of = issuer(
        require=(RequiredClaim(path("claims.azp"), ("desk", "till")),),
        subject=path("claims.oid"),
        max_life_s=60,
    )
    verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=clock.now)
    text = KEY.token(
        header={"typ": "id+jwt"}, aud=["a", "b"], at_hash="x", sid=7, nbf=START + 99, cnf={}
    )
    token = read_foreign_token(text, {URL: "company"})
    assert token is not None
    found = {check.what: check.problem(token) for check in verifier.checks}
    assert found == {
        "typ": "it is id+jwt; at+jwt or jwt would be right",
        "use": "it has at_hash, which no access token has",
        "cnf": "it is bound to a key of its client (DPoP, mutual TLS), which a bearer does not prove",
        "claims.aud": "it is a, b; one that names api would be right",
        "claims.azp": "it is shop; desk or till would be right",
        "claims.oid": "it is not there; 1 to 255 visible ASCII letters would be right",
        "sid": "it is 7; 1 to 255 visible ASCII letters would be right",
        "jti": None,
        "roles": None,
        "email": None,
        "iat": None,
        "nbf": "it is 99 s ahead of our clock; 10 s are the most",
        "life": "exp - iat is 300 s; 60 s are the most",
        "exp": None,
    }


def test_roles_that_are_left_out_can_be_shown(clock: HandClock) -> None:
    verifier = IssuerVerifier(issuer(), max_life_s=MAX_LIFE_S, now=clock.now)
    claims = {"realm_access": {"roles": ["viewer", "a b", 7]}}
    assert verifier.roles_of(claims) == (("viewer",), ("a b", "7"))


def test_a_claim_path_reads_namespaced_claims() -> None:
    reader = ClaimPath('claims["https://example.com/roles"]', ("https://example.com/roles",))
    of = replace(issuer(), roles=reader)
    verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=HandClock().now)
    claims = json.loads('{"https://example.com/roles": ["viewer"]}')
    assert verifier.roles_of(claims)[0] == ("viewer",)


def problems_of(of: Issuer, clock: HandClock, **claims: Any) -> dict[str, str]:
    """What is wrong with a token of these claims, by check."""
    header = claims.pop("header", None)
    token = read_foreign_token(KEY.token(header=header, **claims), {of.issuer: of.name})
    assert token is not None
    assert token.issuer == of.name
    verifier = IssuerVerifier(of, max_life_s=MAX_LIFE_S, now=clock.now)
    found = {check.what: check.problem(token) for check in verifier.checks}
    return {what: problem for what, problem in found.items() if problem is not None}


@pytest.mark.parametrize(
    ("changed", "claims", "told"),
    [
        ({"use": TokenUse.ID}, {"scope": ...}, {"typ": "it is an access token; an ID token would be right"}),
        ({}, {"events": {}}, {"use": "it is an event, and gives access to nothing"}),
        ({}, {"token_use": "id"}, {"use": "token_use is id; access or access_token would be right"}),
        ({}, {"iat": "x"}, {"iat": "it is x; whole seconds would be right", "life": "exp is 1800000300; whole seconds would be right"}),
        ({}, {"nbf": "x"}, {"nbf": "it is x; whole seconds would be right"}),
        ({}, {"sub": 7}, {"claims.sub": "it is 7; 1 to 255 visible ASCII letters would be right"}),
        ({}, {"aud": "x" * 101}, {"claims.aud": f"it is {'x' * 100}…; one that names api would be right"}),
        ({}, {"aud": "x" * 100}, {"claims.aud": f"it is {'x' * 100}; one that names api would be right"}),
        ({"audience_claim": Failing()}, {}, {"claims.roles[7]": "there is no element 7"}),
        ({"subject": Failing()}, {}, {"claims.roles[7]": "there is no element 7"}),
        ({"roles": Failing()}, {}, {"roles": "there is no element 7"}),
        ({"email": Failing()}, {}, {"email": "there is no element 7"}),
    ],
)  # fmt: skip
def test_a_check_says_what_it_found(
    clock: HandClock, changed: dict[str, Any], claims: dict[str, Any], told: dict[str, str]
) -> None:
    assert problems_of(issuer(**changed), clock, **claims) == told


def test_an_expired_token_is_told_since_when(clock: HandClock) -> None:
    clock.at = START + 320
    assert problems_of(issuer(), clock) == {"exp": "it ended 20 s ago"}


class OfAlice:
    """Meets `ClaimReader`: reads the claims of the token and of nothing else."""

    text = "claims.of_alice"

    def read(self, claims: Any) -> Any:
        if claims["sub"] != "alice":
            raise ClaimError("these are not her claims")
        return "alice@example.com"


def test_what_reads_claims_is_given_those_of_the_token(clock: HandClock) -> None:
    of = issuer(roles=OfAlice(), email=OfAlice())
    assert problems_of(of, clock) == {}
    told = dict.fromkeys(("roles", "email"), "these are not her claims")
    assert problems_of(of, clock, sub="bob") == told
