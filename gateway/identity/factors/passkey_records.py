"""What ceremonies with passkeys bring forth, and by what they are judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that was registered; bytes are base64url."""

    credential_id: str
    public_key: str
    """A COSE key."""
    sign_count: int
    backup_eligible: bool
    """Whether it can be copied to other devices, as the passkeys of a cloud are."""
    backed_up: bool
    discoverable: bool | None
    """Whether it can sign in alone; None where the browser did not say (`credProps`)."""
    transports: tuple[str, ...]
    aaguid: str


@dataclass(frozen=True, slots=True)
class CredentialKey:
    """What an assertion is judged by."""

    credential_id: str
    public_key: str


@dataclass(frozen=True, slots=True)
class PasskeyAssertion:
    """One whose signature is good."""

    sign_count: int
    backup_eligible: bool
    backed_up: bool
    user_verified: bool
