"""What must be true of a database that came out of a backup.

Law: what was ended stays ended.  Sessions, API keys, mailed links and tokens of before the
restore end, whatever the backup says of them; the signing keys that it held are gone and new
ones stand in their place, as nobody knows who has read it; and every tombstone (see
`tombstones`) is laid upon what came back: deleted accounts and clients, disabled accounts,
replaced passwords and secrets, e-mail addresses that were left, roles that were taken away.  What
keeps somebody away stays, also where a provider gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.identity.keys import signing_keys
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.keys.signing_keys import KeyRow, NewSigningKey
from gateway.identity.password_epochs import epoch_past
from gateway.identity.revocations import record
from gateway.identity.sessions.restored_addresses import carry_addresses
from gateway.identity.tombstones import (
    Ended,
    drop_ended,
    kind_of,
    link_target,
    role_target,
)
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Row, Transaction

ANYBODY = "*"


@dataclass(frozen=True, slots=True)
class Present:
    """What the database held before the restore, as far as it counts after it."""

    newest_token_at: int
    accounts: dict[str, Row]
    """By id: e-mail, password and its epoch."""
    signing_kids: tuple[str, ...]
    chain_keys: tuple[bytes, ...]
    """What older secrets gave the chains of the audit log."""
    barring_roles: frozenset[str] = frozenset()
    """Those that only keep their bearer away (`access.barring_roles`), as far as that is known."""
    barred: tuple[Row, ...] = ()
    """Who had one of them by a provider: account, issuer, subject and role."""


@dataclass(frozen=True, slots=True)
class Carried:
    """How many things the backup held alive and the restore ended again."""

    deleted_accounts: int = 0
    disabled_accounts: int = 0
    passwords: int = 0
    emails: int = 0
    roles: int = 0
    attributes: int = 0
    tenants: int = 0
    links: int = 0
    """With somebody of a provider."""
    provider_roles: int = 0
    """That providers gave; each comes back with the next sign-in by its provider."""
    clients: int = 0
    client_secrets: int = 0
    passkeys: int = 0
    signing_keys: int = 0


async def newest_token_at(tx: Transaction) -> int:
    """The largest `iat` that was given, and never less than now.  What is read of a key has one
    too: a second after the last change of its holder (`personal_keys`, `api_keys`)."""
    row = await tx.one(
        "SELECT (SELECT MAX(last_used_at) FROM families) AS families,"
        " (SELECT MAX(newest_iat) FROM clients) AS clients,"
        " (SELECT MAX(created_at) FROM personal_keys) AS keys,"
        " (SELECT MAX(not_before) + 1 FROM accounts) AS accounts_changed,"
        " (SELECT MAX(not_before) + 1 FROM clients) AS clients_changed"
    )
    assert row is not None
    return max(int(await tx.now()), *(value or 0 for value in row.values()))


async def present(
    tx: Transaction, sealer: Sealer, barring_roles: frozenset[str] = frozenset()
) -> Present:
    """To be asked before the backup is read in, in the same transaction."""
    barred: list[Row] = []
    for role in sorted(barring_roles):
        barred += await tx.all(
            "SELECT i.account_id, i.issuer, i.subject, r.role FROM linked_roles r"
            " JOIN linked_identities i ON i.id = r.identity_id WHERE r.role = :role",
            role=role,
        )
    rows = await tx.all(
        "SELECT id, email, email_key, email_verified, password_hash, password_epoch FROM accounts"
    )
    return Present(
        newest_token_at=await newest_token_at(tx),
        accounts={str(row["id"]): row for row in rows},
        signing_kids=tuple(row.kid for row in await signing_keys.all_keys(tx) if _signs(row)),
        chain_keys=await signing_keys.readable_chain_keys(tx, sealer),
        barring_roles=barring_roles,
        barred=tuple(barred),
    )


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret of now, and the one that the backup was written under; mostly the same."""

    now: Sealer
    then: Sealer
    chain_key_then: bytes
    """What the latter gives the chains of the audit log."""


