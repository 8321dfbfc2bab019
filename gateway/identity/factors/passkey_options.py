"""What a page hands to its browser, so that a passkey is made or asked for (WebAuthn 3, 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from webauthn import generate_authentication_options, generate_registration_options
from webauthn.helpers import options_to_json_dict
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from gateway.identity.base64url import decoded
from gateway.identity.factors.ceremonies import ALGORITHMS
from gateway.identity.factors.challenges import CHALLENGE_TTL_S
from gateway.identity.factors.passkeys import Passkey


def registration_options(
    party_id: str, email: str, user_id: bytes | None, challenge: bytes, passkeys: Sequence[Passkey]
) -> dict[str, Any]:
    """For one more passkey beside those that the account has."""
    options = generate_registration_options(
        rp_id=party_id,
        rp_name=party_id,
        user_id=user_id,
        user_name=email,
        user_display_name=email,
        challenge=challenge,
        timeout=CHALLENGE_TTL_S * 1_000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            require_resident_key=False,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=_descriptors(passkeys),
        supported_pub_key_algs=list(ALGORITHMS),
    )
    return {**options_to_json_dict(options), "extensions": {"credProps": True}}


def request_options(
    party_id: str, challenge: bytes, passkeys: Sequence[Passkey], *, is_first_step: bool
) -> dict[str, Any]:
    """For a proof by one of these passkeys, or by any; as the first step it has to verify its
    person."""
    options = generate_authentication_options(
        rp_id=party_id,
        challenge=challenge,
        timeout=CHALLENGE_TTL_S * 1_000,
        allow_credentials=_descriptors(passkeys),
        user_verification=(
            UserVerificationRequirement.REQUIRED
            if is_first_step
            else UserVerificationRequirement.PREFERRED
        ),
    )
    return options_to_json_dict(options)


def _descriptors(passkeys: Sequence[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=decoded(passkey.key.credential_id) or b"",
            transports=[AuthenticatorTransport(name) for name in passkey.transports],
        )
        for passkey in passkeys
    ]
