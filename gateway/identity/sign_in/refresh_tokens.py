"""Refresh tokens: opaque, single use, in families with an absolute life.

Law: one token has one successor.  Rotation is a compare-and-set; a second use within 10,000 ms by
the same client (the same User-Agent, from the same /24 or /64) is given that successor again, as
long as it was not used itself.  Any other reuse is theft and ends the family.  Only hashes rest
in SQL: the successor rests sealed under a key that only the holder of the token presented can
derive, and is erased after the grace.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.account_rows import Account, account_by_id, locked
from gateway.identity.factors.factor_kinds import AccountVersion, FactorNeeded, needed_factor
from gateway.identity.mail.links import Purpose, revoke_links
from gateway.identity.opaque_tokens import hash_token, well_formed
from gateway.identity.sessions import sessions
from gateway.identity.sessions.session_origins import SessionOrigin, is_linked, record_origin
from gateway.identity.sessions.session_room import Displaced, make_room, make_room_for_cookie
from gateway.identity.sessions.sessions import SignInSource, StillProven, Transport
from gateway.identity.sessions.token_dates import TooSoon, next_issued_at, too_soon
from gateway.identity.sign_in.live_sessions import LiveSessions
from gateway.identity.sign_in.successors import client_tag, seal_successor, successor_in_grace
from gateway.model import Change, Reason
from gateway.stores.protocols import Database, Row, Transaction


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What a sign-in or a refresh yields; the access token is minted from it.

    `issued_at` is the `iat` that the access token must carry: it lies after every change of
    the account, by the store's own clock.
    """

    account: Account
    session_id: str
    issued_at: int
    auth_time: int
    amr: tuple[str, ...]
    expires_in_s: int
    """What is left of the family's life."""
    refresh_token: str = field(repr=False)
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What is said of the account besides its address and roles."""
    repeated: bool = False
    """The token had been used: the successor was given once more."""
    displaced: Sequence[Displaced] = ()
    """What ended to make room for this sign-in."""
    dropped_cookies: Sequence[str] = ()
    """The hashes of cookies of this session that made room for one more."""


@dataclass(frozen=True, slots=True)
class ReuseDetected:
    """The token had been used: its family has ended, and `changes` must be announced."""

    account_id: str
    session_id: str
    changes: Sequence[Change]


class SessionWait(Protocol):
    async def __call__(self, session_id: str, account_id: str | None = None) -> float:
        """Seconds that a session has to wait for its next renewal; 0.0 for none.  Counted by the
        account too, where that is known."""


@dataclass(frozen=True, slots=True)
class RefreshOptions:
    life_s: int = 604_800
    idle_s: int = 0
    """A family unused for so long is over; 0 for never."""
    claims: AccountClaims = field(default_factory=AccountClaims)


class RefreshTokens:
    """Begins sessions and rotates their refresh tokens."""

    def __init__(
        self,
        database: Database,
        options: RefreshOptions,
        factor_rule: Callable[[], FactorRule] = lambda: NO_FACTOR_RULE,
    ) -> None:
        """`factor_rule` is `require_factor` as the current snapshot says."""
        self._database = database
        self._options = options
        self._factor_rule = factor_rule
        self.live_sessions = LiveSessions(options.idle_s, factor_rule)

    async def begin(
        self,
        account_id: str,
        source: SignInSource,
        *,
        checked_hash: str | None = None,
        without_password: bool = False,
        still_proven: StillProven | None = None,
        version: AccountVersion | None = None,
        verified_only: bool = False,
        amr: tuple[str, ...] = ("pwd",),
        cookie_hash: str | None = None,
        origin: SessionOrigin | None = None,
    ) -> SessionGrant | FactorNeeded | TooSoon | Reason:
        """Begin a session of an account that somebody has proven to be theirs.

        With `cookie_hash` a session cookie stands for it: no refresh token is made, and the
        hash is stored in its place, so that whoever has the cookie can end the session.

        Proving took its time, outside of any transaction: ACCOUNT_DISABLED, EMAIL_UNVERIFIED
        or (where the password is not that of `checked_hash` any more) INVALID_CREDENTIALS
        when the account has changed meanwhile.  `without_password` is said by whoever proved
        it by other means (`amr` names them), and never by default; `still_proven` then says
        whether that counts now.  `version` is said in its place by who proved it a while ago.
        `origin` is what began it besides.

        FactorNeeded where `amr` has no `mfa` and the account has a factor, or must have one.
        """
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            if account is None:
                return Reason.INVALID_CREDENTIALS
            otherwise = without_password or version is not None
            if not otherwise and account.password_hash != checked_hash:
                return Reason.INVALID_CREDENTIALS
            if version is not None and version != AccountVersion.of(account):
                return Reason.INVALID_CREDENTIALS
            if origin is not None and not await is_linked(tx, origin, account.id):
                return Reason.INVALID_CREDENTIALS
            if still_proven is not None and not await still_proven(tx):
                return Reason.INVALID_CREDENTIALS
            if account.disabled:
                return Reason.ACCOUNT_DISABLED
            if verified_only and not account.email_verified:
                return Reason.EMAIL_UNVERIFIED
            now = int(await tx.now())
            if (wait := too_soon(now, account.not_before)) is not None:
                return wait
            issued_at = next_issued_at(now, account.not_before)
            needed = await needed_factor(tx, account, amr, self._factor_rule(), now)
            if needed is not None:
                return needed
            displaced = await make_room(tx, account.id)
            session_id = await sessions.begin(
                tx,
                account.id,
                source,
                amr=" ".join(amr),
                at=now,
                expires_at=now + self._options.life_s,
                transport="bearer" if cookie_hash is None else "cookie",
            )
            if origin is not None:
                await record_origin(tx, session_id, origin)
            await mark_used(tx, session_id, issued_at)
            token = ""
            if cookie_hash is None:
                token = await _add_token(tx, session_id, now)
            else:
                await _add_hash(tx, cookie_hash, session_id, now)
            return SessionGrant(
                account=account,
                session_id=session_id,
                issued_at=issued_at,
                auth_time=_authenticated_at(origin, now),
                amr=amr,
                expires_in_s=self._options.life_s,
                refresh_token=token,
                claims=self.claims_of(account, None),
                displaced=displaced,
            )

    async def rotate(
        self, token: str, source: SignInSource, wait_s: SessionWait | None = None
    ) -> SessionGrant | ReuseDetected | TooSoon | Reason:
        """Give the successor of `token`; INVALID_REFRESH_TOKEN where there is none.

        `wait_s` says how long a session has to wait for it; a token that waits is not used up.  It
        is not asked about a token that somebody else has used: whoever draws on what the session
        may renew would else keep its owner from ending it.
        INSUFFICIENT_USER_AUTHENTICATION where the term is over in which the account enrols a
        second factor, and the session began without one.
        """
        if not well_formed(token):
            return Reason.INVALID_REFRESH_TOKEN
        token_hash = hash_token(token)
        async with self._database.read_transaction() as tx:
            family = await tx.one(_WITH_SESSION, hash=token_hash)
            now_ms = int(await tx.now() * 1000)
            # No write lock is taken for what stands for nothing any more.
            if family is None or self.live_sessions.is_over(family, now_ms // 1000):
                return Reason.INVALID_REFRESH_TOKEN
            is_reused = family["used_at"] is not None and not await successor_in_grace(
                tx, token, family, source, now_ms
            )
        if wait_s is not None and not is_reused:
            seconds = await wait_s(str(family["family_id"]), str(family["account_id"]))
            if seconds > 0:
                return TooSoon(seconds)
        async with self._database.transaction() as tx:
            account = await locked(tx, str(family["account_id"]))
            row = await tx.one(_WITH_SESSION, hash=token_hash)
            now_ms = int(await tx.now() * 1000)
            now = now_ms // 1000
            refusal = await self.live_sessions.refusal(tx, account, row, now)
            if account is None or row is None or refusal is Reason.SESSION_UNKNOWN:
                return Reason.INVALID_REFRESH_TOKEN
            session_id = str(row["family_id"])
            successor = None
            repeated = row["used_at"] is not None
            if repeated:
                successor = await successor_in_grace(tx, token, row, source, now_ms)
                if successor is None:
                    await revoke_links(tx, account.id, Purpose.EMAIL_CHANGE)
                    changes = await sessions.end_one(tx, session_id, "reused")
                    return ReuseDetected(account.id, session_id, changes)
            if refusal is not None:
                return refusal
            successor = successor or await _rotate(tx, token, row, source, now_ms)
            issued_at = next_issued_at(now, account.not_before)
            await mark_used(tx, session_id, issued_at)
            return SessionGrant(
                account=account,
                session_id=session_id,
                issued_at=issued_at,
                auth_time=int(row["auth_time"]),
                amr=tuple(str(row["amr"]).split()),
                expires_in_s=int(row["expires_at"]) - now,
                refresh_token=successor,
                claims=self.claims_of(account, row["tenant"]),
                repeated=repeated,
            )

    async def renew(
        self,
        session_id: str,
        transport: Transport = "cookie",
        *,
        cookie_hash: str | None = None,
    ) -> SessionGrant | None:
        """Renew a session and read its account again; None once it has ended, or counts no more
        for want of a second factor.

        The grant has no refresh token: what stands for the session (`transport`) stays.  With
        `cookie_hash` one more cookie stands for it from now on.
        """
        async with self._database.read_transaction() as tx:
            family = await tx.one(_SESSION, id=session_id, transport=transport)
        if family is None:
            return None
        async with self._database.transaction() as tx:
            account = await locked(tx, str(family["account_id"]))
            row = await tx.one(_SESSION, id=session_id, transport=transport)
            now = int(await tx.now())
            refusal = await self.live_sessions.refusal(tx, account, row, now)
            if account is None or row is None or refusal is not None:
                return None
            dropped: Sequence[str] = ()
            if cookie_hash is not None:
                dropped = await make_room_for_cookie(tx, session_id)
                await _add_hash(tx, cookie_hash, session_id, now)
            issued_at = next_issued_at(now, account.not_before)
            await mark_used(tx, session_id, issued_at)
            return SessionGrant(
                account=account,
                session_id=session_id,
                issued_at=issued_at,
                auth_time=int(row["auth_time"]),
                amr=tuple(str(row["amr"]).split()),
                expires_in_s=int(row["expires_at"]) - now,
                refresh_token="",
                claims=self.claims_of(account, row["tenant"]),
                dropped_cookies=dropped,
            )

    async def session_of_cookie(self, cookie_hash: str) -> sessions.Session | None:
        """The session of a session cookie, ended or not."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(_WITH_SESSION, hash=cookie_hash)
            return await sessions.find(tx, str(row["family_id"])) if row else None

    async def session_of(self, token: str) -> sessions.Session | None:
        """The session of a token, used or not, ended or not."""
        if not well_formed(token):
            return None
        async with self._database.read_transaction() as tx:
            row = await tx.one(_WITH_SESSION, hash=hash_token(token))
            return await sessions.find(tx, str(row["family_id"])) if row else None

    async def find_active(self, token: str) -> sessions.Session | None:
        """The session of a token that can still be refreshed; this does not use it up."""
        if not well_formed(token):
            return None
        async with self._database.read_transaction() as tx:
            row = await tx.one(_WITH_SESSION, hash=hash_token(token))
            if row is None or row["used_at"] is not None:
                return None
            account = await account_by_id(tx, str(row["account_id"]))
            now = int(await tx.now())
            refusal = await self.live_sessions.refusal(tx, account, row, now, begins_term=False)
            if refusal is not None:
                return None
            return await sessions.find(tx, str(row["family_id"]))

    def claims_of(self, account: Account, tenant: str | None) -> Mapping[str, Any]:
        """What the tokens of a session in this tenant say of the account's attributes."""
        return self._options.claims.of(account, tenant)

    def claim_names(self) -> frozenset[str]:
        """Of what `claims_of` gives."""
        return self._options.claims.names()


