"""May this call pass?  The pipeline, in the order in which it asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.authorizer import Authorizer
from gateway.access.simulation import (
    FixedAuthenticator,
    NoLimits,
    SimulatedRequest,
    SlowAuthenticator,
    run_sync,
    simulated_call,
)
from gateway.model import OWN_ISSUERS, Call, Credential, CredentialKind, Principal, Reason
from tests.access.worlds import decide, rule_world, snapshot, who

WORLD = snapshot(
    """
    - {id: public, match: {path: '/public/{x:path}'}, auth: public, upstream: api}
    - {id: needed, match: {path: /needed}, policy: signed-in, upstream: api}
    - {id: maybe, match: {path: /maybe}, auth: optional, upstream: api}
    - {id: judged, match: {path: /judged}, auth: optional, policy: p, action: x:y, upstream: api}
    - {id: bearer, match: {path: /bearer}, policy: signed-in, accept: [bearer], upstream: api}
    - {id: slash, match: {path: '/slash/{x}'}, auth: public, allow_encoded_slash: true,
       upstream: api}
    """,
    """
    policy: p
    rules:
      - {id: known, allow: ["*"], when: user != null && user.id == 'u1'}
      - {id: guest, allow: ["*"], when: user == null && client.ip == '10.0.0.1'}
    """,
)
REFUSED = [Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED, Reason.KEY_UNKNOWN, Reason.REPLICA_STALE]


def test_a_public_route_judges_nobody() -> None:
    for caller in (Reason.NO_CREDENTIAL, Reason.TOKEN_EXPIRED, who()):
        decision = decide(WORLD, "GET /public/a", caller)
        assert decision.allowed
        assert decision.reason == Reason.ROUTE_PUBLIC
        assert decision.principal is None


def test_a_route_that_needs_a_caller_refuses_a_stranger() -> None:
    decision = decide(WORLD, "GET /needed")
    assert (decision.allowed, decision.refusal) == (False, Reason.NO_CREDENTIAL)
    assert decide(WORLD, "GET /needed", who()).reason == Reason.SIGNED_IN


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("path", ["/needed", "/maybe", "/judged"])
def test_a_refused_credential_is_never_taken_for_none(path: str, reason: Reason) -> None:
    # CVE-2021-21378: a wrong token counted as a missing one on optional routes.
    decision = decide(WORLD, f"GET {path}", reason)
    assert (decision.allowed, decision.refusal) == (False, reason)


def test_an_optional_route_admits_both() -> None:
    assert decide(WORLD, "GET /maybe").reason == Reason.ROUTE_OPTIONAL
    decision = decide(WORLD, "GET /maybe", who("u7"))
    assert decision.principal is not None
    assert decision.principal.subject == "u7"


def test_a_policy_on_an_optional_route_judges_both() -> None:
    assert decide(WORLD, "GET /judged", who("u1")).rule == "known"
    assert decide(WORLD, "GET /judged", client_ip="10.0.0.1").rule == "guest"
    assert decide(WORLD, "GET /judged").reason == Reason.NO_RULE


def test_a_credential_of_another_kind_is_none() -> None:
    decision = decide(WORLD, "GET /bearer", who(), kind=CredentialKind.API_KEY)
    assert decision.refusal is Reason.NO_CREDENTIAL


def test_a_key_that_is_limited_to_routes_is_good_at_no_other() -> None:
    for path, allowed in (("/needed", True), ("/bearer", False), ("/judged", False)):
        key = replace(who("u1"), scopes=("*",), routes=frozenset(("needed",)))
        decision = decide(WORLD, f"GET {path}", key)
        assert decision.allowed is allowed
        assert decision.refusal is (None if allowed else Reason.NO_RULE)
    read = replace(who("u1"), scopes=("x:z",), routes=frozenset(("judged",)))
    assert decide(WORLD, "GET /judged", read).refusal is Reason.NO_RULE


def test_an_encoded_slash_needs_a_route_that_allows_it() -> None:
    assert decide(WORLD, "GET /public/a%2Fb").refusal is Reason.AMBIGUOUS_PATH
    decision = decide(WORLD, "GET /slash/a%2Fb")
    assert (decision.target, decision.params) == ("/slash/a%2Fb", {"x": "a/b"})


def test_an_encoded_slash_does_not_tell_which_paths_have_a_route() -> None:
    """No route allows it, so it is ambiguous, and hidden routes stay hidden."""
    unknown = decide(WORLD, "GET /nowhere/a%2Fb")
    known = decide(WORLD, "GET /public/a%2Fb")
    assert unknown.refusal is known.refusal is Reason.AMBIGUOUS_PATH


# Scopes


def test_a_credential_limited_to_scopes_does_nothing_else() -> None:
    world = rule_world("- {id: a, allow: ['*']}")
    assert decide(world, "GET /orders/7", who(scopes=["orders:*"])).allowed
    assert not decide(world, "GET /orders/7", who(scopes=["mail:*"])).allowed
    assert not decide(WORLD, "GET /needed", who(scopes=["orders:*"])).allowed
    assert decide(WORLD, "GET /needed", who(scopes=["*"])).allowed


# The cookie


class Csrf:
    def __init__(self, valid: bool) -> None:
        self.valid = valid

    def csrf_valid(self, call: Call) -> bool:
        return self.valid


class Refusing(SlowAuthenticator):
    """Nobody may look the cookie up."""

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        raise AssertionError("the cookie was looked up")


def cookie_call(method: str, headers: list[tuple[str, str]]) -> Call:
    call = simulated_call(SimulatedRequest(method, "/needed", headers=headers))
    assert not isinstance(call, Reason)
    call.credential = Credential(CredentialKind.COOKIE, "c")
    return call


def test_a_cross_origin_cookie_is_refused_before_it_is_looked_up() -> None:
    call = cookie_call(
        "POST", [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")]
    )
    decision = run_sync(Authorizer(Refusing(), NoLimits()), call, WORLD)
    assert decision.refusal is Reason.CROSS_ORIGIN


def test_a_cookie_without_any_proof_needs_the_csrf_token() -> None:
    call = cookie_call("POST", [])
    for csrf in (None, Csrf(False)):
        decision = run_sync(Authorizer(Refusing(), NoLimits(), csrf), call, WORLD)
        assert decision.refusal is Reason.CSRF_INVALID
    assert run_sync(
        Authorizer(FixedAuthenticator(who()), NoLimits(), Csrf(True)), call, WORLD
    ).allowed


def test_a_read_whose_intent_is_not_proven_is_one_without_credential() -> None:
    for headers in ([("Sec-Fetch-Site", "cross-site")], [("Origin", "null")], []):
        decision = run_sync(Authorizer(Refusing(), NoLimits()), cookie_call("GET", headers), WORLD)
        assert decision.refusal is Reason.NO_CREDENTIAL


def test_a_same_origin_cookie_identifies() -> None:
    call = cookie_call("POST", [("Sec-Fetch-Site", "same-origin")])
    assert run_sync(Authorizer(FixedAuthenticator(who()), NoLimits()), call, WORLD).allowed


# Properties


@given(
    st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#\\"), max_size=30
    )
)
def test_no_query_changes_a_decision_that_reads_none(query: str) -> None:
    # CVE-2025-54576: a query that held a public path made a protected one public.
    for path, reason in (("/needed", Reason.NO_CREDENTIAL), ("/public/x", Reason.ROUTE_PUBLIC)):
        assert decide(WORLD, f"GET {path}?{query}").reason == reason


@pytest.mark.parametrize(
    "nested", ["/public/x", "/auth/login", "/.well-known/jwks.json", "/healthz", "/metrics"]
)
def test_no_path_of_another_kind_grants_passage_when_nested(nested: str) -> None:
    # CVE-2026-9800: an exempt path anywhere in the URL switched the checks off.
    for url in (f"/needed?x={nested}", f"/needed{nested}", f"/judged?{nested}"):
        assert not decide(WORLD, f"GET {url}").allowed


def test_templates_of_a_request_stay_literal() -> None:
    for text in ("{env.HOME}", "${HOME}", "{{x}}", "%7Benv.HOME%7D"):
        decision = decide(WORLD, f"GET /public/{text}")
        assert decision.target == f"/public/{text}"