async def revoke_all(
    tx: Transaction, before: Present, secrets: Secrets, keys: tuple[NewSigningKey, NewSigningKey]
) -> tuple[Carried, Sequence[Change]]:
    """Revoke all that the backup brought back.  `keys` sign from now on: the active and the next
    one.  The changes are to be announced once this is committed."""
    now = int(await tx.now())
    newest_at = max(before.newest_token_at, await newest_token_at(tx))
    await _end_sessions(tx, now, newest_at)
    chain_keys = (
        *before.chain_keys,
        *await signing_keys.readable_chain_keys(tx, secrets.then),
        secrets.chain_key_then,
    )
    await signing_keys.retain_chain_keys(tx, secrets.now, tuple(dict.fromkeys(chain_keys)))
    retired, changes = await _replace_keys(tx, before, secrets.now, keys, now)
    carried = Carried(
        deleted_accounts=await _drop(tx, "accounts", "id", Ended.ACCOUNT),
        disabled_accounts=await _disable(tx, now),
        emails=await carry_addresses(tx, before.accounts, now),
        passwords=await _end_passwords(tx, before, now),
        roles=await _drop_roles(tx),
        attributes=await _drop_outdated(tx, Ended.ATTRIBUTE),
        tenants=await _drop_outdated(tx, Ended.TENANT),
        links=await _drop_links(tx),
        provider_roles=await _drop_provider_roles(tx, before),
        clients=await _drop(tx, "clients", "id", Ended.CLIENT),
        client_secrets=await _drop(tx, "client_secrets", "hash", Ended.CLIENT_SECRET),
        passkeys=await drop_ended(tx, "passkeys", "id", Ended.PASSKEY),
        signing_keys=retired,
    )
    # Device cookies of passwords that were changed after the backup are strangers still, and what
    # changes from now on is later than whatever changed in the database that was lost.
    await tx.run(
        "UPDATE accounts SET password_epoch ="
        " CASE WHEN password_epoch < :at THEN :at ELSE password_epoch END + 1",
        at=epoch_past(newest_at),
    )
    # No lease that the backup's Redis knew of says anything about this database, and what its
    # nodes had in common binds nobody now.
    await tx.run("UPDATE installation SET value = '' WHERE name = 'stream.incarnation'")
    await tx.run("DELETE FROM installation WHERE name = 'shared_settings'")
    await tx.run("DELETE FROM installation WHERE name LIKE 'stream.followed%'")
    everyone = await record(
        tx, ChangeKind.EVERYONE, ANYBODY, Reason.TOKEN_REVOKED, not_before=newest_at
    )
    return carried, [everyone, *changes]


async def _end_sessions(tx: Transaction, now: int, newest_at: int) -> None:
    await tx.run(
        "UPDATE families SET ended_at = :now, end_reason = 'restored' WHERE ended_at IS NULL",
        now=now,
    )
    for table in ("accounts", "clients"):
        await tx.run(
            f"UPDATE {table} SET not_before = :at WHERE not_before < :at",  # noqa: S608
            at=newest_at,
        )
    # Links and keys that were used or ended after the backup are good again in it.
    await tx.run("DELETE FROM mail_tokens")
    await tx.run("DELETE FROM registrations")
    await tx.run("DELETE FROM invitations")
    await tx.run(
        "UPDATE outbox SET state = 'dropped', finished_at = :now, password_hash = NULL"
        " WHERE state = 'waiting'",
        now=now,
    )
    for table in ("api_keys", "personal_keys"):
        await tx.run(
            f"UPDATE {table} SET ended_at = :now WHERE ended_at IS NULL",  # noqa: S608
            now=now,
        )


async def _replace_keys(
    tx: Transaction,
    before: Present,
    sealer: Sealer,
    keys: tuple[NewSigningKey, NewSigningKey],
    now: int,
) -> tuple[int, list[Change]]:
    """Every key that signed goes, also one that the backup knows nothing of: some worker may
    have it in memory.  A public key that was imported to verify stays, unless it was revoked."""
    await signing_keys.seal_under(tx, sealer)
    ended = await _targets(tx, Ended.SIGNING_KEY)
    gone = [
        row.kid
        for row in await signing_keys.all_keys(tx)
        if row.state is not KeyState.GONE and (_signs(row) or row.kid in ended)
    ]
    gone += [kid for kid in before.signing_kids if kid not in gone]
    changes = []
    for kid in gone:
        await signing_keys.drop(tx, kid, now)
        changes.append(await record(tx, ChangeKind.KEY, kid, Reason.TOKEN_REVOKED))
    active, following = keys
    await signing_keys.insert(tx, sealer, active, KeyState.ACTIVE, now)
    await signing_keys.insert(tx, sealer, following, KeyState.NEXT, now)
    return len(gone), [*changes, *[await signing_keys.moved(tx, key.kid) for key in keys]]


def _signs(row: KeyRow) -> bool:
    """Whether its tokens may be about, or are to come."""
    return row.state in (KeyState.NEXT, KeyState.ACTIVE, KeyState.RETIRING)


