"""What began a session besides its owner: a provider by which people sign in.

Law: it is written in the transaction that begins the session, so that no end which the provider
tells of comes between the two; and it travels with a sign-in that waits for a second factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.stores.protocols import Transaction

FEDERATED = "fed"
"""Among the `amr` of a session that a provider began; a word of ours."""


@dataclass(frozen=True, slots=True)
class SessionOrigin:
    """Somebody whom a provider knows, as the provider names them and their session there."""

    identity_id: str
    """Of the link with the account."""
    issuer: str
    subject: str
    provider: str
    """Its name in the configuration."""
    provider_session: str | None
    auth_time: int | None
    """When they signed in there: a session there may be hours old."""
    id_token_sealed: str | None = field(default=None, repr=False)
    begun_at: int | None = None
    """As of `ProviderIdentity`."""

    def parts(self) -> Mapping[str, object]:
        """All but the ID token, which is long: for what carries it sealed."""
        return {
            "identity_id": self.identity_id,
            "issuer": self.issuer,
            "subject": self.subject,
            "provider": self.provider,
            "provider_session": self.provider_session,
            "auth_time": self.auth_time,
            "begun_at": self.begun_at,
        }

    @staticmethod
    def of(parts: object) -> SessionOrigin | None:
        match parts:
            case {
                "identity_id": str(identity_id),
                "issuer": str(issuer),
                "subject": str(subject),
                "provider": str(provider),
                "provider_session": str() | None as provider_session,
                "auth_time": int() | None as auth_time,
                "begun_at": int() | None as begun_at,
            }:
                return SessionOrigin(
                    identity_id,
                    issuer,
                    subject,
                    provider,
                    provider_session,
                    auth_time,
                    begun_at=begun_at,
                )
        return None


async def is_linked(tx: Transaction, origin: SessionOrigin, account_id: str) -> bool:
    """Whether the account is still linked with them."""
    row = await tx.one(
        "SELECT 1 FROM linked_identities WHERE id = :id AND account_id = :account",
        id=origin.identity_id,
        account=account_id,
    )
    return row is not None


async def record_origin(tx: Transaction, session_id: str, origin: SessionOrigin) -> None:
    if origin.auth_time is not None:
        # What asks for a fresh sign-in must know.
        await tx.run(
            "UPDATE families SET auth_time = :at WHERE id = :id AND auth_time > :at",
            at=origin.auth_time,
            id=session_id,
        )
    await tx.run(
        "INSERT INTO provider_sessions (session_id, issuer, subject, provider,"
        " provider_session, id_token_sealed) VALUES (:session, :issuer, :subject, :provider,"
        " :provider_session, :sealed)",
        session=session_id,
        issuer=origin.issuer,
        subject=origin.subject,
        provider=origin.provider,
        provider_session=origin.provider_session,
        sealed=origin.id_token_sealed,
    )
