"""Step-up: a live session whose owner has just proven more (RFC 9470).

Law: only what was given now makes a session fresh.  A password alone steps up no session that has a
second factor, of the account's own or of a provider; and a factor that is given now takes the place
of those of before, which it would make look new.  A session that may not go on is made no stronger
either: `live_sessions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.factors.factor_kinds import (
    FactorNeeded,
    FactorProof,
    factor_kinds,
    has_given_factor,
    with_factor,
)
from gateway.identity.sessions.session_origins import FEDERATED
from gateway.identity.sessions.token_dates import next_issued_at
from gateway.identity.sign_in.live_sessions import LiveSessions
from gateway.identity.sign_in.refresh_tokens import SessionGrant, mark_used
from gateway.model import Reason
from gateway.stores.protocols import Database, Transaction

_KEPT = ("pwd", FEDERATED)
"""Of the methods of before: what a session began by."""
_PASSWORD = ("pwd",)


class StepUps:
    def __init__(
        self,
        database: Database,
        live_sessions: LiveSessions,
        claims_of: Callable[[Account, str | None], Mapping[str, Any]],
    ) -> None:
        """`claims_of` is `RefreshTokens.claims_of`."""
        self._database = database
        self._live_sessions = live_sessions
        self._claims_of = claims_of

    async def by_password(
        self, account_id: str, session_id: str, checked_hash: str | None
    ) -> SessionGrant | FactorNeeded | Reason:
        """FactorNeeded where the account has a factor, and, with no kind to answer by, where it has
        to enrol one first, as at its next sign-in.  INSUFFICIENT_USER_AUTHENTICATION where the
        session has a factor that the account has not; any other Reason as of `by_factor`, or
        INVALID_CREDENTIALS where the password was replaced meanwhile."""
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            if account is None or account.password_hash != checked_hash:
                return Reason.INVALID_CREDENTIALS
            kinds = await factor_kinds(tx, account_id)
            if kinds:
                return FactorNeeded(account, _PASSWORD, kinds)
            if await has_given_factor(tx, session_id):
                return Reason.INSUFFICIENT_USER_AUTHENTICATION
            grant = await self._strengthen(tx, account_id, session_id, _PASSWORD)
            if grant is Reason.INSUFFICIENT_USER_AUTHENTICATION:
                return FactorNeeded(account, _PASSWORD, ())
            return grant

    async def by_factor(
        self, account_id: str, session_id: str, proof: FactorProof
    ) -> SessionGrant | Reason:
        """SESSION_UNKNOWN where the session, or the account, has ended meanwhile, and where nobody
        has used the session for too long."""
        async with self._database.transaction() as tx:
            return await self._strengthen(tx, account_id, session_id, with_factor((), proof))

    async def _strengthen(
        self, tx: Transaction, account_id: str, session_id: str, methods: tuple[str, ...]
    ) -> SessionGrant | Reason:
        """The session with these methods, as of now.  The grant has no refresh token: the one that
        there is stays."""
        account = await locked(tx, account_id)
        row = await tx.one(
            "SELECT amr, last_used_at, expires_at, ended_at, tenant FROM families"
            " WHERE id = :id AND account_id = :account",
            id=session_id,
            account=account_id,
        )
        now = int(await tx.now())
        kept = [method for method in str(row["amr"]).split() if method in _KEPT] if row else []
        amr = tuple(dict.fromkeys((*kept, *methods)))
        refusal = await self._live_sessions.refusal(tx, account, row, now, amr)
        if account is None or row is None or refusal is not None:
            return refusal or Reason.SESSION_UNKNOWN
        await tx.run(
            "UPDATE families SET amr = :amr, auth_time = :now WHERE id = :id",
            amr=" ".join(amr),
            now=now,
            id=session_id,
        )
        issued_at = next_issued_at(now, account.not_before)
        await mark_used(tx, session_id, issued_at)
        return SessionGrant(
            account=account,
            session_id=session_id,
            issued_at=issued_at,
            auth_time=now,
            amr=amr,
            expires_in_s=int(row["expires_at"]) - now,
            refresh_token="",
            claims=self._claims_of(account, row["tenant"]),
        )