async def _targets(tx: Transaction, kind: Ended) -> frozenset[str]:
    rows = await tx.all("SELECT target FROM tombstones WHERE kind = :kind", kind=kind.value)
    return frozenset(str(row["target"]) for row in rows)


async def _drop(tx: Transaction, table: str, column: str, kind: Ended) -> int:
    return await tx.run(
        f"DELETE FROM {table} WHERE {column} IN"  # noqa: S608 (names of our own)
        " (SELECT target FROM tombstones WHERE kind = :kind)",
        kind=kind.value,
    )


async def _disable(tx: Transaction, now: int) -> int:
    return await tx.run(
        "UPDATE accounts SET disabled = 1, updated_at = :now WHERE disabled = 0 AND id IN"
        " (SELECT target FROM tombstones WHERE kind = :kind)",
        now=now,
        kind=Ended.DISABLED.value,
    )


async def _end_passwords(tx: Transaction, before: Present, now: int) -> int:
    """A password that was replaced since does not come back: the one that replaced it counts,
    where it is known, and else none does until the owner has set one by mail."""
    rows = await tx.all(
        "SELECT a.id, t.epoch FROM accounts a JOIN tombstones t ON t.target = a.id"
        " AND t.kind = :kind WHERE a.password_epoch < t.epoch",
        kind=Ended.PASSWORD.value,
    )
    for row in rows:
        account = before.accounts.get(row["id"])
        current = account is not None and account["password_epoch"] >= row["epoch"]
        await tx.run(
            "UPDATE accounts SET password_hash = :hash, password_epoch = :epoch,"
            " updated_at = :now WHERE id = :id",
            hash=account["password_hash"] if account is not None and current else None,
            epoch=row["epoch"],
            now=now,
            id=row["id"],
        )
    return len(rows)


_FACTS = {
    Ended.ATTRIBUTE: ("account_attributes", "name", "set_at"),
    Ended.TENANT: ("account_tenants", "tenant", "granted_at"),
}


async def _drop_outdated(tx: Transaction, kind: Ended) -> int:
    """What was given before its tombstone's time: what came after it is of the backup's own."""
    table, column, given_at = _FACTS[kind]
    return await tx.run(
        f"DELETE FROM {table} WHERE EXISTS (SELECT 1 FROM tombstones t"  # noqa: S608
        f" WHERE t.kind IN (:kind, :prefix || {table}.account_id)"
        f" AND t.target = {table}.account_id || ' ' || {table}.{column}"
        f" AND {table}.{given_at} < t.epoch)",
        kind=kind.value,
        prefix=kind_of(kind, ""),
    )


async def _drop_roles(tx: Transaction) -> int:
    dropped, revoked = 0, await _targets(tx, Ended.ROLE)
    for row in await tx.all("SELECT account_id, role FROM account_roles") if revoked else ():
        if role_target(row["account_id"], row["role"]) in revoked:
            dropped += await tx.run(
                "DELETE FROM account_roles WHERE account_id = :id AND role = :role",
                id=row["account_id"],
                role=row["role"],
            )
    return dropped


async def _drop_links(tx: Transaction) -> int:
    dropped, unlinked = 0, await _targets(tx, Ended.LINK)
    rows = "SELECT id, account_id, issuer, subject FROM linked_identities"
    for row in await tx.all(rows) if unlinked else ():
        if link_target(row["account_id"], row["issuer"], row["subject"]) in unlinked:
            dropped += await tx.run("DELETE FROM linked_identities WHERE id = :id", id=row["id"])
    return dropped


async def _drop_provider_roles(tx: Transaction, before: Present) -> int:
    """The next sign-in by the provider says which are left.  One that only keeps its bearer away
    stays until then, whether the backup has it or the database had it: without it the bearer could
    come in by a password, and part from the provider."""
    dropped = 0
    for row in await tx.all("SELECT DISTINCT role FROM linked_roles"):
        if row["role"] not in before.barring_roles:
            dropped += await tx.run("DELETE FROM linked_roles WHERE role = :role", role=row["role"])
    for row in before.barred:
        await tx.run(
            "INSERT INTO linked_roles (identity_id, role) SELECT id, CAST(:role AS TEXT)"
            " FROM linked_identities"
            " WHERE account_id = :account AND issuer = :issuer AND subject = :subject"
            " ON CONFLICT DO NOTHING",
            role=row["role"],
            account=row["account_id"],
            issuer=row["issuer"],
            subject=row["subject"],
        )
    return dropped
