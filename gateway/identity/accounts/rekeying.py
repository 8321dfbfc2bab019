"""Normalizes the stored e-mail addresses anew, as `email_address.normalize_email` does today.

Law: no account is merged and none is lost.  Where two accounts turn out to have one e-mail
address, one keeps it, and the other keeps its old normalized form: nobody signs in to it by its
e-mail address, commands find it by its `user_id`, and it is logged at every start until an
operator has decided.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.email_address import normalize_email
from gateway.stores.protocols import Database, Row, Transaction

_WAIT_S = 60.0
_SETTING = "address_keys"
_FORM = "idna-typed"
"""The host in its ASCII form, made of what was typed; before ("idna"), of its NFKC, and before
that it was case-folded like the name."""


@dataclass(frozen=True, slots=True)
class UnreachableAccount:
    """An account that nobody signs in to by its e-mail address."""

    user_id: str
    email: str
    kept_by: str | None
    """The `user_id` of the account that has the e-mail address; None where it is none any more."""

    def __str__(self) -> str:
        why = "it is no address any more"
        if self.kept_by is not None:
            why = f"it is the address of {self.kept_by} too, which keeps it"
        return (
            f"nobody signs in to {self.user_id} by its address {self.email}: {why};"
            " `gateway users show|delete USER_ID` find either, `gateway db upgrade` tries again"
        )


async def rekey(database: Database) -> list[UnreachableAccount]:
    """The accounts that could not be normalized anew.  Cheap once all could."""
    async with database.read_transaction() as tx:
        if await _is_done(tx):
            return []
    async with database.migration_transaction(_WAIT_S) as tx:
        if await _is_done(tx):
            return []
        # Only what is outside ASCII can have another normalized form than before.
        octets = "LENGTH(CAST(email AS BLOB))"
        if database.dialect == "postgresql":
            octets = "octet_length(email)"
        rows = await tx.all(
            "SELECT id, email, email_key FROM accounts"  # noqa: S608 (no words of a stranger)
            f" WHERE {octets} > LENGTH(email) ORDER BY email_verified DESC, created_at, id"
        )
        await _rekey_registrations(tx, octets)
        results = [await _rekey(tx, row) for row in rows]
        unreached = [account for account in results if account is not None]
        if not unreached:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :form)"
                " ON CONFLICT (name) DO UPDATE SET value = :form",
                name=_SETTING,
                form=_FORM,
            )
        return unreached


async def _rekey_registrations(tx: Transaction, octets: str) -> None:
    """Those that wait are asked for by their key: when their letter is sent again, and when the
    account of the address is deleted."""
    for row in await tx.all(
        "SELECT hash, email, email_key FROM registrations"  # noqa: S608 (no words of a stranger)
        f" WHERE {octets} > LENGTH(email)"
    ):
        key = normalize_email(str(row["email"]))
        if key is not None and key != row["email_key"]:
            await tx.run(
                "UPDATE registrations SET email_key = :key WHERE hash = :hash",
                key=key,
                hash=row["hash"],
            )


async def _is_done(tx: Transaction) -> bool:
    row = await tx.one("SELECT value FROM installation WHERE name = :name", name=_SETTING)
    return row is not None and row["value"] == _FORM


async def _rekey(tx: Transaction, row: Row) -> UnreachableAccount | None:
    before, email = str(row["email_key"]), str(row["email"])
    key = normalize_email(email)
    if key == before:
        return None
    if key is None:
        return UnreachableAccount(str(row["id"]), email, None)
    holder = await tx.one("SELECT id FROM accounts WHERE email_key = :key", key=key)
    if holder is not None:
        return UnreachableAccount(str(row["id"]), email, str(holder["id"]))
    await tx.run("UPDATE accounts SET email_key = :key WHERE id = :id", key=key, id=row["id"])
    # What was mailed stays valid: with another form it would not be.
    await tx.run(
        "UPDATE mail_tokens SET email_key = :key WHERE account_id = :id", key=key, id=row["id"]
    )
    for column in ("email_key", "recipient_key"):
        await tx.run(
            f"UPDATE outbox SET {column} = :key WHERE {column} = :before",  # noqa: S608
            key=key,
            before=before,
        )
    return None
