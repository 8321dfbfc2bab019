"""What the owner of an account ends leaves few rows while it is there, and one when it is gone; and
no backup brings any of it back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, replace_password
from gateway.identity.factors.passkey_records import NewCredential
from gateway.identity.factors.passkeys import insert_passkey, new_passkey, remove_passkeys
from gateway.identity.factors.recovery_codes import RecoveryCodeFactor, make_codes, remove_codes
from gateway.identity.factors.restored import HeldFactors, carry_factors
from gateway.identity.factors.totp import TotpFactor, remove_totp
from gateway.identity.keys.encryption import Sealer
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.tombstones import Ended, add_tombstone, role_target
from gateway.stores.protocols import Database, Row, Transaction
from tests.identity.test_both_stores import outbox
from tests.identity.test_restore import disowned

SEALER = Sealer(b"o" * 32)
LOST = HeldFactors({"totp_factors": (), "passkeys": (), "recovery_codes": ()}, ())
"""The database of now tells nothing: the tombstones alone keep what ended from coming back."""
TABLES = {"totp_factors": "id", "passkeys": "id", "recovery_codes": "hash"}


@pytest.fixture
async def account(database: Database) -> Account:
    made = await Accounts(database).register("ann@tombs.example", "hash")
    assert isinstance(made, Account)
    return made


async def tombstones(tx: Transaction) -> set[tuple[str, str]]:
    rows = await tx.all("SELECT kind, target FROM tombstones")
    return {(str(row["kind"]), str(row["target"])) for row in rows}


async def enrolled(database: Database, tx: Transaction, account: Account) -> None:
    """An app, a passkey and recovery codes."""
    drawn = await TotpFactor(database, SEALER).begin(tx, account.id, "session")
    await tx.run("UPDATE totp_factors SET confirmed_at = 1 WHERE id = :id", id=drawn.id)
    new = NewCredential(f"credential-{drawn.id}", "key", 7, True, True, True, (), "")
    await insert_passkey(tx, new_passkey(account.id, "phone", new, 0))
    await make_codes(tx, account.id)


async def backed_up(tx: Transaction, account: Account) -> dict[str, Sequence[Row]]:
    return {
        table: await tx.all(f"SELECT * FROM {table} WHERE account_id = :id", id=account.id)
        for table in TABLES
    }


async def read_in(tx: Transaction, backup: dict[str, Sequence[Row]]) -> None:
    """The backup takes the place of what there is of the account."""
    for table, rows in backup.items():
        account_id = rows[0]["account_id"]
        await tx.run(f"DELETE FROM {table} WHERE account_id = :id", id=account_id)
        for row in rows:
            names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
            await tx.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **row)


async def restored(tx: Transaction, account: Account) -> dict[str, int]:
    """How many the account has of each once the tombstones were laid upon the backup."""
    await disowned(tx)
    await carry_factors(tx, LOST, SEALER, SEALER)
    return {table: len(rows) for table, rows in (await backed_up(tx, account)).items()}


async def test_all_codes_that_an_account_has_replaced_leave_one_row(
    database: Database, account: Account
) -> None:
    async with database.transaction() as tx:
        before = await tombstones(tx)
        for _ in range(8):
            await make_codes(tx, account.id)
        assert len(await tombstones(tx) - before) == 1


async def test_a_code_that_was_used_leaves_none_once_the_others_are_replaced(
    database: Database, account: Account
) -> None:
    factor = RecoveryCodeFactor(database, SecurityNotifications(database, outbox(database)))
    async with database.transaction() as tx:
        before = await tombstones(tx)
        codes = await make_codes(tx, account.id)
        backup = await backed_up(tx, account)
    for code in codes:
        assert await factor.verify(account.id, code) is not None
    async with database.transaction() as tx:
        assert len(await tombstones(tx) - before) == 10
        await make_codes(tx, account.id)
        assert len(await tombstones(tx) - before) == 1
        await read_in(tx, {"recovery_codes": backup["recovery_codes"]})
        assert (await restored(tx, account))["recovery_codes"] == 0


async def test_a_stranger_who_erases_the_account_leaves_one_row(
    database: Database, account: Account
) -> None:
    """And could do so all day, with one account after the other."""
    facts = AccountFacts(database)
    factor = RecoveryCodeFactor(database, SecurityNotifications(database, outbox(database)))
    async with database.transaction() as tx:
        before = await tombstones(tx)
        for _ in range(3):
            await enrolled(database, tx, account)
            await remove_totp(tx, account.id)
            await remove_passkeys(tx, account.id)
        codes = await make_codes(tx, account.id)
    assert await factor.verify(account.id, codes[0]) is not None
    for value in ("red", "blue"):
        await facts.put_attributes(account.id, dict.fromkeys(("team", "floor"), value))
    async with database.read_transaction() as tx:
        assert len(await tombstones(tx) - before) > 8
    await Accounts(database).disable(account.id)
    async with database.transaction() as tx:
        await replace_password(tx, account.id, "other")
    await Accounts(database).delete(account.id)
    async with database.read_transaction() as tx:
        assert await tombstones(tx) - before == {("account", account.id)}


async def test_an_account_that_is_erased_takes_no_row_of_another_along(
    database: Database, account: Account
) -> None:
    """Nor one whose id begins like its own."""
    async with database.transaction() as tx:
        before = await tombstones(tx)
        for of in (account.id + "0", account.id[:-1]):
            await add_tombstone(tx, Ended.PASSKEY, "p", of=of)
        await add_tombstone(tx, Ended.PASSKEY, account.id)
    await Accounts(database).delete(account.id)
    async with database.read_transaction() as tx:
        assert len(await tombstones(tx) - before) == 4


async def test_no_factor_that_was_replaced_within_a_second_comes_back(
    database: Database, account: Account
) -> None:
    async with database.transaction() as tx:
        await enrolled(database, tx, account)
        backup = await backed_up(tx, account)
        await make_codes(tx, account.id)
        newer = await backed_up(tx, account)
        await remove_totp(tx, account.id)
        await remove_passkeys(tx, account.id)
        await read_in(tx, backup)
        assert set((await restored(tx, account)).values()) == {0}
        # The codes that took their place are none that were replaced.
        await read_in(tx, newer)
        assert (await restored(tx, account))["recovery_codes"] == 10


async def test_codes_that_were_removed_do_not_come_back_and_later_ones_do(
    database: Database, account: Account
) -> None:
    async with database.transaction() as tx:
        await enrolled(database, tx, account)
        backup = await backed_up(tx, account)
        await remove_codes(tx, account.id)
        await make_codes(tx, account.id)
        newer = await backed_up(tx, account)
        for codes, left in ((backup, 0), (newer, 10)):
            await read_in(tx, codes)
            assert (await restored(tx, account))["recovery_codes"] == left


async def test_codes_of_before_a_clock_went_back_do_not_come_back(
    database: Database, account: Account
) -> None:
    async with database.transaction() as tx:
        await enrolled(database, tx, account)
        await tx.run("UPDATE recovery_codes SET created_at = created_at + 3600")
        backup = await backed_up(tx, account)
        await make_codes(tx, account.id)
        await read_in(tx, backup)
        assert (await restored(tx, account))["recovery_codes"] == 0


async def test_no_code_is_good_again_where_all_were_used_and_the_clock_went_back(
    database: Database, account: Account
) -> None:
    factor = RecoveryCodeFactor(database, SecurityNotifications(database, outbox(database)))
    async with database.transaction() as tx:
        codes = await make_codes(tx, account.id)
        await tx.run("UPDATE recovery_codes SET created_at = created_at + 3600")
        backup = await backed_up(tx, account)
    for code in codes:
        assert await factor.verify(account.id, code) is not None
    async with database.transaction() as tx:
        await make_codes(tx, account.id)
        await read_in(tx, {"recovery_codes": backup["recovery_codes"]})
        assert (await restored(tx, account))["recovery_codes"] == 0


async def test_tombstones_that_an_earlier_version_wrote_hold(
    database: Database, account: Account
) -> None:
    """It may also be about, on another node, while this one is rolled out."""
    kinds = (Ended.FACTOR, Ended.PASSKEY, Ended.RECOVERY_CODE)
    async with database.transaction() as tx:
        await enrolled(database, tx, account)
        backup = await backed_up(tx, account)
        for kind, (table, column) in zip(kinds, TABLES.items(), strict=True):
            for row in backup[table]:
                await add_tombstone(tx, kind, str(row[column]))
        assert set((await restored(tx, account)).values()) == {0}


async def test_an_attribute_that_an_earlier_version_ended_stays_ended(
    database: Database, account: Account
) -> None:
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO account_attributes (account_id, name, value, set_by, set_at)"
            " VALUES (:id, 'team', '\"red\"', 'person', 1)",
            id=account.id,
        )
        await add_tombstone(tx, Ended.ATTRIBUTE, role_target(account.id, "team"), 2)
        carried, _ = await disowned(tx)
    assert carried.attributes == 1
