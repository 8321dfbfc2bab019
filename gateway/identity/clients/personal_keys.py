"""Personal keys: API keys that a person makes for programs of their own, `agp_…`.

Law: a call with one is that person, with the e-mail address and the roles of now, and never with
a role, an action or a route that the key was not given; nor does a role that it was not given
cease to take away what it takes from the account.  It ends with the account, rests as a hash, and
whatever changes what the account may do is judged on the next call.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.account_rows import Account, account_by_id, locked
from gateway.identity.clients.api_keys import AMR
from gateway.identity.clients.key_form import (
    PERSONAL_PREFIX,
    limit_of,
    limit_text,
    limited_roles,
    new_key,
)
from gateway.identity.clients.key_terms import KeyTerms
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.purging import run_in_parts
from gateway.identity.revocations import refuse_once
from gateway.identity.sessions.callers import is_refused, is_signed_in
from gateway.identity.sessions.sessions import lock
from gateway.identity.sign_in.live_sessions import LiveSessions
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database, Row, Transaction

KEYS_MAX = 50
"""Live keys of one account: each is a line of the list that its owner reads."""
KEPT_AFTER_END_S = 86_400
"""How long a key that is over is kept: ending it again finds what ended it."""


class KeyProblem(StrEnum):
    """Why no key is made, besides a session or an account that is over."""

    ROLE_NOT_HELD = "holds a role that the account does not have"
    TOO_MANY = f"an account has at most {KEYS_MAX} live keys: end one"


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key is limited to; None where nothing limits it."""

    roles: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    """Actions, such as `orders:read` or `orders:*`."""
    routes: tuple[str, ...] | None = None
    """Ids of routes."""


@dataclass(frozen=True, slots=True)
class PersonalKey:
    id: str
    account_id: str
    name: str
    limits: KeyLimits
    created_at: int
    expires_at: int
    ended_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class NewPersonalKey:
    """`text` is shown once; only its hash is kept."""

    key: PersonalKey
    text: str = field(repr=False)


