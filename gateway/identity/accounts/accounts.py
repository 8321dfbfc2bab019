"""Accounts: an e-mail address, a password, roles.

Law: whatever changes what a token says of its subject writes, in the same transaction, the
change that refuses the tokens given before.  Each method returns such changes for the caller
to announce.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.email_address import normalize_email, require_normalized
from gateway.identity.accounts.account_claims import check_length
from gateway.identity.accounts.account_rows import (
    SELECT,
    Account,
    account_by_id,
    account_of_row,
    find_by_key,
    locked,
)
from gateway.identity.accounts.data_export import export_data
from gateway.identity.accounts.erasure import erase
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.mail.links import Purpose, revoke_links
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.password_epochs import first_epoch
from gateway.identity.sessions.purging import erase_sessions_of_many_tokens
from gateway.identity.sessions.sessions import end_every, end_others, is_live, lock, outdate
from gateway.identity.tombstones import Ended, add_tombstone, remove_tombstone, role_target
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database, Transaction


@dataclass(frozen=True, slots=True)
class Proof:
    """What a change of one's own account stands on: a session, and the right password."""

    session_id: str
    checked_hash: str | None = field(repr=False)
    """What the password was checked against."""
    normalized_email: str = ""
    """Of the account that it was checked for."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A password that its owner changed."""

    changes: Sequence[Change]
    password_epoch: int
    """Of the new one: what was changed since has another."""


