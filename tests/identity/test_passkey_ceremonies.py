"""Relying parties, challenges, and answers of authenticators that no page would send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.factors.ceremonies import (
    judged_assertion,
    judged_registration,
    presented_assertion,
)
from gateway.identity.factors.challenges import (
    CHALLENGE_TTL_S,
    CeremonyPurpose,
    PasskeyChallenges,
)
from gateway.identity.factors.passkey_records import CredentialKey
from gateway.identity.factors.relying_party import RelyingParty, relying_party
from gateway.identity.sealed_tokens import CLOCK_STEP_S
from gateway.stores.protocols import StoreUnavailable
from tests.authenticator import Authenticator, b64, cose_of, unb64
from tests.databases import Hands
from tests.nonces import Once

PARTY = RelyingParty("gate.example", ("https://gate.example",))
CHALLENGE = b"c" * 32


@pytest.mark.parametrize(
    ("public_url", "party"),
    [
        ("https://gate.example", RelyingParty("gate.example", ("https://gate.example",))),
        (
            "https://gate.example:8443",
            RelyingParty("gate.example", ("https://gate.example:8443",)),
        ),
        ("http://localhost:8080", RelyingParty("localhost", ("http://localhost:8080",))),
        ("http://127.0.0.1:8080", RelyingParty("localhost", ("http://localhost:8080",))),
        ("http://[::1]:8080", RelyingParty("localhost", ("http://localhost:8080",))),
        ("https://192.0.2.1", None),
        ("https://[2001:db8::1]:8443", None),
    ],
)
def test_passkeys_are_for_the_host_of_the_public_url(
    public_url: str, party: RelyingParty | None
) -> None:
    assert relying_party(public_url) == party


async def test_a_challenge_is_taken_back_once_by_all_workers_together() -> None:
    clock, once = Hands(), Once()
    first, second = (PasskeyChallenges(b"k" * 32, once, clock) for _ in range(2))
    made = first.issue(CeremonyPurpose.SIGN_IN)
    assert len(made.challenge) == 32
    for challenges in (first, second):
        assert challenges.read(CeremonyPurpose.SIGN_IN, made.token) == made.challenge
    assert once.claimed == {}
    assert await second.claim(made.challenge)
    assert not await first.claim(made.challenge)
    assert set(once.claimed.values()) == {CHALLENGE_TTL_S + CLOCK_STEP_S}


def test_a_challenge_is_good_for_its_purpose_and_holder_alone() -> None:
    clock, once = Hands(), Once()
    challenges = PasskeyChallenges(b"k" * 32, once, clock)
    made = challenges.issue(CeremonyPurpose.FACTOR, "ann 1")
    for purpose, holder in (
        (CeremonyPurpose.FACTOR, "ann 2"),
        (CeremonyPurpose.FACTOR, ""),
        (CeremonyPurpose.SIGN_IN, "ann 1"),
        (CeremonyPurpose.STEP_UP, "ann 1"),
        (CeremonyPurpose.REGISTER, "ann 1"),
    ):
        assert challenges.read(purpose, made.token, holder) is None
    others = PasskeyChallenges(b"o" * 32, once, clock)
    assert others.read(CeremonyPurpose.FACTOR, made.token, "ann 1") is None
    clock.move(CHALLENGE_TTL_S)
    assert challenges.read(CeremonyPurpose.FACTOR, made.token, "ann 1") is None


async def test_a_challenge_that_cannot_be_claimed_is_not_taken() -> None:
    once = Once()
    challenges = PasskeyChallenges(b"k" * 32, once, Hands())
    once.away = True
    with pytest.raises(StoreUnavailable):
        await challenges.claim(challenges.issue(CeremonyPurpose.SIGN_IN).challenge)


@given(st.text(max_size=80) | st.binary(max_size=200).map(b64))
def test_what_was_not_sealed_here_is_no_challenge(token: str) -> None:
    challenges = PasskeyChallenges(b"k" * 32, Once(), Hands())
    assert challenges.read(CeremonyPurpose.SIGN_IN, token) is None


def created(authenticator: Authenticator) -> dict[str, Any]:
    return authenticator.create(
        {
            "rp": {"id": "gate.example"},
            "user": {"id": b64(b"handle")},
            "challenge": b64(CHALLENGE),
        }
    )


def asserted(authenticator: Authenticator) -> dict[str, Any]:
    return authenticator.get({"rpId": "gate.example", "challenge": b64(CHALLENGE)})


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.binary().map(b64),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.sampled_from(
        ["id", "rawId", "type", "response", "clientDataJSON", "attestationObject", "transports"]
    ),
    JSON,
)
def test_no_registration_that_a_stranger_makes_up_is_an_error_of_ours(
    name: str, value: Any
) -> None:
    credential = created(Authenticator("https://gate.example"))
    holder = credential if name in credential else credential["response"]
    holder[name] = value
    if judged_registration(credential, CHALLENGE, PARTY) is not None:
        assert name == "transports"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_a_registration_can_be_changed_into_an_error_of_ours(
    at: int, change: int
) -> None:
    credential = created(Authenticator("https://gate.example"))
    raw = bytearray(unb64(credential["response"]["attestationObject"]))
    raw[at % len(raw)] ^= change
    credential["response"]["attestationObject"] = b64(bytes(raw))
    judged_registration(credential, CHALLENGE, PARTY)


@given(
    st.sampled_from(["clientDataJSON", "authenticatorData", "signature"]),
    st.integers(0, 10_000),
    st.integers(1, 255),
)
def test_no_byte_of_what_was_signed_can_be_changed(name: str, at: int, change: int) -> None:
    authenticator = Authenticator("https://gate.example")
    created(authenticator)
    (stored,) = authenticator.credentials
    credential = asserted(authenticator)
    key = CredentialKey(b64(stored.id), b64(cose_of(stored.private_key)))
    presented = presented_assertion(credential)
    assert presented is not None
    assert judged_assertion(presented, key, CHALLENGE, PARTY) is not None
    raw = bytearray(unb64(credential["response"][name]))
    raw[at % len(raw)] ^= change
    credential["response"][name] = b64(bytes(raw))
    changed = presented_assertion(credential)
    assert changed is None or judged_assertion(changed, key, CHALLENGE, PARTY) is None


def test_an_assertion_is_judged_by_the_key_of_its_own_credential() -> None:
    authenticator = Authenticator("https://gate.example")
    created(authenticator)
    (stored,) = authenticator.credentials
    presented = presented_assertion(asserted(authenticator))
    assert presented is not None
    other = CredentialKey(b64(b"other"), b64(cose_of(stored.private_key)))
    assert judged_assertion(presented, other, CHALLENGE, PARTY) is None