def _authenticated_at(origin: SessionOrigin | None, now: int) -> int:
    """When who signs in proved who they are, as `session_origins.record_origin` writes it."""
    if origin is None or origin.auth_time is None:
        return now
    return min(origin.auth_time, now)


_WITH_SESSION = (
    "SELECT t.hash, t.family_id, t.used_at, t.used_ms, t.used_by, t.successor_sealed, f.account_id,"
    " f.tenant, f.amr, f.auth_time, f.last_used_at, f.expires_at, f.ended_at"
    " FROM refresh_tokens t JOIN families f ON f.id = t.family_id WHERE t.hash = :hash"
)


_SESSION = (
    "SELECT account_id, tenant, amr, auth_time, last_used_at, expires_at, ended_at FROM families"
    " WHERE id = :id AND transport = :transport"
)


async def _add_token(tx: Transaction, session_id: str, now: int) -> str:
    token = secrets.token_urlsafe(32)
    await _add_hash(tx, hash_token(token), session_id, now)
    return token


async def _add_hash(tx: Transaction, token_hash: str, session_id: str, now: int) -> None:
    await tx.run(
        "INSERT INTO refresh_tokens (hash, family_id, created_at) VALUES (:hash, :family, :now)",
        hash=token_hash,
        family=session_id,
        now=now,
    )


async def _rotate(tx: Transaction, token: str, row: Row, source: SignInSource, now_ms: int) -> str:
    """Marks the token used and adds its one successor.

    The caller holds the account's row and read the token under it; the condition makes the
    law hold even for one that does not.
    """
    now = now_ms // 1000
    successor = await _add_token(tx, str(row["family_id"]), now)
    used = await tx.run(
        "UPDATE refresh_tokens SET used_at = :now, used_ms = :now_ms, used_by = :used_by,"
        " successor_sealed = :sealed WHERE hash = :hash AND used_at IS NULL",
        hash=row["hash"],
        now=now,
        now_ms=now_ms,
        used_by=client_tag(source),
        sealed=seal_successor(token, successor, str(row["family_id"])),
    )
    if used != 1:
        raise RuntimeError("a refresh token changed under the lock of its account")
    return successor


async def mark_used(tx: Transaction, session_id: str, issued_at: int) -> None:
    await tx.run(
        "UPDATE families SET last_used_at = :issued_at"
        " WHERE id = :id AND last_used_at < :issued_at",
        id=session_id,
        issued_at=issued_at,
    )
