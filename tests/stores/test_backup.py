"""One file holds all data, and puts it into either SQL store without loss."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.identity.clients.client_auth import Assertion, ClientAuthenticator, UnknownClient
from gateway.identity.clients.clients import Client, Clients
from gateway.identity.keys.jwk import Alg, generate, verifying
from gateway.identity.tombstones import Ended, add_tombstone
from gateway.stores import backup
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from tests.databases import Hands, write_schema

KEY = b"k" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
async def other(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Another database, of each kind."""
    url = f"sqlite:///{tmp_path}/other.db"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("other_postgres_url"))
    await write_schema(url)
    database = open_database(url)
    yield database
    await database.close()


async def contents(database: Database) -> dict[str, list[dict[str, Any]]]:
    async with database.read_transaction() as tx:
        return {
            table.name: [
                dict(row)
                for row in await tx.all(
                    f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}"
                )
            ]
            for table in backup.tables()
        }


async def fill(database: Database, accounts: int = 3) -> None:
    async with database.transaction() as tx:
        await tx.many(
            "INSERT INTO accounts (id, email, email_key, password_hash, created_at, updated_at)"
            " VALUES (:id, :email, :email, :hash, 5, 6)",
            [
                {"id": f"u{i:05}", "email": f"ü{i}@example.com", "hash": None if i % 2 else "x'\n"}
                for i in range(accounts)
            ],
        )
        await tx.run("INSERT INTO account_roles VALUES ('u00000', 'admin', 7)")
        await tx.run(
            "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
            " created_at, last_used_at, expires_at) VALUES ('f', 'u00000', 'bearer', 'a', 'b',"
            " 'pwd', 1, 1, 9007199254740993, 2)"
        )


async def restore(database: Database, file: Path) -> int:
    with file.open("rb") as opened:
        await backup.check(database, opened, KEY)
        async with database.migration_transaction(60) as tx:
            return await backup.replace(tx, opened, KEY)


async def test_everything_arrives_in_the_other_store_as_it_was(
    database: Database, other: Database, tmp_path: Path
) -> None:
    await fill(database)
    rows = await backup.write(database, tmp_path / "backup", KEY)
    assert await restore(other, tmp_path / "backup") == rows
    assert await contents(other) == await contents(database)


async def test_more_rows_than_a_page_arrive_too(
    sqlite_database: Database, other: Database, tmp_path: Path
) -> None:
    await fill(sqlite_database, 2 * backup.PAGE_ROWS + 1)
    await backup.write(sqlite_database, tmp_path / "backup", KEY)
    await restore(other, tmp_path / "backup")
    assert await contents(other) == await contents(sqlite_database)


async def test_what_was_used_up_since_the_backup_is_not_good_again(
    database: Database, tmp_path: Path
) -> None:
    """A client's assertion is good once, and its thief has an hour."""
    clock = Hands(at=time.time())

    async def authenticated(proof: Assertion) -> Client | UnknownClient:
        """By a worker that remembers none of them."""
        clients = ClientAuthenticator(database, clock, ["https://gate.example"])
        return await clients.authenticate(proof, nullcontext())

    key = generate(Alg.EDDSA)
    client_id = await Clients(database).create_by_key("billing", [], [verifying(key.public_key())])
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": "https://gate.example",
        "exp": int(clock.at) + 3_600,
        "jti": "once",
    }
    used = Assertion(jwt.encode(claims, key, "EdDSA"))
    await backup.write(database, tmp_path / "backup", KEY)
    assert isinstance(await authenticated(used), Client)
    await restore(database, tmp_path / "backup")
    assert isinstance(await authenticated(used), UnknownClient)
    fresh = Assertion(jwt.encode({**claims, "jti": "another"}, key, "EdDSA"))
    assert isinstance(await authenticated(fresh), Client)


async def test_what_was_there_before_is_gone_but_what_was_revoked_stays(
    database: Database, tmp_path: Path
) -> None:
    await backup.write(database, tmp_path / "empty", KEY)
    await fill(database)
    async with database.transaction() as tx:
        await tx.run("INSERT INTO changes VALUES ('c', 'key', 'k', 1, 'token_revoked', 1, 1)")
    await restore(database, tmp_path / "empty")
    left = {name for name, rows in (await contents(database)).items() if rows}
    assert left == {"changes"}


