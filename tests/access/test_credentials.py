"""Which credential counts, of those that a call presents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.routing.credentials import select_credential
from gateway.access.simulation import (
    FixedClock,
    NoLimits,
    SimulatedRequest,
    SlowAuthenticator,
    run_sync,
    simulated_call,
)
from gateway.model import OWN_ISSUERS, Call, Credential, CredentialKind, Principal, Reason
from tests.access.worlds import NOW, snapshot, who

BEARER = Credential(CredentialKind.BEARER, "a.b.c")
COOKIE = Credential(CredentialKind.COOKIE, "s")
KINDS = st.frozensets(st.sampled_from(CredentialKind))
WORLD = snapshot(
    """
    - {id: all, match: {path: /all}, policy: signed-in, upstream: api}
    - {id: cookie, match: {path: /cookie}, policy: signed-in, accept: [cookie], upstream: api}
    - {id: bearer, match: {path: /bearer}, policy: signed-in, accept: [bearer], upstream: api}
    - {id: basic, match: {path: /basic}, policy: signed-in, accept: [basic], upstream: api}
    - {id: maybe, match: {path: /maybe}, auth: optional, accept: [bearer], upstream: api}
    """
)


def call_of(
    path: str,
    credential: Credential | Reason | None,
    presented: tuple[Credential, Credential | Reason] | None = None,
    *fields: tuple[str, str],
    method: str = "GET",
) -> Call:
    call = simulated_call(SimulatedRequest(method, path, headers=fields))
    assert isinstance(call, Call)
    return replace(call, credential=credential, presented=presented)


class Remembering(SlowAuthenticator):
    """Knows everyone, and remembers by what."""

    def __init__(self) -> None:
        self.seen: list[Credential] = []

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        credential = call.credential
        if not isinstance(credential, Credential):
            return credential or Reason.NO_CREDENTIAL
        if credential.kind not in accept:
            return Reason.NO_CREDENTIAL
        self.seen.append(credential)
        return who("u1")


def decided(call: Call) -> tuple[Decision, list[Credential]]:
    authenticator = Remembering()
    authorizer = Authorizer(authenticator, NoLimits(), clock=FixedClock(NOW))
    return run_sync(authorizer, call, WORLD), authenticator.seen


@given(KINDS, st.sampled_from([k for k in CredentialKind if k is not CredentialKind.COOKIE]))
def test_authorization_counts_where_its_kind_is_accepted_and_the_cookie_else(
    accept: frozenset[CredentialKind], kind: CredentialKind
) -> None:
    authorization = Credential(kind, "x")
    selected = select_credential(call_of("/all", authorization, (authorization, COOKIE)), accept)
    if kind in accept:
        assert selected is authorization
    else:
        assert selected is (COOKIE if CredentialKind.COOKIE in accept else None)


@given(KINDS, st.sampled_from(CredentialKind))
def test_one_credential_alone_counts_where_its_kind_is_accepted(
    accept: frozenset[CredentialKind], kind: CredentialKind
) -> None:
    alone = Credential(kind, "x")
    assert select_credential(call_of("/all", alone), accept) is (alone if kind in accept else None)
    assert select_credential(call_of("/all", None), accept) is None


def test_the_route_says_which_of_two_is_judged() -> None:
    fetched = ("Sec-Fetch-Site", "same-origin")
    for path, judged in (("/all", BEARER), ("/cookie", COOKIE), ("/bearer", BEARER)):
        decision, seen = decided(call_of(path, BEARER, (BEARER, COOKIE), fetched))
        assert decision.allowed
        assert seen == [judged]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_cookie_that_counts_beside_a_foreign_token_still_needs_intent(method: str) -> None:
    """What an attacker could do: have the victim's browser send a call with an `Authorization`
    of the page's own, so that the cookie beside it counts unasked."""
    foreign = ("Sec-Fetch-Site", "cross-site")
    decision, seen = decided(call_of("/cookie", BEARER, (BEARER, COOKIE), foreign, method=method))
    expected = Reason.NO_CREDENTIAL if method == "GET" else Reason.CROSS_ORIGIN
    assert (decision.allowed, decision.refusal, seen) == (False, expected, [])


BASIC = Credential(CredentialKind.BASIC, "YTpi")


def test_a_native_client_sends_basic_without_a_word_of_its_origin() -> None:
    for method in ("GET", "POST"):
        decision, seen = decided(call_of("/basic", BASIC, method=method))
        assert (decision.allowed, seen) == (True, [BASIC])


@pytest.mark.parametrize(
    "fields", [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")]
)
def test_basic_that_a_browser_adds_for_another_origin_does_not_count(
    fields: tuple[str, str],
) -> None:
    """What a page of another origin could do: have the browser, whose user typed a key here,
    send it along with a form of the page's own."""
    decision, seen = decided(call_of("/basic", BASIC, None, fields, method="POST"))
    assert (decision.refusal, seen) == (Reason.CROSS_ORIGIN, [])
    decision, seen = decided(call_of("/basic", BASIC, None, fields))
    assert (decision.refusal, seen) == (Reason.NO_CREDENTIAL, [])
    own = ("Sec-Fetch-Site", "same-origin")
    assert decided(call_of("/basic", BASIC, None, own, method="POST"))[0].allowed


def test_two_cookies_are_ambiguous_where_the_cookie_counts_and_nowhere_else() -> None:
    presented = (BEARER, Reason.AMBIGUOUS_HEADER)
    assert decided(call_of("/all", BEARER, presented))[0].allowed
    assert decided(call_of("/cookie", BEARER, presented))[0].refusal is Reason.AMBIGUOUS_HEADER


def test_what_is_not_looked_at_is_none_on_an_optional_route() -> None:
    key = Credential(CredentialKind.API_KEY, "ag_x")
    decision, seen = decided(call_of("/maybe", key, (key, COOKIE)))
    assert (decision.allowed, decision.principal, seen) == (True, None, [])


def test_a_call_that_goes_on_is_judged_by_the_credential_that_it_began_with() -> None:
    """A new configuration accepts what came beside it: nobody has verified that."""
    fetched = ("Sec-Fetch-Site", "same-origin")
    call = call_of("/cookie", BEARER, (BEARER, COOKIE), fetched)
    authorizer = Authorizer(Remembering(), NoLimits(), clock=FixedClock(NOW))
    assert run_sync(authorizer, call, WORLD).allowed
    assert authorizer.reevaluate(call, WORLD, who("u1")).allowed
    both = snapshot("- {id: a, match: {path: /cookie}, policy: signed-in, upstream: api}")
    assert authorizer.reevaluate(call, both, who("u1")).refusal is Reason.NO_CREDENTIAL
