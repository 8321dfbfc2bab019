"""What a caller may still write whose session ends while they wait for the account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import psycopg
import pytest
from psycopg import sql

from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.personal_keys import KeyLimits, NewPersonalKey, PersonalKeys
from gateway.identity.revocations import refuse
from gateway.identity.sessions.callers import end_own
from gateway.identity.sessions.sessions import SIGN_OUT, Sessions, end_one, lock, outdate
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database
from tests.identity.begun_sessions import began, caller_of

Written = Callable[[], Awaitable[object]]


class Person:
    """An account with two sessions and a personal key; `caller` has the first session."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tokens = RefreshTokens(database, RefreshOptions())
        self.facts, self.keys = AccountFacts(database), PersonalKeys(database)

    async def enter(self) -> None:
        account = await Accounts(self.database).register("alice@example.com", "hash")
        assert isinstance(account, Account)
        self.id = account.id
        self.one, self.other = [await began(self.tokens, account) for _ in range(2)]
        self.caller = caller_of(self.one)
        made = await self.keys.create(self.caller, "laptop", KeyLimits(), 900)
        assert isinstance(made, NewPersonalKey)
        self.key_id = made.key.id

    def writes(self, caller: Principal) -> dict[str, Written]:
        """What a session changes that asks for no password."""
        return {
            "attributes": lambda: self.facts.put_own_attributes(caller, {"nickname": "Al"}),
            "session": lambda: end_own(self.database, self.other.session_id, "ended", by=caller),
            "key": lambda: self.keys.end_own(self.key_id, by=caller),
        }

    async def is_as_it_was(self) -> bool:
        other = await Sessions(self.database).get(self.other.session_id)
        return (
            not await self.facts.attributes(self.id)
            and other is not None
            and other.ended_at is None
            and len(await self.keys.find_active(self.id)) == 1
        )


@pytest.fixture
async def person(database: Database) -> Person:
    made = Person(database)
    await made.enter()
    return made


WRITES = ("attributes", "session", "key")


@pytest.mark.parametrize("what", WRITES)
async def test_who_signs_out_while_a_change_waits_for_the_account_has_not_made_it(
    person: Person, what: str
) -> None:
    async with person.database.transaction() as tx:
        await lock(tx, person.id)
        waiting = asyncio.ensure_future(person.writes(person.caller)[what]())
        await end_one(tx, person.one.session_id, SIGN_OUT)
    assert await waiting is Reason.TOKEN_REVOKED
    assert await person.is_as_it_was()


async def until_it_waits(url: str, ending: asyncio.Future[Sequence[Change]]) -> None:
    """Until somebody waits for a row of this PostgreSQL, or waits for none any more."""
    asked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    waiting = sql.SQL(asked + " AND wait_event_type = 'Lock'")
    async with (
        asyncio.timeout(30),
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
    ):
        while not ending.done() and not await (await connection.execute(waiting)).fetchone():
            pass


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("by", ["access token", "refresh token"])
async def test_a_sign_out_is_over_when_what_its_session_was_writing_is(
    person: Person, database_url: str, by: str
) -> None:
    """Else it was answered, and an account was deleted, a key made, a factor enrolled behind it."""
    sessions = Sessions(person.database)
    session = await sessions.get(person.one.session_id)
    assert session is not None
    async with person.database.transaction() as tx:
        await lock(tx, person.id)
        if by == "access token":
            ending = asyncio.ensure_future(sessions.sign_out(person.caller, everywhere=False))
        else:
            ending = asyncio.ensure_future(sessions.sign_out_session(session, everywhere=False))
        await until_it_waits(database_url, ending)
        assert not ending.done()
        ended = await sessions.get(person.one.session_id)
        assert ended is not None
        assert ended.ended_at is not None
    assert await ending


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_sign_out_is_done_though_somebody_holds_the_account_for_too_long(
    person: Person,
) -> None:
    sessions = Sessions(person.database)
    async with person.database.transaction() as tx:
        await lock(tx, person.id)
        assert await sessions.sign_out(person.caller, everywhere=False)
    ended = await sessions.get(person.one.session_id)
    assert ended is not None
    assert ended.ended_at is not None


@pytest.mark.parametrize("what", WRITES)
async def test_a_token_that_was_refused_writes_nothing_though_its_session_lives(
    person: Person, what: str
) -> None:
    await refuse(person.database, ChangeKind.TOKEN, person.caller.token_id)
    assert await person.writes(person.caller)[what]() is Reason.TOKEN_REVOKED
    assert await person.is_as_it_was()


async def test_a_token_that_was_refused_makes_no_key(person: Person) -> None:
    await refuse(person.database, ChangeKind.TOKEN, person.caller.token_id)
    made = await person.keys.create(person.caller, "phone", KeyLimits(), 900)
    assert made is Reason.TOKEN_REVOKED
    assert await person.is_as_it_was()


@pytest.mark.parametrize("what", WRITES)
async def test_who_is_signed_in_makes_it(person: Person, what: str) -> None:
    made = await person.writes(person.caller)[what]()
    assert isinstance(made, list)
    assert all(isinstance(change, Change) for change in made)
    assert made
    assert not await person.is_as_it_was()


async def test_the_session_that_asks_may_be_ended_until_it_is_confirmed(person: Person) -> None:
    first = await end_own(person.database, person.one.session_id, "ended", by=person.caller)
    assert isinstance(first, list)
    assert await end_own(person.database, person.one.session_id, "ended", by=person.caller) == first


async def test_nobody_ends_what_is_somebody_elses(person: Person) -> None:
    stranger = caller_of(person.one)
    stranger = Principal(
        "another", (), stranger.session_id, "t", None, kid="k", issued_at=1, expires_at=2
    )
    assert await end_own(person.database, person.other.session_id, "x", by=stranger) is None
    assert await person.keys.end_own(person.key_id, by=stranger) is None
    assert await person.facts.put_own_attributes(stranger, {"nickname": "Al"}) == []
    assert await person.is_as_it_was()


def imported(person: Person, session_id: str | None) -> Principal:
    """Who has a token of an imported key, whose session is none of ours."""
    at = person.one.issued_at
    return Principal(
        person.id, (), session_id, "jti-1", None, kid="k", issued_at=at, expires_at=at + 900
    )


@pytest.mark.parametrize("session_id", [None, "elsewhere"])
@pytest.mark.parametrize("what", WRITES)
async def test_a_token_of_an_imported_key_writes_until_it_is_refused(
    person: Person, what: str, session_id: str | None
) -> None:
    caller = imported(person, session_id)
    assert isinstance(await person.writes(caller)[what](), list)


@pytest.mark.parametrize("how", ["token", "session", "account"])
@pytest.mark.parametrize("what", WRITES)
async def test_a_token_of_an_imported_key_that_was_refused_writes_nothing(
    person: Person, what: str, how: str
) -> None:
    caller = imported(person, "elsewhere")
    if how == "account":
        async with person.database.transaction() as tx:
            await outdate(tx, person.id, Reason.TOKEN_OUTDATED)
    elif how == "token":
        await refuse(person.database, ChangeKind.TOKEN, "jti-1")
    else:
        await refuse(person.database, ChangeKind.SESSION, "elsewhere")
    assert await person.writes(caller)[what]() is Reason.TOKEN_REVOKED
    assert await person.is_as_it_was()
