"""The passkeys of accounts, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.factors.ceremonies import NewCredential, PasskeyAssertion
from gateway.identity.factors.passkeys import (
    PASSKEYS_MAX,
    Passkey,
    PasskeyProblem,
    Passkeys,
    PasskeyUse,
    RemovedPasskey,
    UseRefusal,
    has_passkey,
    remove_passkeys,
)
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Principal, Reason
from gateway.stores.protocols import Database
from tests.identity.test_restore import disowned

SOURCE = SignInSource("agent", "192.0.2.1")
USE = PasskeyAssertion(sign_count=7, backup_eligible=False, backed_up=False, user_verified=True)


def new() -> NewCredential:
    return NewCredential(
        credential_id=secrets.token_urlsafe(32),
        public_key="AAAA",
        sign_count=0,
        backup_eligible=False,
        backed_up=False,
        discoverable=None,
        transports=("internal",),
        aaguid="00000000-0000-0000-0000-000000000000",
    )


async def owner(database: Database, *, amr: tuple[str, ...] = ("pwd",)) -> Principal:
    """A new account, and a session of it."""
    email = f"{secrets.token_hex(6)}@x.example"
    account = await Accounts(database).register(email, None, verified=True)
    assert isinstance(account, Account)
    return await session_of(database, account.id, amr)


async def session_of(database: Database, account_id: str, amr: tuple[str, ...]) -> Principal:
    tokens = RefreshTokens(database, RefreshOptions())
    grant = await tokens.begin(account_id, SOURCE, without_password=True, amr=amr)
    assert isinstance(grant, SessionGrant)
    return Principal(account_id, (), grant.session_id, "jti", None, "kid", 1, 2)


async def added(database: Database, principal: Principal) -> Passkey:
    passkey = await Passkeys(database).add(principal, "laptop", new())
    assert isinstance(passkey, Passkey)
    return passkey


async def test_of_two_uses_with_one_count_one_is_taken(database: Database) -> None:
    """On whichever nodes they come: one of the two authenticators is a copy."""
    passkeys = Passkeys(database)
    passkey = await added(database, await owner(database))
    outcomes = await asyncio.gather(*(passkeys.record_use(passkey, USE) for _ in range(4)))
    taken = [outcome for outcome in outcomes if isinstance(outcome, PasskeyUse)]
    assert [one.passkey.sign_count for one in taken] == [7]
    assert outcomes.count(UseRefusal.COUNTER) == 3


async def test_a_count_that_goes_back_to_none_is_refused(database: Database) -> None:
    passkeys = Passkeys(database)
    passkey = await added(database, await owner(database))
    assert isinstance(await passkeys.record_use(passkey, USE), PasskeyUse)
    none = replace(USE, sign_count=0)
    assert await passkeys.record_use(passkey, none) is UseRefusal.COUNTER


async def test_a_passkey_that_was_removed_meanwhile_is_refused(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    passkey = await added(database, principal)
    assert isinstance(await passkeys.remove(passkey.id, principal), RemovedPasskey)
    assert await passkeys.record_use(passkey, USE) is UseRefusal.REMOVED


async def test_a_session_that_has_ended_changes_no_passkey(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    passkey = await added(database, principal)
    await Sessions(database).end(principal.session_id or "", "ended by its owner")
    assert await passkeys.add(principal, "two", new()) is Reason.TOKEN_REVOKED
    assert await passkeys.rename(passkey.id, principal, "mine") is Reason.TOKEN_REVOKED
    assert await passkeys.remove(passkey.id, principal) is Reason.TOKEN_REVOKED


async def test_one_credential_is_of_one_account(database: Database) -> None:
    passkeys, credential = Passkeys(database), new()
    first = await passkeys.add(await owner(database), "one", credential)
    assert isinstance(first, Passkey)
    second = await passkeys.add(await owner(database), "two", credential)
    assert second is PasskeyProblem.REGISTERED


async def test_at_once_no_more_are_added_than_an_account_may_have(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    for _ in range(PASSKEYS_MAX - 1):
        await added(database, principal)
    outcomes = await asyncio.gather(*(passkeys.add(principal, "x", new()) for _ in range(3)))
    assert outcomes.count(PasskeyProblem.TOO_MANY) == 2


async def test_the_handle_of_an_account_is_drawn_once(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    handles = await asyncio.gather(*(passkeys.handle(principal.subject) for _ in range(4)))
    assert len(set(handles)) == 1
    assert await passkeys.handle("nobody") is None


async def test_a_removed_passkey_stays_removed_over_a_restore(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    kept, removed = await added(database, principal), await added(database, principal)
    async with database.read_transaction() as tx:
        backup = await tx.one("SELECT * FROM passkeys WHERE id = :id", id=removed.id)
    assert backup is not None
    await passkeys.remove(removed.id, principal)
    async with database.transaction() as tx:
        columns = ", ".join(backup)
        values = ", ".join(f":{column}" for column in backup)
        await tx.run(f"INSERT INTO passkeys ({columns}) VALUES ({values})", **backup)
        carried, _ = await disowned(tx)
    assert carried.passkeys == 1
    assert [one.id for one in await passkeys.find_all(principal.subject)] == [kept.id]


async def test_an_account_takes_its_passkeys_along(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    passkey = await added(database, principal)
    await Accounts(database).delete(principal.subject)
    assert await passkeys.find(passkey.key.credential_id) is None


async def test_an_operator_takes_all_away(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    for _ in range(2):
        await added(database, principal)
    async with database.transaction() as tx:
        assert await has_passkey(tx, principal.subject)
        assert await remove_passkeys(tx, principal.subject) == 2
        assert not await has_passkey(tx, principal.subject)
        rows = await tx.all("SELECT target FROM tombstones WHERE kind = 'passkey'")
    assert len(rows) >= 2
    assert await passkeys.find_all(principal.subject) == []


async def test_with_a_passkey_end_the_other_sessions_that_one_has_opened(
    database: Database,
) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    by_hardware = await session_of(database, principal.subject, ("hwk", "user", "mfa"))
    by_cloud = await session_of(database, principal.subject, ("pwd", "swk", "user", "mfa"))
    passkey = await added(database, principal)
    removed = await passkeys.remove(passkey.id, by_hardware)
    assert isinstance(removed, RemovedPasskey)
    assert [change.target for change in removed.changes] == [by_cloud.session_id]
