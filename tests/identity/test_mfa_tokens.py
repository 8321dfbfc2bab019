"""A sign-in on its way to its second step: what a token carries, how long, and to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.base64url import decoded, encoded
from gateway.identity.factors.factor_kinds import AccountVersion, FactorKind, FactorNeeded
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.sealed_tokens import CLOCK_STEP_S, SealedTokens
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sessions.sessions import Transport
from gateway.identity.sign_in.mfa_tokens import MFA_TTL_S, MfaTokens, PendingSignIn
from tests.identity.keyring import HandClock
from tests.nonces import Once

GATE = "gate.example"
KEY = derived_key(bytes(32), KeyPurpose.MFA)
ANN = Account(
    id="u-ann",
    email="Ann@x.example",
    normalized_email="ann@x.example",
    email_verified=True,
    disabled=False,
    not_before=41,
    created_at=7,
    roles=("viewer",),
    password_hash="hash",
    password_epoch=3,
)
NEEDED = FactorNeeded(ANN, ("pwd", "fed"), (FactorKind.TOTP, FactorKind.RECOVERY_CODE))
ORIGIN = SessionOrigin(
    "link-1", "https://id.example", "s-1", "corp", "sid-1", 1_799_999_000, begun_at=1_799_999_001
)

FROM_BEFORE = (
    "IRWmF36OZoty3luULHBvc-bgDV-OfP1EcDS1S9cEGRz4EcfB-Ujjftvq6scmLxpkZCUa2v3jOzZlxxNw"
    "lTJM82GmU65lf4zTlbh6joCYjWImRtE2LcewQdK1IIS9d3xfIyooX_uusXj3ELH4Vi7sMSf5DDg-1y3o"
    "XcllAQ05bsP8q9y6LgY"
)
"""As nodes of the version before wrote it at 1,000.5: a password was right, and nothing else began
the sign-in."""


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1_000.5)


@pytest.fixture
def nonces() -> Once:
    return Once()


@pytest.fixture
def tokens(clock: HandClock, nonces: Once) -> MfaTokens:
    return MfaTokens(KEY, nonces, clock)


@pytest.mark.parametrize("origin", [None, ORIGIN])
@pytest.mark.parametrize("known_device", [True, False])
@pytest.mark.parametrize("transport", ["bearer", "cookie"])
def test_the_second_step_knows_all_that_the_first_one_did(
    tokens: MfaTokens, transport: Transport, known_device: bool, origin: SessionOrigin | None
) -> None:
    issued = tokens.issue(NEEDED, GATE, transport, known_device=known_device, origin=origin)
    assert tokens.read(issued.text, GATE) == PendingSignIn(
        id=issued.id,
        account_id="u-ann",
        version=AccountVersion(3, 41),
        amr=("pwd", "fed"),
        transport=transport,
        known_device=known_device,
        enrols=False,
        origin=origin,
    )


def test_a_sign_in_that_nothing_but_its_owner_began_has_no_origin(tokens: MfaTokens) -> None:
    pending = tokens.read(tokens.issue(NEEDED, GATE, "bearer", known_device=True).text, GATE)
    assert pending is not None
    assert pending.origin is None


def test_a_sign_in_by_password_goes_on_at_a_node_of_another_version(tokens: MfaTokens) -> None:
    """While the nodes are updated, one after the other."""
    assert tokens.read(FROM_BEFORE, GATE) == PendingSignIn(
        id="ff-JkSarTtUJJmXUsW7Uww",
        account_id="u-ann",
        version=AccountVersion(3, 41),
        amr=("pwd",),
        transport="bearer",
        known_device=True,
        enrols=False,
    )
    sealed = SealedTokens(KEY)
    ours = sealed.open(b"mfa token", tokens.issue(NEEDED, GATE, "bearer", known_device=True).text)
    theirs = sealed.open(b"mfa token", FROM_BEFORE)
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    assert ours[8] == theirs[8] == []


def test_nothing_in_the_place_of_an_origin_is_read_as_none(tokens: MfaTokens) -> None:
    parts = ["id", "u-ann", 3, 41, ["pwd"], "cookie", True, False, None, GATE, 2_000]
    pending = tokens.read(SealedTokens(KEY).seal(b"mfa token", parts), GATE)
    assert pending is not None
    assert pending.origin is None


@pytest.mark.parametrize("origin", [["link-1", "https://id.example"], {}, {"issuer": 7}, False, ""])
def test_a_token_whose_origin_cannot_be_read_counts_for_nothing(
    tokens: MfaTokens, origin: object
) -> None:
    """Nobody could say whether what began it has ended meanwhile."""
    parts: list[object] = ["id", "u-ann", 3, 41, ["fed"], "cookie", True, False, [], GATE, 2_000]
    assert tokens.read(SealedTokens(KEY).seal(b"mfa token", parts), GATE) is not None
    parts[8] = origin
    assert tokens.read(SealedTokens(KEY).seal(b"mfa token", parts), GATE) is None


def test_who_has_no_factor_enrols_one_with_it(tokens: MfaTokens) -> None:
    issued = tokens.issue(replace(NEEDED, kinds=()), GATE, "bearer", known_device=False)
    pending = tokens.read(issued.text, GATE)
    assert pending is not None
    assert pending.enrols


def test_no_two_tokens_have_the_same_id(tokens: MfaTokens) -> None:
    ids = {tokens.issue(NEEDED, GATE, "bearer", known_device=False).id for _ in range(50)}
    assert len(ids) == 50
    assert {len(decoded(one) or b"") for one in ids} == {16}


def test_it_holds_for_five_minutes_and_not_a_second_longer(
    tokens: MfaTokens, clock: HandClock
) -> None:
    issued = tokens.issue(NEEDED, GATE, "bearer", known_device=False)
    assert MFA_TTL_S == 300
    clock.at = 1_299.9
    assert tokens.read(issued.text, GATE) is not None
    clock.at = 1_300.0
    assert tokens.read(issued.text, GATE) is None


def test_at_another_host_it_is_nothing(tokens: MfaTokens) -> None:
    issued = tokens.issue(NEEDED, GATE, "bearer", known_device=False)
    for host in ("app.example", "GATE.example", ""):
        assert tokens.read(issued.text, host) is None


def test_what_was_not_sealed_for_it_is_nothing(tokens: MfaTokens, clock: HandClock) -> None:
    text = tokens.issue(NEEDED, GATE, "bearer", known_device=False).text
    raw = bytearray(decoded(text) or b"")
    for place in range(len(raw)):
        raw[place] ^= 1
        assert tokens.read(encoded(bytes(raw)), GATE) is None
        raw[place] ^= 1
    for made_up in ("", "x", "A" * 400):
        assert tokens.read(made_up, GATE) is None
    parts = SealedTokens(KEY).open(b"mfa token", text)
    assert isinstance(parts, list)
    assert tokens.read(SealedTokens(KEY).seal(b"mfa token", parts), GATE) is not None
    assert tokens.read(SealedTokens(KEY).seal(b"return to", parts), GATE) is None
    other_key = derived_key(bytes(32), KeyPurpose.RETURN_TO)
    assert tokens.read(SealedTokens(other_key).seal(b"mfa token", parts), GATE) is None


async def test_it_completes_one_sign_in(tokens: MfaTokens, nonces: Once) -> None:
    issued, other = (tokens.issue(NEEDED, GATE, "bearer", known_device=False) for _ in range(2))
    pending, another = tokens.read(issued.text, GATE), tokens.read(other.text, GATE)
    assert pending is not None
    assert another is not None
    assert await tokens.claim(pending)
    assert not await tokens.claim(pending)
    assert await tokens.claim(another)
    # As long as it could be read: what is forgotten sooner would let it be used twice.
    assert nonces.claimed[f"mfa:{issued.id}"] == MFA_TTL_S + CLOCK_STEP_S
