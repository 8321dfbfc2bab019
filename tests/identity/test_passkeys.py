"""The passkeys of accounts, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.factors.own_factors import FactorOwner, OwnFactors
from gateway.identity.factors.own_passkeys import AddedPasskey, OwnPasskeys, RemovedPasskey
from gateway.identity.factors.passkey_records import NewCredential, PasskeyAssertion
from gateway.identity.factors.passkeys import (
    PASSKEYS_MAX,
    Passkey,
    PasskeyProblem,
    Passkeys,
    PasskeyUse,
    UseRefusal,
    remove_passkeys,
)
from gateway.identity.factors.totp import TotpFactor
from gateway.identity.keys.encryption import Sealer
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.identity.test_both_stores import outbox
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


async def owner(database: Database) -> FactorOwner:
    """A new account, and a session of it."""
    email = f"{secrets.token_hex(6)}@x.example"
    account = await Accounts(database).register(email, None, verified=True)
    assert isinstance(account, Account)
    return await session_of(database, account.id, ("pwd",))


async def session_of(database: Database, account_id: str, amr: tuple[str, ...]) -> FactorOwner:
    tokens = RefreshTokens(database, RefreshOptions())
    grant = await tokens.begin(account_id, SOURCE, without_password=True, amr=amr)
    assert isinstance(grant, SessionGrant)
    return FactorOwner(account_id, grant.session_id)


def own_passkeys(database: Database) -> OwnPasskeys:
    notifications = SecurityNotifications(database, outbox(database))
    totp = TotpFactor(database, Sealer(b"k" * 32))
    return OwnPasskeys(database, OwnFactors(database, totp, notifications), notifications)


async def stepped_up(database: Database, holder: FactorOwner) -> FactorOwner:
    """As a session is that has just added a factor."""
    async with database.transaction() as tx:
        await tx.run(
            "UPDATE families SET amr = 'pwd hwk user mfa' WHERE id = :id", id=holder.holder
        )
    return holder


async def added(database: Database, holder: FactorOwner) -> Passkey:
    passkey = await own_passkeys(database).add(holder, "laptop", new())
    assert isinstance(passkey, AddedPasskey)
    await stepped_up(database, holder)
    return passkey.passkey


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
    assert isinstance(await own_passkeys(database).remove(passkey.id, principal), RemovedPasskey)
    assert await passkeys.record_use(passkey, USE) is UseRefusal.REMOVED


async def test_a_session_that_has_ended_changes_no_passkey(database: Database) -> None:
    principal = await owner(database)
    passkey = await added(database, principal)
    await Sessions(database).end(principal.holder, "ended by its owner")
    assert await own_passkeys(database).add(principal, "two", new()) is Reason.TOKEN_REVOKED
    assert (
        await own_passkeys(database).rename(passkey.id, principal, "mine") is Reason.TOKEN_REVOKED
    )
    assert await own_passkeys(database).remove(passkey.id, principal) is Reason.TOKEN_REVOKED


async def test_one_credential_is_of_one_account(database: Database) -> None:
    credential = new()
    first = await own_passkeys(database).add(await owner(database), "one", credential)
    assert isinstance(first, AddedPasskey)
    second = await own_passkeys(database).add(await owner(database), "two", credential)
    assert second is PasskeyProblem.REGISTERED


async def test_at_once_no_more_are_added_than_an_account_may_have(database: Database) -> None:
    principal = await owner(database)
    for _ in range(PASSKEYS_MAX - 1):
        await added(database, principal)
    outcomes = await asyncio.gather(
        *(own_passkeys(database).add(principal, "x", new()) for _ in range(3))
    )
    assert outcomes.count(PasskeyProblem.TOO_MANY) == 2


async def test_the_handle_of_an_account_is_drawn_once(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    handles = await asyncio.gather(*(passkeys.handle(principal.account_id) for _ in range(4)))
    assert len(set(handles)) == 1
    assert await passkeys.handle("nobody") is None


async def test_a_removed_passkey_stays_removed_over_a_restore(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    kept, removed = await added(database, principal), await added(database, principal)
    async with database.read_transaction() as tx:
        backup = await tx.one("SELECT * FROM passkeys WHERE id = :id", id=removed.id)
    assert backup is not None
    await own_passkeys(database).remove(removed.id, principal)
    async with database.transaction() as tx:
        columns = ", ".join(backup)
        values = ", ".join(f":{column}" for column in backup)
        await tx.run(f"INSERT INTO passkeys ({columns}) VALUES ({values})", **backup)
        carried, _ = await disowned(tx)
    assert carried.passkeys == 1
    assert [one.id for one in await passkeys.find_all(principal.account_id)] == [kept.id]


async def test_an_account_takes_its_passkeys_along(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    passkey = await added(database, principal)
    await Accounts(database).delete(principal.account_id)
    assert await passkeys.find(passkey.key.credential_id) is None


async def test_an_operator_takes_all_away(database: Database) -> None:
    passkeys, principal = Passkeys(database), await owner(database)
    for _ in range(2):
        await added(database, principal)
    async with database.transaction() as tx:
        assert await remove_passkeys(tx, principal.account_id) == 2
        rows = await tx.all("SELECT target FROM tombstones WHERE kind LIKE 'passkey %'")
    assert len(rows) >= 2
    assert await passkeys.find_all(principal.account_id) == []


async def test_with_a_passkey_end_the_other_sessions(database: Database) -> None:
    principal = await owner(database)
    passkey = await added(database, principal)
    other = await session_of(database, principal.account_id, ("hwk", "user", "mfa"))
    removed = await own_passkeys(database).remove(passkey.id, principal)
    assert isinstance(removed, RemovedPasskey)
    assert [change.target for change in removed.changes] == [other.holder]


async def test_a_session_without_the_factor_that_there_is_changes_none(database: Database) -> None:
    """It was begun, or asked whether it may, before its account had one."""
    principal = await owner(database)
    passkey = await added(database, principal)
    weak = await session_of(database, principal.account_id, ("pwd", "mfa"))
    async with database.transaction() as tx:
        await tx.run("UPDATE families SET amr = 'pwd' WHERE id = :id", id=weak.holder)
    refused = Reason.INSUFFICIENT_USER_AUTHENTICATION
    assert await own_passkeys(database).add(weak, "two", new()) is refused
    assert await own_passkeys(database).rename(passkey.id, weak, "mine") is refused
    assert await own_passkeys(database).remove(passkey.id, weak) is refused
