"""The verdict on a token of another issuer, and an expression that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.access.issuers import ClaimError, Issuer
from gateway.identity.issuers.jwk_set import read_jwk_set
from gateway.identity.issuers.verifier import IssuerVerifier, read_foreign_token
from gateway.model import Principal, Reason
from tests.identity.issuers.provider import Signer, document, signer
from tests.identity.keyring import MAX_LIFE_S, HandClock

Judge = Callable[..., Principal | Reason]
KEY = signer("ES256")


def verdict(
    of: Issuer, clock: HandClock, text: str, *paths: str, key: Signer = KEY
) -> Principal | Reason:
    token = read_foreign_token(text, {of.issuer: of.name})
    assert token is not None
    verifier = IssuerVerifier(
        of, max_life_s=MAX_LIFE_S, now=clock.now, resource_paths={of.name: frozenset(paths)}
    )
    return verifier.verify(token, read_jwk_set(document(key)).keys[key.kid])


def accepted(verdict: Principal | Reason) -> Principal:
    assert isinstance(verdict, Principal), verdict
    return verdict


class Failing:
    """Meets `ClaimReader`: an expression that cannot be evaluated."""

    text = "claims.roles[7]"

    def read(self, claims: Any) -> Any:
        raise ClaimError("there is no element 7")
