"""What a provider ends, on SQLite and on PostgreSQL."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.mail.links import MailToken, Purpose, find_link, store_link, token_text
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.provider_sessions import end_sessions_of
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Reason
from gateway.stores.moments import RedisMoments
from gateway.stores.nonces import RedisNonceStore
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore

ISSUER = "https://id.example"
OTHER = "https://other.example"


class Person:
    """Somebody whom the provider knows, and their account, which has a role by it."""

    def __init__(self, database: Database) -> None:
        self.database, self.unique = database, secrets.token_hex(6)
        self.tokens = RefreshTokens(database, RefreshOptions())
        self.subject = f"sub-{self.unique}"

    async def enter(self) -> Person:
        email = f"{self.unique}@example.com"
        account = await Accounts(self.database).register(email, "hash", verified=True)
        assert isinstance(account, Account)
        self.account_id = account.id
        async with self.database.transaction() as tx:
            await tx.run(
                "INSERT INTO linked_identities (id, account_id, issuer, subject, provider,"
                " linked_at, last_used_at) VALUES (:id, :account, :issuer, :subject, 'idp', 0, 0)",
                id=f"id-{self.unique}",
                account=account.id,
                issuer=ISSUER,
                subject=self.subject,
            )
            await tx.run("INSERT INTO linked_roles VALUES (:id, 'staff')", id=f"id-{self.unique}")
        return self

    def there(self, name: str) -> str:
        return f"{name}-{self.unique}"

    def origin(self, there: str | None) -> SessionOrigin:
        session = None if there is None else self.there(there)
        return SessionOrigin(f"id-{self.unique}", ISSUER, self.subject, "idp", session, None)

    async def begin(self, there: str | None) -> object:
        """By a sign-in that is at the question for a second factor all the time."""
        return await self.tokens.begin(
            self.account_id,
            SignInSource("one", "192.0.2.1"),
            without_password=True,
            amr=("fed",),
            origin=self.origin(there),
        )

    async def session(self, there: str | None) -> str:
        grant = await self.begin(there)
        assert isinstance(grant, SessionGrant)
        return grant.session_id


async def ended_by(database: Database, **named: str) -> set[str]:
    async with database.transaction() as tx:
        changes = await end_sessions_of(tx, ISSUER, "logout", **named)
    return {change.target for change in changes}


async def live(database: Database) -> set[str]:
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT id FROM families WHERE ended_at IS NULL")
    return {str(row["id"]) for row in rows}


@pytest.mark.parametrize("named", ["subject", "provider_session"])
async def test_what_the_provider_began_ends_and_a_report_may_be_repeated(
    database: Database, named: str
) -> None:
    ann = await Person(database).enter()
    session = await ann.session("there")
    whom = {"subject": ann.subject, "provider_session": ann.there("there")}
    assert await ended_by(database, **{named: whom[named]}) == {session}
    # A report that is repeated gives the change once more.
    assert await ended_by(database, **{named: whom[named]}) == {session}
    after = await Accounts(database).by_id(ann.account_id)
    assert after is not None
    assert after.roles == ("staff",)


@pytest.mark.parametrize("named", ["subject", "provider_session"])
async def test_a_move_ends_with_all_that_somebody_had_there(database: Database, named: str) -> None:
    """Whoever signed in there may have asked for it, and reads the mailbox that it goes to."""
    ann = await Person(database).enter()
    await ann.session("there")
    text = token_text(b"k" * 32, ann.unique)
    async with database.transaction() as tx:
        link = MailToken(
            ann.account_id,
            Purpose.EMAIL_CHANGE,
            f"{ann.unique}@example.com",
            "new@x.example",
            2**40,
        )
        await store_link(tx, text, f"mail-{ann.unique}", link)
    whom = {"subject": ann.subject, "provider_session": ann.there("there")}
    await ended_by(database, **{named: whom[named]})
    async with database.read_transaction() as tx:
        found = await find_link(tx, text, Purpose.EMAIL_CHANGE)
    # As with a sign-out here, its own end leaves it.
    assert (found is None) == (named == "subject")


async def test_what_began_before_all_is_over_there_begins_no_session(database: Database) -> None:
    ann = await Person(database).enter()
    await ended_by(database, subject=ann.subject)
    assert await ann.begin("there") is Reason.INVALID_CREDENTIALS


async def test_a_session_there_that_is_named_with_its_owner_ends_what_may_be_of_it(
    database: Database,
) -> None:
    """An ID token need not say in which session it was given."""
    ann, bob = await Person(database).enter(), await Person(database).enter()
    unknown, there, elsewhere = [await ann.session(one) for one in (None, "there", "elsewhere")]
    of_bob = await bob.session(None)
    by_itself = {"provider_session": ann.there("there")}
    assert await ended_by(database, **by_itself, subject="nobody") == set()
    assert await ended_by(database, **by_itself, subject=bob.subject) == {of_bob}
    assert await ended_by(database, **by_itself) == {there}
    assert await live(database) == {unknown, elsewhere}
    assert await ended_by(database, **by_itself, subject=ann.subject) == {unknown, there}
    assert await live(database) == {elsewhere}


@pytest.mark.parametrize("beside", [True, False])
async def test_what_is_under_way_in_another_session_there_goes_on(
    database: Database, beside: bool
) -> None:
    ann = await Person(database).enter()
    await ann.session("there")
    whom = {"subject": ann.subject} if beside else {}
    assert await ended_by(database, provider_session=ann.there("there"), **whom)
    assert await ann.session("elsewhere") in await live(database)


async def test_who_is_ended_by_name_is_known_to_every_worker_until_they_sign_in_there_again(
    redis: RedisStore,
) -> None:
    here, there = (EndedSessions(RedisNonceStore(redis), RedisMoments(redis)) for _ in range(2))
    before, elsewhere = await here.now(ISSUER), await here.now(OTHER)
    origin = SessionOrigin("id-1", ISSUER, "alice", "idp", None, None, begun_at=before)
    assert not await here.has_ended(origin)
    await there.note_person(ISSUER, "alice")
    assert await here.has_ended(origin)
    assert await here.has_ended(replace(origin, begun_at=None))
    assert await here.has_ended(replace(origin, provider_session="of no end"))
    assert not await here.has_ended(replace(origin, begun_at=await here.now(ISSUER)))
    assert not await here.has_ended(replace(origin, subject="bob"))
    assert not await here.has_ended(replace(origin, issuer=OTHER, begun_at=elsewhere))
    # A name of a session is no name of somebody.
    await there.note(ISSUER, "bob")
    assert not await here.has_ended(replace(origin, subject="bob"))


async def test_of_a_session_that_is_named_with_its_owner_those_know_who_name_none(
    redis: RedisStore,
) -> None:
    here, there = (EndedSessions(RedisNonceStore(redis), RedisMoments(redis)) for _ in range(2))
    before, elsewhere = await here.now(ISSUER), await here.now(OTHER)
    origin = SessionOrigin("id-1", ISSUER, "alice", "idp", None, None, begun_at=before)
    await there.note(ISSUER, "one")
    assert not await here.has_ended(origin)
    await there.note(ISSUER, "one", "alice")
    assert await here.has_ended(origin)
    assert await here.has_ended(replace(origin, begun_at=None))
    assert await here.has_ended(replace(origin, provider_session="one"))
    assert not await here.has_ended(replace(origin, provider_session="another"))
    assert not await here.has_ended(replace(origin, begun_at=await here.now(ISSUER)))
    assert not await here.has_ended(replace(origin, subject="bob"))
    assert not await here.has_ended(replace(origin, issuer=OTHER, begun_at=elsewhere))
