"""The passkeys of accounts, as they rest in SQL.

Law: a credential belongs to one account, and each use of it is compared under the account's lock
with the use before.  A counter that did not grow says that the key may have been copied (WebAuthn,
section 6.1.1): such an answer is refused, as nobody can tell which of the two is the owner's.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.base64url import encoded
from gateway.identity.factors.passkey_records import CredentialKey, NewCredential, PasskeyAssertion
from gateway.identity.tombstones import Ended, add_tombstone
from gateway.stores.protocols import Database, Row, Transaction

PASSKEYS_MAX = 20
"""Of one account: each is a line of the list that its owner reads."""
_HANDLE_BYTES = 32


class PasskeyProblem(StrEnum):
    """Why a credential is not added, besides a session or an account that is over."""

    TOO_MANY = f"an account has at most {PASSKEYS_MAX} passkeys: remove one"
    REGISTERED = "is registered already"


@dataclass(frozen=True, slots=True)
class Passkey:
    id: str
    account_id: str
    key: CredentialKey = field(repr=False)
    name: str
    sign_count: int
    backup_eligible: bool
    backed_up: bool
    discoverable: bool | None
    transports: tuple[str, ...]
    aaguid: str
    created_at: int
    last_used_at: int | None

    @property
    def amr(self) -> tuple[str, ...]:
        """What its use says (RFC 8176): `swk` for a key that can be copied to other devices,
        `hwk` for one that stays on its own; a person was there (`user`)."""
        return ("swk" if self.backup_eligible else "hwk", "user")


@dataclass(frozen=True, slots=True)
class PasskeyUse:
    """A use that was good and is recorded."""

    account: Account
    passkey: Passkey
    """As it is after it."""
    backup_changed: bool


class UseRefusal(StrEnum):
    """Why an assertion whose signature is good is refused all the same."""

    REMOVED = "removed"
    COUNTER = "sign_counter"
    """It is not higher than at the use before."""
    ELIGIBILITY = "backup_eligibility"
    """A credential cannot change it (section 6.1.3)."""


class Passkeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, account_id: str) -> str | None:
        """What authenticators know the account by, made when it is first asked for; None without
        an account.  It is random: it tells whoever holds an authenticator nothing."""
        async with self._database.transaction() as tx:
            await tx.run(
                "UPDATE accounts SET passkey_handle = :handle"
                " WHERE id = :id AND passkey_handle IS NULL",
                id=account_id,
                handle=encoded(secrets.token_bytes(_HANDLE_BYTES)),
            )
            row = await tx.one("SELECT passkey_handle FROM accounts WHERE id = :id", id=account_id)
        return None if row is None else str(row["passkey_handle"])

    async def find_all(self, account_id: str) -> list[Passkey]:
        """Of the account, oldest first."""
        async with self._database.read_transaction() as tx:
            return await passkeys_of(tx, account_id)

    async def find(self, credential_id: str) -> tuple[Passkey, str] | None:
        """With the handle of its account."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT p.*, a.passkey_handle FROM passkeys p JOIN accounts a"
                " ON a.id = p.account_id WHERE p.credential_id = :credential",
                credential=credential_id,
            )
        return None if row is None else (_passkey(row), str(row["passkey_handle"]))

    async def record_use(
        self, passkey: Passkey, assertion: PasskeyAssertion
    ) -> PasskeyUse | UseRefusal:
        """Take a use whose signature is good, once, and remember its counter."""
        async with self._database.transaction() as tx:
            account = await locked(tx, passkey.account_id)
            row = await tx.one("SELECT * FROM passkeys WHERE id = :id", id=passkey.id)
            if account is None or row is None:
                return UseRefusal.REMOVED
            last = _passkey(row)
            if assertion.backup_eligible != last.backup_eligible:
                return UseRefusal.ELIGIBILITY
            # An authenticator without a counter says 0 for ever.
            if (assertion.sign_count or last.sign_count) and (
                assertion.sign_count <= last.sign_count
            ):
                return UseRefusal.COUNTER
            updated = await tx.one(
                "UPDATE passkeys SET sign_count = :count, backed_up = :backed_up,"
                " last_used_at = :now WHERE id = :id RETURNING *",
                id=passkey.id,
                count=assertion.sign_count,
                backed_up=int(assertion.backed_up),
                now=int(await tx.now()),
            )
            assert updated is not None
        return PasskeyUse(account, _passkey(updated), assertion.backed_up != last.backed_up)


