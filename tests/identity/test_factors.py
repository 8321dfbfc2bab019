"""Second factors at rest, on both stores: at once, over a reseal, over a restore."""

from __future__ import annotations

import asyncio

import pyotp
import pytest

from gateway.access.factor_rule import FactorRule
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.data_export import export_data
from gateway.identity.factors.factor_kinds import FactorKind, factor_kinds, term_is_over
from gateway.identity.factors.passkey_records import NewCredential
from gateway.identity.factors.passkeys import Passkeys, insert_passkey, new_passkey
from gateway.identity.factors.recovery_codes import make_codes, recovery_code_of
from gateway.identity.factors.restored import carry_factors, held_factors
from gateway.identity.factors.totp import (
    STEP_S,
    TotpFactor,
    code_of,
    purge_enrolments,
    remove_totp,
    reseal_totp,
)
from gateway.identity.keys.encryption import Sealer
from gateway.identity.tombstones import Ended, add_tombstone
from gateway.stores.protocols import Database, StoreUnavailable

OLD, NEW = Sealer(b"o" * 32), Sealer(b"n" * 32)


@pytest.fixture
async def account(database: Database) -> Account:
    made = await Accounts(database).register("ann@factors.example", "hash")
    assert isinstance(made, Account)
    return made


async def enrolled(database: Database, account: Account, back_steps: int = 1) -> str:
    """The secret of a factor whose last code was taken `back_steps` ago."""
    factor = TotpFactor(database, OLD)
    async with database.transaction() as tx:
        drawn = await factor.begin(tx, account.id, "session")
    code = await code_now(database, drawn.secret)
    async with database.transaction() as tx:
        assert await factor.confirm(tx, account.id, "session", code) is not None
        await tx.run(
            "UPDATE totp_factors SET last_step = last_step - :steps WHERE account_id = :id",
            steps=back_steps,
            id=account.id,
        )
    return drawn.secret


async def code_now(database: Database, secret: str, steps: int = 0) -> str:
    async with database.read_transaction() as tx:
        return pyotp.TOTP(secret).generate_otp(int(await tx.now()) // STEP_S + steps)


async def test_of_a_hundred_who_give_one_code_at_once_one_is_let_in(
    database: Database, account: Account
) -> None:
    secret = await enrolled(database, account)
    code = await code_now(database, secret)
    factors = [TotpFactor(database, OLD) for _ in range(4)]
    proofs = await asyncio.gather(*(factors[n % 4].verify(account.id, code) for n in range(20)))
    assert len([proof for proof in proofs if proof is not None]) == 1


async def test_a_secret_rests_sealed_for_its_account(database: Database, account: Account) -> None:
    secret = await enrolled(database, account)
    other = await Accounts(database).register("bob@factors.example", "hash")
    assert isinstance(other, Account)
    async with database.transaction() as tx:
        row = await tx.one("SELECT * FROM totp_factors WHERE account_id = :id", id=account.id)
        assert row is not None
        assert secret not in str(dict(row))
        await tx.run(
            "UPDATE totp_factors SET account_id = :other WHERE id = :id",
            other=other.id,
            id=row["id"],
        )
    with pytest.raises(StoreUnavailable):
        await TotpFactor(database, OLD).verify(other.id, await code_now(database, secret))


async def test_a_reseal_lets_the_new_secret_open_every_factor(
    database: Database, account: Account
) -> None:
    secret = await enrolled(database, account)
    async with database.transaction() as tx:
        assert await reseal_totp(tx, OLD, NEW) >= 1
    code = await code_now(database, secret)
    with pytest.raises(StoreUnavailable):
        await TotpFactor(database, OLD).verify(account.id, code)
    assert await TotpFactor(database, NEW).verify(account.id, code) is not None


async def test_a_restore_brings_no_factor_back_that_was_removed(
    database: Database, account: Account
) -> None:
    await enrolled(database, account)
    async with database.transaction() as tx:
        await make_codes(tx, account.id)
        rows = await tx.all("SELECT * FROM totp_factors WHERE account_id = :id", id=account.id)
        codes = await tx.all("SELECT * FROM recovery_codes WHERE account_id = :id", id=account.id)
        await remove_totp(tx, account.id)
        await tx.run("DELETE FROM recovery_codes WHERE hash = :hash", hash=codes[0]["hash"])
        await add_tombstone(tx, Ended.RECOVERY_CODE, str(codes[0]["hash"]))
        held = await held_factors(tx)
        # The backup is read in: it has both.
        for table, row in (("totp_factors", rows[0]), ("recovery_codes", codes[0])):
            names = ", ".join(row)
            marks = ", ".join(f":{name}" for name in row)
            await tx.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **row)
        assert await carry_factors(tx, held, OLD, OLD) == 2
        assert await factor_kinds(tx, account.id) == ()
        left = await tx.all("SELECT hash FROM recovery_codes WHERE account_id = :id", id=account.id)
        assert len(left) == 9


