"""After a restore each account has the address that it had last."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.identity.sessions import restore
from gateway.identity.sessions.restore import Present
from gateway.identity.tombstones import Ended, add_tombstone, email_target
from gateway.stores.protocols import Database, Transaction
from tests.identity.test_restore import SECRETS, account, disowned, found

Addresses = Mapping[str, str]


async def held(tx: Transaction, now: Addresses) -> Present:
    """Read of a database that has these."""
    for name, email in now.items():
        await account(tx, name, email=email)
    before = await restore.present(tx, SECRETS.now)
    await tx.run("DELETE FROM accounts")
    return before


async def back(tx: Transaction, backup: Addresses, now: Addresses) -> None:
    """The rows of a backup, and the tombstones of what its accounts have left since."""
    for name, email in backup.items():
        await account(tx, name, email=email)
        if now.get(name) not in (None, email):
            await add_tombstone(tx, Ended.EMAIL, email_target(name, email))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "now",
    [
        {"u": "d@b", "v": "a@b", "w": "b@b"},
        {"u": "b@b", "v": "a@b", "w": "c@b"},
        {"u": "b@b", "v": "c@b", "w": "a@b"},
    ],
)
async def test_an_address_that_was_passed_on_is_its_last_owners(
    database: Database, now: Addresses, turned: bool
) -> None:
    """However the rows are in order: one stands where another is to stand."""
    backup = {"u": "a@b", "v": "b@b", "w": "c@b"}
    names = sorted(backup, reverse=turned)
    async with database.transaction() as tx:
        before = await held(tx, now)
        await back(tx, {name: backup[name] for name in names}, now)
        carried, _ = await disowned(tx, before)
        rows = {name: await found(tx, name) for name in names}
    assert {name: row["email"] for name, row in rows.items()} == now
    assert not any(row["disabled"] for row in rows.values())
    assert carried.emails == sum(now[name] != backup[name] for name in names)


async def test_whose_address_another_account_of_the_backup_has_is_for_an_operator_to_say(
    database: Database,
) -> None:
    now = {"u": "new@b"}
    async with database.transaction() as tx:
        before = await held(tx, now)
        await back(tx, {"u": "left@b", "v": "new@b"}, now)
        await disowned(tx, before)
        rows = [await found(tx, name) for name in ("u", "v")]
        keys = await tx.all("SELECT email_key FROM accounts ORDER BY id")
    assert [(row["email"], row["disabled"]) for row in rows] == [("left@b", 1), ("new@b", 0)]
    assert [row["email_key"] for row in keys] == ["left@b", "new@b"]


@pytest.mark.parametrize("moved", [False, True])
async def test_an_address_that_was_confirmed_since_is_confirmed(
    database: Database, moved: bool
) -> None:
    """A reset of one that is not takes the factors of before it off."""
    now = {"u": "new@b" if moved else "same@b", "v": "other@b"}
    async with database.transaction() as tx:
        for name, email in now.items():
            await account(tx, name, email=email)
        await tx.run("UPDATE accounts SET email_verified = 1 WHERE id = 'u'")
        before = await restore.present(tx, SECRETS.now)
        await tx.run("DELETE FROM accounts")
        await back(tx, {"u": "same@b", "v": "other@b"}, now)
        await disowned(tx, before)
        rows = await tx.all("SELECT id, email, email_verified FROM accounts ORDER BY id")
    assert [(row["email"], row["email_verified"]) for row in rows] == [
        (now["u"], 1),
        ("other@b", 0),
    ]