async def passkeys_of(tx: Transaction, account_id: str) -> list[Passkey]:
    rows = await tx.all(
        "SELECT * FROM passkeys WHERE account_id = :id ORDER BY created_at, id", id=account_id
    )
    return [_passkey(row) for row in rows]


async def is_registered(tx: Transaction, passkey_id: str) -> bool:
    """Whether nobody has removed it while it was used."""
    return await tx.one("SELECT 1 FROM passkeys WHERE id = :id", id=passkey_id) is not None


async def remove_passkeys(tx: Transaction, account_id: str) -> int:
    """All of the account, for an operator who resets its factors; how many."""
    passkeys = await passkeys_of(tx, account_id)
    for passkey in passkeys:
        await delete_passkey(tx, passkey.id, account_id)
    return len(passkeys)


def described_passkey(passkey: Passkey) -> dict[str, Any]:
    """What its owner is told of it: no key, and no id that an authenticator would know."""
    return {
        "passkey_id": passkey.id,
        "name": passkey.name,
        "discoverable": passkey.discoverable,
        "backup_eligible": passkey.backup_eligible,
        "backed_up": passkey.backed_up,
        "transports": list(passkey.transports),
        "aaguid": passkey.aaguid,
        "created_at": passkey.created_at,
        "last_used_at": passkey.last_used_at,
    }


async def rename_passkey(
    tx: Transaction, passkey_id: str, account_id: str, name: str
) -> Passkey | None:
    """None where it is not the account's."""
    row = await tx.one(
        "UPDATE passkeys SET name = :name WHERE id = :id AND account_id = :account RETURNING *",
        id=passkey_id,
        account=account_id,
        name=name,
    )
    return None if row is None else _passkey(row)


async def delete_passkey(tx: Transaction, passkey_id: str, account_id: str) -> Passkey | None:
    """The same; no backup brings it back."""
    row = await tx.one(
        "DELETE FROM passkeys WHERE id = :id AND account_id = :account RETURNING *",
        id=passkey_id,
        account=account_id,
    )
    if row is None:
        return None
    await add_tombstone(tx, Ended.PASSKEY, passkey_id, of=account_id)
    return _passkey(row)


def new_passkey(account_id: str, name: str, new: NewCredential, now: int) -> Passkey:
    return Passkey(
        id="passkey-" + secrets.token_hex(10),
        account_id=account_id,
        key=CredentialKey(new.credential_id, new.public_key),
        name=name,
        sign_count=new.sign_count,
        backup_eligible=new.backup_eligible,
        backed_up=new.backed_up,
        discoverable=new.discoverable,
        transports=new.transports,
        aaguid=new.aaguid,
        created_at=now,
        last_used_at=None,
    )


async def insert_passkey(tx: Transaction, passkey: Passkey) -> None:
    """Raises Conflict where the credential has an account."""
    said = passkey.discoverable
    await tx.run(
        "INSERT INTO passkeys (id, account_id, credential_id, public_key, name, sign_count,"
        " backup_eligible, backed_up, discoverable, transports, aaguid, created_at) VALUES (:id,"
        " :account, :credential, :public_key, :name, :count, :eligible, :backed_up, :discoverable,"
        " :transports, :aaguid, :created)",
        id=passkey.id,
        account=passkey.account_id,
        credential=passkey.key.credential_id,
        public_key=passkey.key.public_key,
        name=passkey.name,
        count=passkey.sign_count,
        eligible=int(passkey.backup_eligible),
        backed_up=int(passkey.backed_up),
        discoverable=None if said is None else int(said),
        transports=" ".join(passkey.transports),
        aaguid=passkey.aaguid,
        created=passkey.created_at,
    )


def _passkey(row: Row) -> Passkey:
    said = row["discoverable"]
    return Passkey(
        id=str(row["id"]),
        account_id=str(row["account_id"]),
        key=CredentialKey(str(row["credential_id"]), str(row["public_key"])),
        name=str(row["name"]),
        sign_count=int(row["sign_count"]),
        backup_eligible=bool(row["backup_eligible"]),
        backed_up=bool(row["backed_up"]),
        discoverable=None if said is None else bool(said),
        transports=tuple(str(row["transports"]).split()),
        aaguid=str(row["aaguid"]),
        created_at=int(row["created_at"]),
        last_used_at=None if row["last_used_at"] is None else int(row["last_used_at"]),
    )
