"""Callers by claims: what is not said is as a good token has it, and nothing said is changed."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.model import Principal, Reason
from gateway.review.issued import caller_of
from tests.access.worlds import NOW, snapshot

ROUTES = """
    version: 1
    issuers:
      company: {issuer: https://id.example, audience: api, audience_claim: CLAIM}
    upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
    routes:
      - {id: a, match: {path: /a}, issuers: [company], policy: signed-in, upstream: api}
"""


def found(claim: str, claims: dict[str, Any]) -> Principal | Reason:
    world = snapshot(ROUTES.replace("CLAIM", claim))
    return caller_of(world.issuers["company"], claims, world, NOW)


@pytest.mark.parametrize("claim", ["aud", "claims.for.whom", "client_id"])
def test_whom_a_token_is_for_is_filled_in_wherever_it_stands(claim: str) -> None:
    claims: dict[str, Any] = {"sub": "u1", "for": {"else": 1}}
    caller = found(claim, claims)
    assert isinstance(caller, Principal)
    assert (caller.subject, caller.audience) == ("company:u1", ("api",))
    assert claims == {"sub": "u1", "for": {"else": 1}}


@pytest.mark.parametrize("claims", [{"for": "nobody"}, {"for": {"whom": "another"}}])
def test_what_is_said_of_it_stays(claims: dict[str, Any]) -> None:
    assert found("claims.for.whom", {"sub": "u1", **claims}) is Reason.TOKEN_CLAIMS_INVALID