class PersonalKeys:
    """Makes, lists and ends the keys of accounts, for their owners and operators."""

    def __init__(
        self,
        database: Database,
        notifications: SecurityNotifications | None = None,
        live_sessions: LiveSessions | None = None,
        terms: KeyTerms | None = None,
    ) -> None:
        """`notifications` tells the owner of each key that is made, `live_sessions` says by which
        sessions one is, and `terms` for which accounts."""
        self._database = database
        self._notifications = notifications
        self._live_sessions = live_sessions or LiveSessions()
        self._terms = terms

    async def create(
        self, owner: Principal, name: str, limits: KeyLimits, life_s: int
    ) -> NewPersonalKey | KeyProblem | Reason:
        """TOKEN_REVOKED where the owner's token, session or account has ended meanwhile;
        INSUFFICIENT_USER_AUTHENTICATION where the account has to enrol a second factor first."""
        text = new_key(PERSONAL_PREFIX)
        async with self._database.transaction() as tx:
            account = await locked(tx, owner.subject)
            refusal = await self._live_sessions.refusal_of(tx, account, owner.session_id or "")
            if account is None or refusal is Reason.SESSION_UNKNOWN:
                return Reason.TOKEN_REVOKED
            if await is_refused(tx, owner.token_id):
                return Reason.TOKEN_REVOKED
            if refusal is not None:
                return refusal
            # The session may have given a factor that the account has no more: it would make a key
            # that does not call.
            if self._terms is not None and await self._terms.are_over_for_new(tx, account):
                return Reason.INSUFFICIENT_USER_AUTHENTICATION
            if set(limits.roles or ()) - set(account.roles):
                return KeyProblem.ROLE_NOT_HELD
            now = int(await tx.now())
            if len(await _live_rows(tx, account.id, now)) >= KEYS_MAX:
                return KeyProblem.TOO_MANY
            created_at = await _created_at(tx, account, now)
            key = PersonalKey(
                id="pkey-" + secrets.token_hex(10),
                account_id=account.id,
                name=name,
                limits=limits,
                created_at=created_at,
                expires_at=created_at + life_s,
                ended_at=None,
                last_used_at=None,
            )
            await _insert(tx, key, hash_token(text))
            if self._notifications is not None:
                await self._notifications.key_created(tx, account.id, name)
        if self._notifications is not None:
            self._notifications.wake()
        return NewPersonalKey(key, text)

    async def find_active(self, account_id: str) -> list[PersonalKey]:
        """The keys that are still good, newest first."""
        async with self._database.read_transaction() as tx:
            rows = await _live_rows(tx, account_id, int(await tx.now()))
        return [_personal_key(row) for row in rows]

    async def id_of(self, text: str) -> str | None:
        """Of whoever holds the key itself; None where there is none of this text."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT id FROM personal_keys WHERE hash = :hash", hash=hash_token(text)
            )
        return None if row is None else str(row["id"])

    async def end(self, key_id: str, *, owner: str | None = None) -> Sequence[Change] | None:
        """None where there is no such key (or it is not `owner`'s).  May be repeated: a key that
        has ended gives the change that ended it."""
        async with self._database.transaction() as tx:
            holder = await _holder(tx, key_id)
            if holder is None or (owner is not None and holder != owner):
                return None
            return await _end(tx, key_id)

    async def end_own(self, key_id: str, *, by: Principal) -> Sequence[Change] | Reason | None:
        """The same for its owner; TOKEN_REVOKED where what they ask with has ended meanwhile."""
        async with self._database.transaction() as tx:
            if await _holder(tx, key_id) != by.subject:
                return None
            await lock(tx, by.subject)
            if not await is_signed_in(tx, by):
                return Reason.TOKEN_REVOKED
            return await _end(tx, key_id)


async def purge_personal_keys(database: Database) -> None:
    """Delete keys that ended or expired a day ago."""
    async with database.read_transaction() as tx:
        before = int(await tx.now()) - KEPT_AFTER_END_S
    await run_in_parts(
        database,
        "DELETE FROM personal_keys",
        "personal_keys",
        "id",
        "(expires_at < :before OR ended_at < :before)",
        before=before,
    )


async def personal_principal(
    tx: Transaction,
    digest: str,
    claims: AccountClaims | None = None,
    terms: KeyTerms | None = None,
) -> Principal | Reason:
    """Who calls with the key of this hash; TOKEN_REVOKED for one that ended and for one that
    never was, INSUFFICIENT_USER_AUTHENTICATION where `terms` are over."""
    row = await tx.one("SELECT * FROM personal_keys WHERE hash = :hash", hash=digest)
    if row is None or row["ended_at"] is not None:
        return Reason.TOKEN_REVOKED
    key = _personal_key(row)
    account = await account_by_id(tx, key.account_id)
    if account is None or account.disabled:
        return Reason.TOKEN_REVOKED
    if key.expires_at <= int(await tx.now()):
        return Reason.TOKEN_EXPIRED
    if terms is not None and await terms.are_over(tx, account):
        return Reason.INSUFFICIENT_USER_AUTHENTICATION
    limits = key.limits
    roles, held_roles = limited_roles(account.roles, limits.roles)
    scopes = limits.scopes
    if limits.routes is not None and scopes is None:
        # One question on every call: whether anything limits its credential.
        scopes = ("*",)
    return Principal(
        subject=account.id,
        roles=roles,
        session_id=None,
        token_id=key.id,
        client_id=None,
        kid="",
        # As of the last change that was read, and no younger: each change that comes later has a
        # later time (`sessions.outdate`), and refuses what was read before it.
        issued_at=max(account.not_before + 1, key.created_at),
        expires_at=key.expires_at,
        email=account.email,
        email_verified=account.email_verified,
        amr=AMR,
        claims=(claims or AccountClaims()).of(account, None),
        scopes=scopes,
        routes=None if limits.routes is None else frozenset(limits.routes),
        held_roles=held_roles,
    )


def described(key: PersonalKey) -> dict[str, Any]:
    """What its owner, and an operator, is told of a key: no hash."""
    return {
        "key_id": key.id,
        "name": key.name,
        "roles": _list(key.limits.roles),
        "scopes": _list(key.limits.scopes),
        "routes": _list(key.limits.routes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
    }


async def _created_at(tx: Transaction, account: Account, now: int) -> int:
    """Behind every change that refused what the account had, and behind a restore, which
    refuses everyone's."""
    row = await tx.one(
        "SELECT MAX(not_before) AS restored_at FROM changes WHERE kind = :kind",
        kind=ChangeKind.EVERYONE.value,
    )
    restored_at = int(row["restored_at"]) if row and row["restored_at"] is not None else 0
    return max(now, account.not_before + 1, restored_at + 1)


async def _holder(tx: Transaction, key_id: str) -> str | None:
    row = await tx.one("SELECT account_id FROM personal_keys WHERE id = :id", id=key_id)
    return None if row is None else str(row["account_id"])


async def _end(tx: Transaction, key_id: str) -> Sequence[Change]:
    await tx.run(
        "UPDATE personal_keys SET ended_at = :now WHERE id = :id AND ended_at IS NULL",
        id=key_id,
        now=int(await tx.now()),
    )
    return await refuse_once(tx, ChangeKind.TOKEN, key_id)


async def _live_rows(tx: Transaction, account_id: str, now: int) -> Sequence[Row]:
    return await tx.all(
        "SELECT * FROM personal_keys WHERE account_id = :id AND ended_at IS NULL"
        " AND expires_at > :now ORDER BY created_at DESC, id",
        id=account_id,
        now=now,
    )


async def _insert(tx: Transaction, key: PersonalKey, digest: str) -> None:
    await tx.run(
        "INSERT INTO personal_keys (id, hash, account_id, name, roles, scopes, routes,"
        " created_at, expires_at) VALUES (:id, :hash, :account, :name, :roles, :scopes, :routes,"
        " :created, :expires)",
        id=key.id,
        hash=digest,
        account=key.account_id,
        name=key.name,
        roles=limit_text(key.limits.roles),
        scopes=limit_text(key.limits.scopes),
        routes=limit_text(key.limits.routes),
        created=key.created_at,
        expires=key.expires_at,
    )


def _personal_key(row: Row) -> PersonalKey:
    return PersonalKey(
        id=str(row["id"]),
        account_id=str(row["account_id"]),
        name=str(row["name"]),
        limits=KeyLimits(*(limit_of(row[name]) for name in ("roles", "scopes", "routes"))),
        created_at=int(row["created_at"]),
        expires_at=int(row["expires_at"]),
        ended_at=None if row["ended_at"] is None else int(row["ended_at"]),
        last_used_at=None if row["last_used_at"] is None else int(row["last_used_at"]),
    )


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
