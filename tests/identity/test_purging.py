"""What is over is deleted a part at a time, however much of it there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.client_auth import purge_assertions
from gateway.identity.mail import registrations
from gateway.identity.mail.links import purge_links
from gateway.identity.purging import ROWS_AT_ONCE
from gateway.identity.sessions.purging import (
    erase_sealed,
    erase_sessions_of_many_tokens,
    purge_sessions,
)
from gateway.identity.sessions.sessions import end_one
from gateway.model import ChangeKind
from gateway.stores.protocols import Database, Transaction
from tests.identity.letters import Refusing, outbox

MANY = ROWS_AT_ONCE + 1
LONG_AGO, FAR_OFF = 1, 2**40
COUNTED = {
    "families": "1 = 1",
    "refresh_tokens": "1 = 1",
    "refresh_tokens sealed": "successor_sealed IS NOT NULL",
    "client_assertions": "1 = 1",
    "outbox": "1 = 1",
    "outbox waiting": "state = 'waiting'",
    "mail_tokens": "1 = 1",
    "registrations": "1 = 1",
}


async def counts(tx: Transaction) -> dict[str, int]:
    found = {}
    for name, where in COUNTED.items():
        row = await tx.one(f"SELECT COUNT(*) AS rows FROM {name.split()[0]} WHERE {where}")
        found[name] = int(row["rows"]) if row else 0
    return found


@asynccontextmanager
async def in_parts(database: Database) -> AsyncIterator[None]:
    """No transaction within takes more away than a part of what is counted."""
    begin, most = database.transaction, 0

    @asynccontextmanager
    async def counting() -> AsyncIterator[Transaction]:
        nonlocal most
        async with begin() as tx:
            before = await counts(tx)
            yield tx
            after = await counts(tx)
            most = max(most, *(before[name] - after[name] for name in COUNTED))

    database.transaction = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        database.transaction = begin  # type: ignore[method-assign]
    assert 0 < most <= ROWS_AT_ONCE


async def account(database: Database) -> str:
    made = await Accounts(database).register("ann@x.example", None)
    assert not isinstance(made, str)
    return made.id


async def session(database: Database, account_id: str, *, expires_at: int, sealed: bool) -> None:
    """One that was renewed many times."""
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
            " created_at, last_used_at, expires_at) VALUES ('s', :account, 'bearer', '', '', '',"
            " 1, 1, 1, :expires)",
            account=account_id,
            expires=expires_at,
        )
        await tx.many(
            "INSERT INTO refresh_tokens (hash, family_id, created_at, used_at, successor_sealed)"
            " VALUES (:hash, 's', 1, 1, :sealed)",
            [{"hash": f"t{n}", "sealed": "x" if sealed else None} for n in range(MANY)],
        )


async def left(database: Database, name: str) -> int:
    async with database.read_transaction() as tx:
        return (await counts(tx))[name]


async def test_a_session_goes_with_all_its_tokens(database: Database) -> None:
    await session(database, await account(database), expires_at=LONG_AGO, sealed=False)
    async with in_parts(database):
        await purge_sessions(database)
    assert await left(database, "refresh_tokens") == await left(database, "families") == 0


async def test_successors_are_erased(database: Database) -> None:
    await session(database, await account(database), expires_at=FAR_OFF, sealed=True)
    async with in_parts(database):
        await erase_sealed(database)
    assert await left(database, "refresh_tokens sealed") == 0
    assert await left(database, "refresh_tokens") == MANY


async def test_an_account_whose_sessions_were_renewed_many_times_can_be_erased(
    database: Database,
) -> None:
    account_id = await account(database)
    await session(database, account_id, expires_at=FAR_OFF, sealed=False)
    async with in_parts(database):
        changes = await Accounts(database).delete(account_id)
    assert {(change.kind, change.target) for change in changes} == {
        (ChangeKind.SUBJECT, account_id)
    }
    assert await Accounts(database).by_id(account_id) is None
    assert await left(database, "refresh_tokens") == await left(database, "families") == 0


async def test_a_session_that_has_ended_erases_none_of_an_account_of_many_tokens(
    database: Database,
) -> None:
    """Its owner may have ended it between the first look and this one."""
    account_id = await account(database)
    await session(database, account_id, expires_at=FAR_OFF, sealed=False)
    async with database.transaction() as tx:
        await end_one(tx, "s", "logout")
    assert await erase_sessions_of_many_tokens(database, account_id, by="s") == []
    assert await left(database, "refresh_tokens") == MANY


async def many_assertions(tx: Transaction) -> None:
    await tx.many(
        "INSERT INTO client_assertions (hash, expires_at) VALUES (:hash, 1)",
        [{"hash": f"a{n}"} for n in range(MANY)],
    )


async def many_mails(tx: Transaction, state: str, finished_at: int | None) -> None:
    await tx.many(
        "INSERT INTO outbox (id, template, email_key, fields, state, due_at, created_at,"
        " finished_at) VALUES (:id, 'reset', '', '{}', :state, 1, 1, :finished)",
        [{"id": f"m{n}", "state": state, "finished": finished_at} for n in range(MANY)],
    )


async def test_assertions_are_forgotten(database: Database) -> None:
    async with database.transaction() as tx:
        await many_assertions(tx)
    async with in_parts(database):
        await purge_assertions(database)
    assert await left(database, "client_assertions") == 0


async def test_sent_mail_is_erased(database: Database) -> None:
    async with database.transaction() as tx:
        await many_mails(tx, "sent", LONG_AGO)
    async with in_parts(database):
        await outbox(database, Refusing()).purge()
    assert await left(database, "outbox") == 0


async def test_mail_that_is_too_old_is_given_up(database: Database) -> None:
    async with database.transaction() as tx:
        await many_mails(tx, "waiting", None)
    async with in_parts(database):
        await outbox(database, Refusing()).purge()
    assert await left(database, "outbox waiting") == 0
    assert await left(database, "outbox") == MANY


async def links(tx: Transaction, account_id: str) -> None:
    await tx.many(
        "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at, expires_at)"
        " VALUES (:hash, :account, 'reset', 'ann@x.example', 1, 1)",
        [{"hash": f"l{n}", "account": account_id} for n in range(MANY)],
    )


async def waiting_registrations(tx: Transaction, _account_id: str) -> None:
    await tx.many(
        "INSERT INTO registrations (hash, mail_id, email, email_key, password_hash, requester,"
        " asked_ms, expires_at) VALUES (:hash, :hash, 'b@x.example', 'b@x.example', 'h', 'r', 1, 1)",
        [{"hash": f"r{n}"} for n in range(MANY)],
    )


@pytest.mark.parametrize(
    ("table", "fill", "purge"),
    [
        ("mail_tokens", links, purge_links),
        ("registrations", waiting_registrations, registrations.purge),
    ],
)
async def test_links_that_have_expired_are_deleted(
    database: Database,
    table: str,
    fill: Callable[[Transaction, str], Awaitable[None]],
    purge: Callable[[Database, int], Awaitable[None]],
) -> None:
    account_id = await account(database)
    async with database.transaction() as tx:
        await fill(tx, account_id)
    async with in_parts(database):
        await purge(database, LONG_AGO)
    assert await left(database, table) == 0
