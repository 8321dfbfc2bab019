"""Which sessions a provider began, and by what names it ends them.

Law: a session that a provider says is over is over here; the sessions that the same person began by
other means go on, as the provider knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.sealed_tokens import SealedTokens
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sessions.sessions import end_one
from gateway.model import Change
from gateway.stores.protocols import Database, Transaction

_KIND = b"id token"
_AT_ONCE = 200
"""Sessions of one person at one provider: an account has fewer."""


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """Of a session of ours: whom to lead to the provider's sign-out, and with what."""

    provider: str
    id_token: str | None = field(repr=False)
    """For `id_token_hint`; None where none was kept, or it cannot be read any more."""


class ProviderSessions:
    def __init__(self, database: Database, key: bytes) -> None:
        """`key` is `derived_key(secret, KeyPurpose.ID_TOKEN)`."""
        self._database = database
        self._sealed = SealedTokens(key)

    def origin(self, identity: ProviderIdentity, identity_id: str) -> SessionOrigin:
        """Of a session that begins by it."""
        provider, id_token = identity.provider, identity.id_token
        keeps_token = provider.sign_out and id_token is not None
        issuer = provider.issuer.issuer
        return SessionOrigin(
            identity_id,
            issuer,
            identity.subject,
            provider.name,
            identity.session_id,
            identity.auth_time,
            self._sealed.seal(_KIND, [issuer, identity.subject, id_token]) if keeps_token else None,
        )

    async def of_session(self, session_id: str) -> ProviderSession | None:
        """None for a session that no provider began."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT issuer, subject, provider, id_token_sealed FROM provider_sessions"
                " WHERE session_id = :id",
                id=session_id,
            )
        if row is None:
            return None
        match self._sealed.open(_KIND, row["id_token_sealed"] or ""):
            case [issuer, subject, str(id_token)] if (issuer, subject) == (
                row["issuer"],
                row["subject"],
            ):
                return ProviderSession(str(row["provider"]), id_token)
        return ProviderSession(str(row["provider"]), None)


async def end_sessions_of(
    tx: Transaction,
    issuer: str,
    why: str,
    *,
    subject: str | None = None,
    provider_session: str | None = None,
    but: str | None = None,
) -> list[Change]:
    """Ends the sessions that the provider began for the subject, or in a session of its own, or in
    that session of that subject; the changes are to be announced.  One that has ended gives the
    change that ended it."""
    changes: list[Change] = []
    for session_id in await sessions_of(
        tx, issuer, subject=subject, provider_session=provider_session
    ):
        if session_id != but:
            changes += await end_one(tx, session_id, why)
    return changes


async def sessions_of(
    tx: Transaction, issuer: str, *, subject: str | None, provider_session: str | None
) -> Sequence[str]:
    """Their ids; none where nobody is named."""
    where = ["issuer = :issuer"]
    values = {"issuer": issuer}
    if subject is not None:
        where.append("subject = :subject")
        values["subject"] = subject
    if provider_session is not None:
        where.append("provider_session = :provider_session")
        values["provider_session"] = provider_session
    if len(where) == 1:
        return []
    rows = await tx.all(
        f"SELECT session_id FROM provider_sessions WHERE {' AND '.join(where)}"  # noqa: S608
        f" ORDER BY session_id LIMIT {_AT_ONCE}",
        **values,
    )
    return [str(row["session_id"]) for row in rows]
