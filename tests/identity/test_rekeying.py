"""Accounts of before, under the keys of today: none is merged, none is lost."""

from __future__ import annotations

import asyncio
import secrets

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.rekeying import UnreachableAccount, rekey
from gateway.stores.protocols import Database


async def of_before(
    database: Database, email: str, old_key: str, *, verified: bool = False, at: int = 0
) -> str:
    """An account as an older version wrote it; its id."""
    taken = f"{secrets.token_hex(6)}@x.example"
    late_account = await Accounts(database).register(taken, f"hash of {email}", roles=["reader"])
    assert isinstance(late_account, Account)
    async with database.transaction() as tx:
        await tx.run(
            "UPDATE accounts SET email = :email, email_key = :key, email_verified = :verified, created_at = :at"
            " WHERE id = :id",
            email=email,
            key=old_key,
            verified=int(verified),
            at=at,
            id=late_account.id,
        )
    return late_account.id


async def everything(database: Database) -> list[dict[str, object]]:
    async with database.read_transaction() as tx:
        return [dict(row) for row in await tx.all("SELECT * FROM accounts ORDER BY id")]


async def test_an_account_is_found_by_its_address_after_the_upgrade(database: Database) -> None:
    mine = await of_before(database, "Bob@Straße.de", "bob@strasse.de")
    plain = await of_before(database, "ann@a.example", "ann@a.example")
    accounts = Accounts(database)
    assert await accounts.by_email("Bob@Straße.de") is None
    assert await rekey(database) == []
    account = await accounts.by_email("bob@straße.de")
    assert account is not None
    assert (account.id, account.roles) == (mine, ("reader",))
    assert account.password_hash == "hash of Bob@Straße.de"
    untouched = await accounts.by_email("ann@a.example")
    assert untouched is not None
    assert untouched.id == plain
    assert await accounts.by_email("bob@strasse.de") is None


async def test_what_was_brought_to_an_older_form_is_brought_to_todays(
    database: Database,
) -> None:
    """Keys were once made of the host's NFKC, and of a name that could begin with a space."""
    host = await of_before(database, "bob@e\u03f2a.example", "bob@xn--ea-9lc.example")
    name = await of_before(database, "\u00b4bob@a.example", " \u0301bob@a.example")
    async with database.transaction() as tx:
        await tx.run("INSERT INTO installation (name, value) VALUES ('address_keys', 'idna')")
    assert await rekey(database) == []
    accounts = Accounts(database)
    for email, mine in (("bob@e\u03c3a.example", host), ("\u00b4bob@a.example", name)):
        account = await accounts.by_email(email)
        assert account is not None
        assert account.id == mine


async def test_its_mailed_links_stay_good(database: Database) -> None:
    mine = await of_before(database, "bob@straße.de", "bob@strasse.de")
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at,"
            " expires_at) VALUES ('h', :id, 'reset', 'bob@strasse.de', 0, 0)",
            id=mine,
        )
    await rekey(database)
    async with database.read_transaction() as tx:
        (row,) = await tx.all("SELECT email_key FROM mail_tokens")
    assert row["email_key"] == "bob@xn--strae-oqa.de"


async def test_a_registration_that_waits_is_found_by_its_address_after_the_upgrade(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO registrations (hash, mail_id, email, email_key, password_hash, requester,"
            " asked_ms, expires_at) VALUES ('h', 'm', 'Bob@straße.de', 'bob@strasse.de', 'p', 'r',"
            " 0, 0)"
        )
    await rekey(database)
    async with database.read_transaction() as tx:
        (row,) = await tx.all("SELECT email_key FROM registrations")
    assert row["email_key"] == "bob@xn--strae-oqa.de"


async def test_two_accounts_of_one_address_are_told_and_neither_is_touched(
    database: Database,
) -> None:
    ascii_one = await of_before(database, "bob@xn--bcher-kva.example", "bob@xn--bcher-kva.example")
    other = await of_before(database, "bob@bücher.example", "bob@bücher.example", verified=True)
    before = await everything(database)
    unreached = await rekey(database)
    assert unreached == [UnreachableAccount(other, "bob@bücher.example", ascii_one)]
    assert await everything(database) == before
    assert "bob@bücher.example" in str(unreached[0])
    assert await rekey(database) == unreached  # at every start


async def test_of_two_that_move_to_one_key_the_confirmed_one_has_it(database: Database) -> None:
    late = await of_before(database, "bob@bücher。example", "bob@bücher。example", at=1)
    owner = await of_before(
        database, "bob@bücher.example", "bob@bücher.example", verified=True, at=2
    )
    unreached = await rekey(database)
    assert [(account.user_id, account.kept_by) for account in unreached] == [(late, owner)]
    account = await Accounts(database).by_email("bob@bücher.example")
    assert account is not None
    assert account.id == owner


async def test_an_operators_decision_lets_the_other_have_its_address(database: Database) -> None:
    ascii_one = await of_before(database, "bob@xn--bcher-kva.example", "bob@xn--bcher-kva.example")
    other = await of_before(database, "bob@bücher.example", "bob@bücher.example")
    await rekey(database)
    await Accounts(database).delete(ascii_one)
    assert await rekey(database) == []
    account = await Accounts(database).by_email("bob@bücher.example")
    assert account is not None
    assert account.id == other


async def test_many_nodes_may_start_at_once(database: Database) -> None:
    await of_before(database, "bob@straße.de", "bob@strasse.de")
    assert await asyncio.gather(*(rekey(database) for _ in range(4))) == [[]] * 4
    assert await Accounts(database).by_email("bob@straße.de") is not None