class Accounts:
    """Creates, reads and changes accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(
        self,
        email: str,
        password_hash: str | None,
        *,
        roles: Sequence[str] = (),
        verified: bool = False,
    ) -> Account | Reason:
        """A new account, or EMAIL_TAKEN.  `email` is as `display_email` gave it."""
        try:
            async with self._database.transaction() as tx:
                return await add(tx, email, password_hash, roles=roles, verified=verified)
        except Conflict:
            return Reason.EMAIL_TAKEN

    async def by_email(self, email: str) -> Account | None:
        key = normalize_email(email)
        if key is None:
            return None
        async with self._database.read_transaction() as tx:
            return await find_by_key(tx, key)

    async def by_id(self, account_id: str) -> Account | None:
        async with self._database.read_transaction() as tx:
            return await account_by_id(tx, account_id)

    async def password_epoch(self, normalized_email: str) -> int | None:
        """None without an account.  See `Account.password_epoch`."""
        async with self._database.read_transaction() as tx:
            epoch = "SELECT password_epoch FROM accounts WHERE email_key = :key"
            row = await tx.one(epoch, key=normalized_email)
        return None if row is None else int(row["password_epoch"])

    async def export(self, account_id: str) -> dict[str, Any] | None:
        async with self._database.read_transaction() as tx:
            return await export_data(tx, account_id)

    async def page(self, *, after: str = "", limit: int = 1000) -> list[Account]:
        """Accounts in the order of their normalized e-mail address, after `after`."""
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                f"{SELECT} WHERE email_key > :after ORDER BY email_key LIMIT :limit",
                after=after,
                limit=limit,
            )
            granted = await tx.all(
                "SELECT account_id, role FROM held_roles WHERE account_id IN (SELECT id"
                " FROM accounts WHERE email_key > :after ORDER BY email_key LIMIT :limit)"
                " ORDER BY role",
                after=after,
                limit=limit,
            )
        roles: dict[str, list[str]] = {}
        for row in granted:
            roles.setdefault(str(row["account_id"]), []).append(str(row["role"]))
        return [account_of_row(row, roles.get(str(row["id"]), [])) for row in rows]

    async def role_counts(self) -> Sequence[tuple[str, int]]:
        """Every role that an account has, and how many have it."""
        async with self._database.read_transaction() as tx:
            counted = "SELECT role, COUNT(*) AS accounts FROM held_roles"
            rows = await tx.all(f"{counted} GROUP BY role ORDER BY role")
        return [(str(row["role"]), int(row["accounts"])) for row in rows]

    async def granted_roles(self, account_id: str) -> Sequence[str]:
        """Those that operators gave; what providers gave is not among them."""
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT role FROM account_roles WHERE account_id = :id ORDER BY role", id=account_id
            )
        return [str(row["role"]) for row in rows]

    async def grant(self, account_id: str, role: str) -> Sequence[Change]:
        """Empty where an operator gave the account the role before (or it is gone).  Raises
        ValueError for what `check_roles` refuses."""
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            if account is None:
                return []
            roles = list({*account.roles, role})
            check_roles(roles)
            check_length(roles, account.attributes, account.tenants)
            # One that a provider gives may go with its next sign-in; the operator's stays.
            is_new = await _grant(tx, account_id, role)
            await remove_tombstone(tx, Ended.ROLE, role_target(account_id, role))
            if not is_new:
                return []
            return [await outdate(tx, account_id, Reason.TOKEN_OUTDATED)]

    async def revoke(self, account_id: str, role: str) -> Sequence[Change]:
        """Empty where the account did not have the role."""
        async with self._database.transaction() as tx:
            if await lock(tx, account_id) is None:
                return []
            deleted = await tx.run(
                "DELETE FROM account_roles WHERE account_id = :id AND role = :role",
                id=account_id,
                role=role,
            )
            if not deleted:
                return []
            await add_tombstone(tx, Ended.ROLE, role_target(account_id, role))
            return [await outdate(tx, account_id, Reason.TOKEN_OUTDATED)]

    async def disable(self, account_id: str) -> Sequence[Change]:
        """Ends every session and every mailed link too.  May be repeated: each time refuses all
        tokens anew."""
        async with self._database.transaction() as tx:
            if await lock(tx, account_id) is None:
                return []
            await _update(tx, account_id, "disabled = 1")
            await add_tombstone(tx, Ended.DISABLED, account_id)
            await revoke_links(tx, account_id)
            return await end_every(tx, account_id, "disabled")

    async def enable(self, account_id: str) -> None:
        async with self._database.transaction() as tx:
            await _update(tx, account_id, "disabled = 0")
            await remove_tombstone(tx, Ended.DISABLED, account_id)

    async def cookie_hashes(self, account_id: str) -> list[str]:
        """Of the session cookies that the account was given: what Redis holds stands there."""
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT t.hash FROM refresh_tokens t JOIN families f ON f.id = t.family_id"
                " WHERE f.account_id = :id AND f.transport = 'cookie'",
                id=account_id,
            )
        return [str(row["hash"]) for row in rows]

    async def end_all(self, account_id: str, why: str) -> Sequence[Change]:
        """Ends every session and every mailed link, and refuses every token given so far."""
        async with self._database.transaction() as tx:
            if await lock(tx, account_id) is None:
                return []
            await revoke_links(tx, account_id)
            return await end_every(tx, account_id, why)

    async def delete(self, account_id: str) -> Sequence[Change]:
        """Erase the account and all that belongs to it, mail to it and from it included; refuse
        every token that it was given."""
        ended = await erase_sessions_of_many_tokens(self._database, account_id)
        async with self._database.transaction() as tx:
            return [*ended, *await erase(tx, account_id)]

    async def change_password(
        self,
        account_id: str,
        password_hash: str,
        proof: Proof,
        *,
        notifications: SecurityNotifications | None = None,
    ) -> Replaced | Reason:
        """End every session but the caller's, and a pending change of the e-mail address; a
        Reason, as of `outdated`, where the proof is no longer good.  `notifications` tells the
        owner, if it commits.

        A link that resets the password stays good: who has stolen a session and the password
        must not be able to take it from the owner.
        """
        async with self._database.transaction() as tx:
            refusal = await outdated(tx, await locked(tx, account_id), proof)
            if refusal is not None:
                return refusal
            if notifications is not None:
                await notifications.password_changed(tx, account_id)
            epoch = await _put_password(tx, account_id, password_hash)
            changes = await end_others(tx, account_id, proof.session_id, "password")
            return Replaced(changes, epoch)

    async def renew_hash(self, account_id: str, checked: str, renewed: str) -> bool:
        """Stores the same password under this installation's cost; False where the hash is not
        `checked` any more: a password that was changed meanwhile stays."""
        async with self._database.transaction() as tx:
            updated = await tx.run(
                "UPDATE accounts SET password_hash = :renewed"
                " WHERE id = :id AND password_hash = :checked",
                id=account_id,
                checked=checked,
                renewed=renewed,
            )
        return updated == 1


async def add(
    tx: Transaction,
    email: str,
    password_hash: str | None,
    *,
    roles: Sequence[str] = (),
    verified: bool = False,
) -> Account:
    """Add an account.  Raises Conflict where the e-mail address has one."""
    account_id, key = str(uuid.uuid4()), require_normalized(email)
    check_roles(roles)
    now = int(await tx.now())
    epoch = first_epoch(now)
    await tx.run(
        "INSERT INTO accounts (id, email, email_key, email_verified, password_hash,"
        " password_epoch, created_at, updated_at)"
        " VALUES (:id, :email, :key, :verified, :hash, :epoch, :now, :now)",
        id=account_id,
        email=email.strip(),
        key=key,
        verified=int(verified),
        hash=password_hash,
        epoch=epoch,
        now=now,
    )
    for role in dict.fromkeys(roles):
        await _grant(tx, account_id, role)
    return Account(
        id=account_id,
        email=email.strip(),
        normalized_email=key,
        email_verified=verified,
        disabled=False,
        not_before=0,
        created_at=now,
        roles=tuple(sorted(set(roles))),
        password_hash=password_hash,
        password_epoch=epoch,
    )


async def mark_verified(tx: Transaction, account_id: str) -> None:
    """Its tokens are not outdated by this: the caller does what its case asks for."""
    await _update(tx, account_id, "email_verified = 1")


async def replace_password(
    tx: Transaction, account_id: str, password_hash: str
) -> Sequence[Change]:
    """By whoever reads the mail.  Ends every session, and every mailed link that could undo
    this."""
    await _put_password(tx, account_id, password_hash)
    await revoke_links(tx, account_id, Purpose.RESET, Purpose.VERIFY)
    return await end_every(tx, account_id, "password")


async def outdated(tx: Transaction, account: Account | None, proof: Proof) -> Reason | None:
    """Why a proof that was good when it was given is so no more; None where it is good.

    `account` is held by the transaction.  Checking a password takes its time: the password,
    the session and the account may have been ended meanwhile, by the owner or an operator.
    """
    if account is None or account.disabled:
        return Reason.TOKEN_REVOKED
    if not await is_live(tx, proof.session_id, account.id):
        return Reason.TOKEN_REVOKED
    if account.password_hash != proof.checked_hash:
        return Reason.INVALID_CREDENTIALS
    return None


async def _put_password(tx: Transaction, account_id: str, password_hash: str) -> int:
    """The epoch of the account from now on."""
    row = await tx.one(
        "UPDATE accounts SET password_hash = :hash, password_epoch = password_epoch + 1,"
        " updated_at = :now WHERE id = :id RETURNING password_epoch",
        hash=password_hash,
        now=int(await tx.now()),
        id=account_id,
    )
    epoch = int(row["password_epoch"]) if row else 0
    if row is not None:
        await add_tombstone(tx, Ended.PASSWORD, account_id, epoch)
    return epoch


async def _grant(tx: Transaction, account_id: str, role: str) -> bool:
    """Whether no operator had given it before."""
    inserted = await tx.run(
        "INSERT INTO account_roles (account_id, role, granted_at) VALUES (:id, :role, :now)"
        " ON CONFLICT (account_id, role) DO NOTHING",
        id=account_id,
        role=role,
        now=int(await tx.now()),
    )
    return inserted > 0


async def _update(tx: Transaction, account_id: str, assignment: str, **values: str | None) -> None:
    await tx.run(
        f"UPDATE accounts SET {assignment}, updated_at = :now WHERE id = :id",  # noqa: S608
        id=account_id,
        now=int(await tx.now()),
        **values,
    )
