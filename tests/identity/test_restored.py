"""A backup brings no session back to life."""

from __future__ import annotations

from gateway.identity import restored
from gateway.model import ChangeKind
from gateway.stores.protocols import Database


async def test_every_family_ends_and_every_token_given_is_refused(database: Database) -> None:
    async with database.transaction() as tx:
        ahead = int(await tx.now()) + 7
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, created_at, updated_at)"
            " VALUES ('u', 'a@b', 'a@b', 1, 1)"
        )
        await tx.run(
            "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
            " created_at, last_used_at, expires_at) VALUES ('f', 'u', 'bearer', 'a', 'b',"
            " 'pwd', 1, 1, 5, 2)"
        )
        change = await restored.disown(tx, ahead)
        family = await tx.one("SELECT ended_at, end_reason FROM families")
        account = await tx.one("SELECT not_before FROM accounts")
    assert (change.kind, change.target, change.not_before) == (ChangeKind.EVERYONE, "*", ahead)
    assert family is not None
    assert family["ended_at"]
    assert family["end_reason"] == "restored"
    assert account == {"not_before": ahead}


async def test_no_device_cookie_of_before_a_restore_is_known_again(database: Database) -> None:
    """The backup has the epoch of an older password, and cookies of it were laid up."""
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, password_epoch, created_at, updated_at)"
            " VALUES ('u', 'a@b', 'a@b', 3, 1, 1)"
        )
        await restored.disown(tx, 0)
        account = await tx.one("SELECT password_epoch FROM accounts")
    assert account is not None
    assert account["password_epoch"] > 1_000_000


async def test_the_newest_token_counts_where_the_clock_was_set_back(database: Database) -> None:
    async with database.transaction() as tx:
        ahead = int(await tx.now()) + 3600
        await tx.run(
            "INSERT INTO clients (id, name, newest_iat, created_at) VALUES ('c', 'c', :at, 1)",
            at=ahead,
        )
        assert await restored.newest_token_at(tx) == ahead


async def test_a_key_that_was_revoked_since_the_backup_stays_revoked(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO signing_keys (kid, alg, state, public_jwk, created_at)"
            " VALUES ('k', 'RS256', 'active', '{}', 1), ('other', 'RS256', 'next', '{}', 1)"
        )
        await tx.run("INSERT INTO changes VALUES ('c', 'key', 'k', 1, 'token_revoked', 1, 1)")
        await restored.disown(tx, 0)
        rows = await tx.all("SELECT kid, state FROM signing_keys ORDER BY kid")
    assert rows == [{"kid": "k", "state": "gone"}, {"kid": "other", "state": "next"}]


async def test_no_mailed_link_and_no_api_key_comes_back_to_life(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, created_at, updated_at)"
            " VALUES ('u', 'a@b', 'a@b', 1, 1)"
        )
        await tx.run(
            "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at,"
            " expires_at) VALUES ('h', 'u', 'reset', 'a@b', 1, 4000000000)"
        )
        await tx.run(
            "INSERT INTO outbox (id, template, email_key, fields, due_at, created_at)"
            " VALUES ('m', 'reset', 'a@b', '{}', 1, 1)"
        )
        await tx.run("INSERT INTO clients (id, name, created_at) VALUES ('c', 'c', 1)")
        await tx.run(
            "INSERT INTO api_keys (id, hash, client_id, created_at) VALUES ('k', 'h', 'c', 1)"
        )
        await restored.disown(tx, 0)
        assert await tx.all("SELECT hash FROM mail_tokens") == []
        assert await tx.all("SELECT id FROM outbox WHERE state = 'waiting'") == []
        assert await tx.all("SELECT id FROM api_keys WHERE ended_at IS NULL") == []