@pytest.mark.parametrize(("of_backup", "of_now"), [(3, 5), (5, 3)])
async def test_of_a_tombstone_that_both_have_the_higher_epoch_and_the_later_end_count(
    sqlite_database: Database, other: Database, tmp_path: Path, of_backup: int, of_now: int
) -> None:
    for database, epoch in ((sqlite_database, of_backup), (other, of_now)):
        async with database.transaction() as tx:
            await add_tombstone(tx, Ended.PASSWORD, "u", epoch)
            await tx.run("UPDATE tombstones SET ended_at = :at", at=10 - epoch)
    file = tmp_path / "backup"
    await backup.write(sqlite_database, file, KEY)
    await restore(other, file)
    async with other.read_transaction() as tx:
        row = await tx.one("SELECT epoch, ended_at FROM tombstones WHERE target = 'u'")
    assert row == {"epoch": 5, "ended_at": 7}


async def test_the_file_is_its_owners_alone(sqlite_database: Database, tmp_path: Path) -> None:
    await backup.write(sqlite_database, tmp_path / "backup", KEY)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda lines: lines[:-1], "cut short"),
        (lambda lines: lines[:2] + lines[3:], "changed"),
        (lambda lines: [line.replace(b"admin", b"adm1n") for line in lines], "changed"),
        (lambda lines: [*lines, lines[1]], "follows the end"),
        (lambda lines: [lines[1]], "no backup"),
        (lambda lines: [b"nonsense\n"], "no backup"),
        (lambda lines: [lines[0], b"nonsense\n"], "not a line"),
        (lambda lines: [lines[0].replace(b"0001_", b"0999_")], "newer version"),
        (lambda lines: [lines[0], b'["accounts; DROP TABLE x", {}]\n'], "unknown table"),
        (lambda lines: [lines[0], b'["accounts", {"id) --": 1}]\n'], "not a line"),
        (lambda lines: [], "cut short"),
    ],
)
async def test_a_file_that_is_not_whole_is_refused_before_anything_is_touched(
    sqlite_database: Database, tmp_path: Path, spoil: Any, told: str
) -> None:
    await fill(sqlite_database)
    file = tmp_path / "backup"
    await backup.write(sqlite_database, file, KEY)
    file.write_bytes(b"".join(spoil(file.read_bytes().splitlines(keepends=True))))
    with file.open("rb") as opened, pytest.raises(backup.BackupRefused, match=told):
        await backup.check(sqlite_database, opened, KEY)


async def test_a_file_that_is_edited_and_summed_anew_is_refused(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """Whoever keeps the backup has no key: a plain sum could be made by anybody."""
    await fill(sqlite_database)
    file = tmp_path / "backup"
    await backup.write(sqlite_database, file, b"somebody else's key, of 32 bytes")
    with file.open("rb") as opened, pytest.raises(backup.BackupRefused, match="another"):
        await backup.check(sqlite_database, opened, KEY)


async def test_a_file_that_is_exchanged_after_it_was_checked_changes_nothing(
    sqlite_database: Database, tmp_path: Path
) -> None:
    await fill(sqlite_database)
    file = tmp_path / "backup"
    await backup.write(sqlite_database, file, KEY)
    before = await contents(sqlite_database)
    with file.open("rb") as opened:
        await backup.check(sqlite_database, opened, KEY)
        file.write_bytes(file.read_bytes().replace(b"u00001", b"u66666"))
        with pytest.raises(backup.BackupRefused, match="changed"):
            async with sqlite_database.migration_transaction(60) as tx:
                await backup.replace(tx, opened, KEY)
    assert await contents(sqlite_database) == before


async def test_a_link_that_somebody_laid_is_neither_followed_nor_written_through(
    sqlite_database: Database, tmp_path: Path
) -> None:
    target, file = tmp_path / "target", tmp_path / "backup"
    target.write_text("precious")
    file.symlink_to(target)
    await backup.write(sqlite_database, file, KEY)
    assert target.read_text() == "precious"
    assert not file.is_symlink()
