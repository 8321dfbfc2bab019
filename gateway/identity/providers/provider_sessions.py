"""Which sessions a provider began, and by what names it ends them.

Law: a session that a provider says is over is over here, and so is a sign-in by it that waits for
its second factor; the sessions that the same person began by other means go on, as the provider
knows nothing of them.  Of a session there whose subject is named too, those end as well of which
nobody knows in which session there they began: an ID token need not say.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.mail.links import Purpose, revoke_links
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.sealed_tokens import SealedTokens
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sessions.sessions import end_one, lock
from gateway.model import Change
from gateway.stores.protocols import Database, Transaction

_KIND = b"id token"
_AT_ONCE = 200
"""Sessions of one person at one provider: an account has fewer."""


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """Of a session of ours: whom to lead to the provider's sign-out, and with what."""

    issuer: str
    """Of the provider then, whatever the configuration calls it now."""
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
            identity.begun_at,
        )

    async def of_session(self, session_id: str) -> ProviderSession | None:
        """None for a session that no provider began."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT issuer, subject, id_token_sealed FROM provider_sessions"
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
                return ProviderSession(str(row["issuer"]), id_token)
        return ProviderSession(str(row["issuer"]), None)


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
    change that ended it.

    Of what the person has under way nothing is known here, but to `EndedSessions`.  Where all that
    they had there is over, a new id of their link makes what names the old one begin no session
    besides (`session_origins.is_linked`), and a change of the address that they asked for is
    stopped; else that would stop what they began in another session there.  Either way their
    account is waited for: who holds it may have looked for this end before it was noted.
    """
    await _hold_links(tx, issuer, subject=subject, provider_session=provider_session)
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
    """Their ids, the live ones first; none where nobody is named.

    Of those that are over there are thousands where somebody has signed in so often.
    """
    where, values = _named(issuer, subject, provider_session)
    if not where:
        return []
    rows = await tx.all(
        "SELECT p.session_id FROM provider_sessions p JOIN families f ON f.id = p.session_id"  # noqa: S608
        f" WHERE {where} ORDER BY CASE WHEN f.ended_at IS NULL AND f.expires_at > :now"
        f" THEN 0 ELSE 1 END, COALESCE(f.ended_at, 0) DESC, p.session_id LIMIT {_AT_ONCE}",
        now=int(await tx.now()),
        **values,
    )
    return [str(row["session_id"]) for row in rows]


async def _hold_links(
    tx: Transaction, issuer: str, *, subject: str | None, provider_session: str | None
) -> None:
    where, values = _named(issuer, subject, provider_session)
    subjects = [] if subject is None else [subject]
    if where and subject is None:
        rows = await tx.all(
            f"SELECT DISTINCT p.subject FROM provider_sessions p WHERE {where}",  # noqa: S608
            **values,
        )
        subjects = [str(row["subject"]) for row in rows]
    for one in subjects:
        row = await tx.one(
            "SELECT id, account_id FROM linked_identities"
            " WHERE issuer = :issuer AND subject = :subject",
            issuer=issuer,
            subject=one,
        )
        if row is None or await lock(tx, str(row["account_id"])) is None:
            continue
        if provider_session is None:
            await _rename_link(tx, str(row["id"]))
            await revoke_links(tx, str(row["account_id"]), Purpose.EMAIL_CHANGE)


async def _rename_link(tx: Transaction, identity_id: str) -> None:
    roles = await tx.all("SELECT role FROM linked_roles WHERE identity_id = :id", id=identity_id)
    renamed = str(uuid.uuid4())
    await tx.run("DELETE FROM linked_roles WHERE identity_id = :id", id=identity_id)
    moved = await tx.run(
        "UPDATE linked_identities SET id = :renamed WHERE id = :id",
        renamed=renamed,
        id=identity_id,
    )
    for row in roles if moved else ():
        await tx.run(
            "INSERT INTO linked_roles (identity_id, role) VALUES (:id, :role)",
            id=renamed,
            role=row["role"],
        )


def _named(
    issuer: str, subject: str | None, provider_session: str | None
) -> tuple[str, dict[str, str]]:
    """Whom a provider's names mean, as a condition and its values; empty where it names nobody."""
    values, conditions = {"issuer": issuer}, ["p.issuer = :issuer"]
    if subject is not None:
        values["subject"] = subject
        conditions.append("p.subject = :subject")
    if provider_session is not None:
        values["provider_session"] = provider_session
        in_it = "p.provider_session = :provider_session"
        conditions.append(in_it if subject is None else f"({in_it} OR p.provider_session IS NULL)")
    return (" AND ".join(conditions), values) if len(values) > 1 else ("", {})
