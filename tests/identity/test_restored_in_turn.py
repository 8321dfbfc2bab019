"""An older backup and then a newer one, into a database that knew neither: what ended between the
two stays ended, though the database held it alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, replace_password
from gateway.identity.factors.passkeys import remove_passkeys
from gateway.identity.factors.recovery_codes import RecoveryCodeFactor, make_codes
from gateway.identity.factors.restored import carry_factors, held_factors
from gateway.identity.factors.totp import TotpFactor, remove_totp
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.sessions.restore import present
from gateway.identity.tombstones import ALL, Ended, add_tombstone, email_target, remove_tombstone
from gateway.stores import backup
from gateway.stores.protocols import Database
from tests.identity.test_both_stores import outbox
from tests.identity.test_restore import SECRETS, disowned
from tests.identity.test_tombstones_of_accounts import SEALER, backed_up, enrolled

KEY = b"k" * 32

Work = Callable[[], Awaitable[None]]


@pytest.fixture
async def account(database: Database) -> Account:
    made = await Accounts(database).register("ann@turns.example", "hash")
    assert isinstance(made, Account)
    return made


async def lost(database: Database) -> None:
    async with database.transaction() as tx:
        for table in reversed(backup.tables()):
            await tx.run(f"DELETE FROM {table.name}")


async def restored(database: Database, file: Path) -> None:
    with file.open("rb") as opened:
        await backup.check(database, opened, KEY)
        async with database.migration_transaction(60) as tx:
            before, held = await present(tx, SECRETS.now), await held_factors(tx)
            await backup.replace(tx, opened, KEY)
            await disowned(tx, before)
            await carry_factors(tx, held, SEALER, SEALER)


@pytest.mark.parametrize("earlier_version", [False, True])
async def test_no_factor_that_was_removed_between_two_backups_comes_back(
    database: Database, account: Account, tmp_path: Path, earlier_version: bool
) -> None:
    """Nor does the one that the owner has now go with it."""
    older, newer, newest = (tmp_path / name for name in ("older", "newer", "newest"))
    codes = RecoveryCodeFactor(database, SecurityNotifications(database, outbox(database)))
    async with database.transaction() as tx:
        await enrolled(database, tx, account)
        first = await make_codes(tx, account.id)
    await backup.write(database, older, KEY)
    assert await codes.verify(account.id, first[0]) is not None
    async with database.transaction() as tx:
        await remove_passkeys(tx, account.id)
        await remove_totp(tx, account.id)
        drawn = await TotpFactor(database, SEALER).begin(tx, account.id, "session")
        await tx.run("UPDATE totp_factors SET confirmed_at = 1 WHERE id = :id", id=drawn.id)
        if earlier_version:
            for kind in (Ended.FACTOR, Ended.PASSKEY, Ended.RECOVERY_CODE):
                await tx.run(
                    "UPDATE tombstones SET kind = :kind WHERE kind LIKE :of AND target <> :all",
                    kind=kind.value,
                    of=f"{kind.value} %",
                    all=ALL,
                )
    await backup.write(database, newer, KEY)
    async with database.transaction() as tx:
        await make_codes(tx, account.id)
    await backup.write(database, newest, KEY)
    for file, left in ((newer, 9), (newest, 10)):
        await lost(database)
        await restored(database, older)
        await restored(database, file)
        async with database.read_transaction() as tx:
            rows = await backed_up(tx, account)
        assert [row["id"] for row in rows["totp_factors"]] == [drawn.id]
        assert rows["passkeys"] == []
        assert len(rows["recovery_codes"]) == left
        assert await codes.verify(account.id, first[0]) is None


class Mover:
    """Moves the account as its owner does, one second after the other."""

    def __init__(self, database: Database, account: Account) -> None:
        self._database, self._id, self._key = database, account.id, account.normalized_email
        self._moved_at = 0

    async def move(self, key: str) -> None:
        left, self._key = email_target(self._id, self._key), key
        self._moved_at += 1
        async with self._database.transaction() as tx:
            await tx.run(
                "UPDATE accounts SET email = :key, email_key = :key WHERE id = :id",
                key=key,
                id=self._id,
            )
            await add_tombstone(tx, Ended.EMAIL, left)
            await remove_tombstone(tx, Ended.EMAIL, email_target(self._id, key))
            await tx.run(
                "UPDATE tombstones SET ended_at = :at WHERE target = :left",
                at=self._moved_at,
                left=left,
            )


async def address(database: Database, account: Account) -> tuple[str, bool]:
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT email, disabled FROM accounts WHERE id = :id", id=account.id)
    assert row is not None
    return str(row["email"]), bool(row["disabled"])


async def test_what_ends_again_has_the_time_of_its_last_end(database: Database) -> None:
    async with database.transaction() as tx:
        await add_tombstone(tx, Ended.EMAIL, "t")
        await tx.run("UPDATE tombstones SET ended_at = 1 WHERE target = 't'")
        await add_tombstone(tx, Ended.EMAIL, "t")
        row = await tx.one("SELECT ended_at FROM tombstones WHERE target = 't'")
    assert row is not None
    assert row["ended_at"] > 1


async def test_of_two_addresses_that_were_left_the_account_has_the_one_that_was_left_first(
    database: Database, account: Account, tmp_path: Path
) -> None:
    """Whoever has the mailbox that its owner left last would be sent its links."""
    home, away = account.normalized_email, "away@turns.example"
    older, between, newer = (tmp_path / name for name in ("older", "between", "newer"))
    mover = Mover(database, account)
    await mover.move(away)
    await backup.write(database, older, KEY)
    await mover.move(home)
    await backup.write(database, between, KEY)
    await lost(database)
    for file, expected in ((older, away), (between, home), (between, home), (older, home)):
        await restored(database, file)
        assert await address(database, account) == (expected, False)
    await mover.move(away)
    await backup.write(database, newer, KEY)
    await lost(database)
    # The last time that an address was left counts, whichever backup came first.
    for file, expected in ((older, away), (newer, away), (between, away)):
        await restored(database, file)
        assert await address(database, account) == (expected, False)


async def in_turn(database: Database, older: Path, newer: Path, meanwhile: Work) -> None:
    """`meanwhile`: what the owner does in the database that has the older one."""
    await lost(database)
    await restored(database, older)
    await meanwhile()
    await restored(database, newer)


async def test_a_password_that_was_set_behind_both_backups_counts(
    database: Database, account: Account, tmp_path: Path
) -> None:
    """However often it was changed between the two."""
    older, newer = tmp_path / "older", tmp_path / "newer"

    async def change(to: str) -> None:
        async with database.transaction() as tx:
            await replace_password(tx, account.id, to)

    await backup.write(database, older, KEY)
    for number in range(5):
        await change(f"between-{number}")
    await backup.write(database, newer, KEY)
    await in_turn(database, older, newer, lambda: change("owner's"))
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT password_hash FROM accounts WHERE id = :id", id=account.id)
    assert row == {"password_hash": "owner's"}


async def test_no_restore_leads_to_an_epoch_that_the_lost_database_had(
    database: Database, account: Account, tmp_path: Path
) -> None:
    """Device cookies of a password that was set there would be known again."""
    older = tmp_path / "older"
    accounts, known = Accounts(database), []
    await backup.write(database, older, KEY)
    for number in range(5):
        async with database.transaction() as tx:
            await replace_password(tx, account.id, f"between-{number}")
        known.append(await accounts.password_epoch(account.normalized_email))
    await lost(database)
    await restored(database, older)
    epoch = await accounts.password_epoch(account.normalized_email)
    assert epoch is not None
    assert all(one is not None and one + 1_000_000 < epoch for one in known)


@pytest.mark.parametrize("moves", [False, True])
async def test_an_address_that_was_set_behind_both_backups_counts(
    database: Database, account: Account, tmp_path: Path, moves: bool
) -> None:
    """The one that the newer backup has was never known here."""
    older, newer = tmp_path / "older", tmp_path / "newer"
    there, here = Mover(database, account), Mover(database, account)
    await backup.write(database, older, KEY)
    await there.move("between@turns.example")
    await backup.write(database, newer, KEY)

    async def move() -> None:
        if moves:
            await here.move("now@turns.example")

    await in_turn(database, older, newer, move)
    expected = "now@turns.example" if moves else "between@turns.example"
    assert await address(database, account) == (expected, False)


async def test_recovery_codes_that_were_made_behind_both_backups_count_alone(
    database: Database, account: Account, tmp_path: Path
) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    sheets: list[Sequence[str]] = []

    async def draw() -> None:
        async with database.transaction() as tx:
            sheets.append(await make_codes(tx, account.id))
            # Another second of the clock.
            await tx.run("UPDATE recovery_codes SET created_at = created_at + :at", at=len(sheets))

    await backup.write(database, older, KEY)
    await draw()
    await backup.write(database, newer, KEY)
    await in_turn(database, older, newer, draw)
    codes = RecoveryCodeFactor(database, SecurityNotifications(database, outbox(database)))
    assert await codes.verify(account.id, sheets[0][0]) is None
    assert await codes.verify(account.id, sheets[1][0]) is not None
