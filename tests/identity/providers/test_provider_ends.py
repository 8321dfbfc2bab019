"""What a provider ends, on SQLite and on PostgreSQL."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
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


@pytest.mark.parametrize("named", ["subject", "provider_session"])
async def test_what_began_before_the_end_begins_no_session(database: Database, named: str) -> None:
    unique = secrets.token_hex(6)
    account = await Accounts(database).register(f"{unique}@example.com", "hash", verified=True)
    assert isinstance(account, Account)
    origin = SessionOrigin(f"id-{unique}", ISSUER, f"sub-{unique}", "idp", f"sid-{unique}", None)
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO linked_identities (id, account_id, issuer, subject, provider,"
            " linked_at, last_used_at) VALUES (:id, :account, :issuer, :subject, 'idp', 0, 0)",
            id=origin.identity_id,
            account=account.id,
            issuer=ISSUER,
            subject=origin.subject,
        )
        await tx.run("INSERT INTO linked_roles VALUES (:id, 'staff')", id=origin.identity_id)
    tokens = RefreshTokens(database, RefreshOptions())

    async def begin() -> object:
        return await tokens.begin(
            account.id,
            SignInSource("one", "192.0.2.1"),
            without_password=True,
            amr=("fed",),
            origin=origin,
        )

    grant = await begin()
    assert isinstance(grant, SessionGrant)
    whom = {"subject": origin.subject, "provider_session": origin.provider_session}
    async with database.transaction() as tx:
        ended = await end_sessions_of(tx, ISSUER, "logout", **{named: whom[named]})
    assert [change.target for change in ended] == [grant.session_id]
    assert await begin() is Reason.INVALID_CREDENTIALS
    after = await Accounts(database).by_id(account.id)
    assert after is not None
    assert after.roles == ("staff",)
    # A report that is repeated gives the change once more.
    async with database.transaction() as tx:
        again = await end_sessions_of(tx, ISSUER, "logout", **{named: whom[named]})
    assert [change.target for change in again] == [grant.session_id]


async def test_who_is_ended_by_name_is_known_to_every_worker_until_they_sign_in_there_again(
    redis: RedisStore,
) -> None:
    here, there = (EndedSessions(RedisNonceStore(redis), RedisMoments(redis)) for _ in range(2))
    before = await here.now()
    origin = SessionOrigin("id-1", ISSUER, "alice", "idp", None, None, begun_at=before)
    assert not await here.has_ended(origin)
    await there.note_person(ISSUER, "alice")
    assert await here.has_ended(origin)
    assert await here.has_ended(replace(origin, begun_at=None))
    assert await here.has_ended(replace(origin, provider_session="of no end"))
    assert not await here.has_ended(replace(origin, begun_at=await here.now()))
    assert not await here.has_ended(replace(origin, subject="bob"))
    assert not await here.has_ended(replace(origin, issuer="https://other.example"))
    # A name of a session is no name of somebody.
    await there.note(ISSUER, "bob")
    assert not await here.has_ended(replace(origin, subject="bob"))
