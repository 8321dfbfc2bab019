"""Registration of passkeys, and proofs by one: from the options that a page hands to its browser
to the answer that it brings back.

Law: who asks for options learns nothing of who has a passkey, unless they have proven to be that
account already.  What an unknown credential costs, and how it is refused, is as with a known one
whose signature is wrong.

What reads and judges (`passkey_options`, `ceremonies`) is imported by the first ceremony of a
worker: py_webauthn and what it brings along take 6 MB, and many installations have no passkeys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from gateway.identity.base64url import decoded, encoded
from gateway.identity.factors.challenges import (
    CHALLENGE_TTL_S,
    CeremonyPurpose,
    PasskeyChallenge,
    PasskeyChallenges,
)
from gateway.identity.factors.own_factors import FactorOwner
from gateway.identity.factors.passkey_records import CredentialKey, NewCredential
from gateway.identity.factors.passkeys import Passkey, Passkeys, PasskeyUse, UseRefusal
from gateway.identity.factors.relying_party import RelyingParty


class CeremonyRefusal(StrEnum):
    CHALLENGE = "challenge"
    """It was not given here for this, is over, or was answered."""
    CREDENTIAL = "credential"
    """No passkey of ours has signed this, for whom it was asked."""


@dataclass(frozen=True, slots=True)
class RefusedUse:
    """The signature is good and is refused all the same: the owner is to hear of it."""

    passkey: Passkey
    refusal: UseRefusal


@dataclass(frozen=True, slots=True)
class UsedTooOften:
    """The signature is good, and the account has to wait for its next use of a passkey."""

    wait_s: float


class PasskeyCeremonies:
    def __init__(
        self,
        party: RelyingParty,
        challenges: PasskeyChallenges,
        passkeys: Passkeys,
        use_wait_s: Callable[[str], Awaitable[float]],
    ) -> None:
        """`use_wait_s`: seconds that an account has to wait for its next use; 0.0 for none."""
        self._party = party
        self._challenges = challenges
        self._passkeys = passkeys
        self._use_wait_s = use_wait_s
        self._unknown_key = _some_public_key()

    async def registration_options(self, owner: FactorOwner, email: str) -> dict[str, Any] | None:
        """For one more passkey of the owner, by this session or sign-in; None without an
        account."""
        handle = await self._passkeys.handle(owner.account_id)
        if handle is None:
            return None
        challenge = self._challenges.issue(CeremonyPurpose.REGISTER, _holder(owner))
        from gateway.identity.factors.passkey_options import registration_options

        public_key = registration_options(
            self._party.id,
            email,
            decoded(handle),
            challenge.challenge,
            await self._passkeys.find_all(owner.account_id),
        )
        return _options(challenge, public_key)

    async def registered(
        self, owner: FactorOwner, token: str, credential: Mapping[str, Any]
    ) -> NewCredential | CeremonyRefusal:
        """The credential that was made for the owner; it is not added yet."""
        challenge = self._challenges.read(CeremonyPurpose.REGISTER, token, _holder(owner))
        if challenge is None or not await self._challenges.claim(challenge):
            return CeremonyRefusal.CHALLENGE
        from gateway.identity.factors.ceremonies import judged_registration

        judged = judged_registration(credential, challenge, self._party)
        return CeremonyRefusal.CREDENTIAL if judged is None else judged

    def sign_in_options(self) -> dict[str, Any]:
        """For whoever asks: the authenticator knows the accounts, and its person chooses one."""
        return self._request_options(
            self._challenges.issue(CeremonyPurpose.SIGN_IN), (), is_first_step=True
        )

    async def factor_options(
        self, purpose: CeremonyPurpose, account_id: str, holder: str
    ) -> dict[str, Any] | None:
        """For an account that is proven already: its own passkeys; None where it has none.

        `holder` names what the proof rests on, and the answer must be brought by it: the id of a
        session, or of the sign-in whose first step was right.
        """
        passkeys = await self._passkeys.find_all(account_id)
        if not passkeys:
            return None
        return self._request_options(
            self._challenges.issue(purpose, _of_account(account_id, holder)),
            passkeys,
            is_first_step=False,
        )

    async def sign_in(
        self, token: str, credential: Mapping[str, Any]
    ) -> PasskeyUse | RefusedUse | UsedTooOften | CeremonyRefusal:
        """Who signs in with a passkey alone; their authenticator has verified them."""
        return await self._proven(CeremonyPurpose.SIGN_IN, token, credential)

    async def factor(
        self,
        purpose: CeremonyPurpose,
        account_id: str,
        holder: str,
        answer: tuple[str, Mapping[str, Any]],
    ) -> PasskeyUse | RefusedUse | UsedTooOften | CeremonyRefusal:
        """The same for options that `factor_options` gave; `answer` is the challenge's token, and
        the credential."""
        return await self._proven(purpose, *answer, account_id=account_id, holder=holder)

    async def _proven(
        self,
        purpose: CeremonyPurpose,
        token: str,
        credential: Mapping[str, Any],
        *,
        account_id: str | None = None,
        holder: str = "",
    ) -> PasskeyUse | RefusedUse | UsedTooOften | CeremonyRefusal:
        sealed_for = "" if account_id is None else _of_account(account_id, holder)
        challenge = self._challenges.read(purpose, token, sealed_for)
        if challenge is None:
            return CeremonyRefusal.CHALLENGE
        from gateway.identity.factors.ceremonies import judged_assertion, presented_assertion

        presented = presented_assertion(credential)
        if presented is None:
            return CeremonyRefusal.CREDENTIAL
        known = await self._passkeys.find(presented.credential_id)
        passkey, handle = known if known is not None else (None, None)
        key = CredentialKey(presented.credential_id, self._unknown_key)
        assertion = judged_assertion(
            presented, key if passkey is None else passkey.key, challenge, self._party
        )
        if passkey is None or assertion is None:
            return CeremonyRefusal.CREDENTIAL
        if account_id is None:
            # Nobody was known: the authenticator has to say who it is, and to have verified them.
            is_owner = presented.user_handle == handle and assertion.user_verified
        else:
            is_owner = passkey.account_id == account_id and (
                presented.user_handle in (None, "", handle)
            )
        if not is_owner:
            return CeremonyRefusal.CREDENTIAL
        # What is claimed stays in Redis: only of answers that count, and of each account as many.
        # Whoever sends an answer again that has come uses up none of these.
        if await self._challenges.is_claimed(challenge):
            return CeremonyRefusal.CHALLENGE
        if (wait_s := await self._use_wait_s(passkey.account_id)) > 0:
            return UsedTooOften(wait_s)
        if not await self._challenges.claim(challenge):
            return CeremonyRefusal.CHALLENGE
        use = await self._passkeys.record_use(passkey, assertion)
        return RefusedUse(passkey, use) if isinstance(use, UseRefusal) else use

    def _request_options(
        self, challenge: PasskeyChallenge, passkeys: Sequence[Passkey], *, is_first_step: bool
    ) -> dict[str, Any]:
        from gateway.identity.factors.passkey_options import request_options

        public_key = request_options(
            self._party.id, challenge.challenge, passkeys, is_first_step=is_first_step
        )
        return _options(challenge, public_key)


def _options(challenge: PasskeyChallenge, public_key: dict[str, Any]) -> dict[str, Any]:
    """What a page gets: `public_key` is for `PublicKeyCredential.parse…OptionsFromJSON()`."""
    return {
        "challenge_token": challenge.token,
        "expires_in": CHALLENGE_TTL_S,
        "public_key": public_key,
    }


def _holder(owner: FactorOwner) -> str:
    return _of_account(owner.account_id, owner.holder)


def _of_account(account_id: str, holder: str) -> str:
    """Ids hold no space, so no two pairs read the same."""
    return f"{account_id} {holder}"


def _some_public_key() -> str:
    """A COSE key (RFC 9053 section 7.1.1) whose private half nobody has."""
    numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    # A map of five: kty EC2, alg ES256, crv P-256, and then x and y.
    return encoded(bytes.fromhex("a5010203262001215820") + x + bytes.fromhex("225820") + y)