async def test_a_passkey_that_was_added_since_a_backup_counts_on_after_its_restore(
    database: Database, account: Account
) -> None:
    passkeys = Passkeys(database)
    handle = await passkeys.handle(account.id)
    new = NewCredential(f"credential-{account.id}", "key", 7, True, True, True, (), "")
    async with database.transaction() as tx:
        added = new_passkey(account.id, "phone", new, 0)
        await insert_passkey(tx, added)
        held = await held_factors(tx)
        # The backup is read in: it knows the account, and has an older counter.
        await tx.run("UPDATE accounts SET passkey_handle = NULL WHERE id = :id", id=account.id)
        await tx.run("UPDATE passkeys SET sign_count = 3 WHERE id = :id", id=added.id)
        await carry_factors(tx, held, OLD, OLD)
    found = await passkeys.find(added.key.credential_id)
    assert found is not None
    assert (found[0].sign_count, found[1]) == (7, handle)


async def test_a_restore_takes_no_factor_away_that_was_enrolled_since(
    database: Database, account: Account
) -> None:
    secret = await enrolled(database, account, back_steps=5)
    async with database.transaction() as tx:
        await make_codes(tx, account.id)
        held = await held_factors(tx)
        await tx.run("DELETE FROM totp_factors WHERE account_id = :id", id=account.id)
        await tx.run("DELETE FROM recovery_codes WHERE account_id = :id", id=account.id)
        await carry_factors(tx, held, NEW, OLD)
        kinds = await factor_kinds(tx, account.id)
        row = await tx.one(
            "SELECT last_step FROM totp_factors WHERE account_id = :id", id=account.id
        )
    assert kinds == (FactorKind.TOTP, FactorKind.RECOVERY_CODE)
    assert row is not None
    factor, generator = TotpFactor(database, OLD), pyotp.TOTP(secret)
    # What may have been taken since the backup is not taken again.
    taken, following = (generator.generate_otp(int(row["last_step"]) + n) for n in (0, 1))
    assert await factor.verify(account.id, taken) is None
    assert await factor.verify(account.id, following) is not None


async def test_an_export_names_the_factor_and_not_its_secret(
    database: Database, account: Account
) -> None:
    secret = await enrolled(database, account)
    async with database.read_transaction() as tx:
        exported = await export_data(tx, account.id)
    assert exported is not None
    assert len(exported["totp"]) == 1
    assert secret not in str(exported)
    assert "sealed" not in str(exported)


async def test_factors_go_with_the_account(database: Database, account: Account) -> None:
    await enrolled(database, account)
    async with database.transaction() as tx:
        await make_codes(tx, account.id)
        await term_is_over(tx, account, FactorRule(everyone=True), 1)
    await Accounts(database).delete(account.id)
    async with database.read_transaction() as tx:
        for table in ("totp_factors", "recovery_codes", "factor_terms"):
            rows = await tx.all(f"SELECT 1 FROM {table} WHERE account_id = :id", id=account.id)
            assert rows == []


async def test_a_secret_that_nobody_confirmed_is_purged(
    database: Database, account: Account
) -> None:
    async with database.transaction() as tx:
        await TotpFactor(database, OLD).begin(tx, account.id, "session")
        await tx.run("UPDATE totp_factors SET created_at = 1 WHERE account_id = :id", id=account.id)
    await purge_enrolments(database)
    async with database.read_transaction() as tx:
        assert (
            await tx.all("SELECT 1 FROM totp_factors WHERE account_id = :id", id=account.id) == []
        )


async def test_a_term_begins_once(database: Database, account: Account) -> None:
    rule = FactorRule(everyone=True, within_s=100)
    async with database.transaction() as tx:
        over = [await term_is_over(tx, account, rule, now) for now in (1_000, 1_099, 1_100, 1_000)]
        assert over == [False, False, True, False]
        assert not await term_is_over(tx, account, FactorRule(frozenset({"admin"})), 9_999)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("123456", "123456"),
        (" 123 456\t", "123456"),
        ("१२३४५६", "123456"),
        ("12345", None),
        ("1234567", None),
        ("12345x", None),
        ("", None),
        (123456, None),
        (None, None),
    ],
)
def test_a_code_is_six_digits_however_they_are_typed(answer: object, code: str | None) -> None:
    assert code_of(answer) == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("012345-6789ab-cdefgh-jkmnpq", "0123456789abcdefghjkmnpq"),
        ("Oi2345 6789AB CDEFGH JKMNPQ", "0123456789abcdefghjkmnpq"),
        ("012345-6789ab-cdefgh-jkmnpu", None),
        ("0123", None),
        ("", None),
        (7, None),
    ],
)
def test_a_recovery_code_is_read_as_it_was_written_down(answer: object, code: str | None) -> None:
    assert recovery_code_of(answer) == code
