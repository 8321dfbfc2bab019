"""What beginning, rotating and renewing a session gives, field by field, and what each asks for."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.base64url import encoded
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sessions.session_room import SESSIONS_MAX
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sessions.token_dates import TooSoon
from gateway.identity.sign_in.refresh_tokens import (
    RefreshOptions,
    RefreshTokens,
    ReuseDetected,
    SessionGrant,
)
from gateway.model import Reason
from gateway.stores.protocols import Database, Transaction
from tests.databases import NOON, Hands
from tests.identity.begun_sessions import COOKIE_HASH, LIFE_S, SOURCE, began


async def family(store: Database, session_id: str) -> dict[str, Any]:
    async with store.read_transaction() as tx:
        row = await tx.one("SELECT * FROM families WHERE id = :id", id=session_id)
    assert row is not None
    return dict(row)


async def test_a_session_begins_with_all_that_its_token_needs(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    grant = await began(tokens, account)
    assert grant == SessionGrant(
        account=account,
        session_id=grant.session_id,
        issued_at=NOON,
        auth_time=NOON,
        amr=("pwd",),
        expires_in_s=LIFE_S,
        refresh_token=grant.refresh_token,
    )
    assert len(grant.refresh_token) == 43
    row = await family(store, grant.session_id)
    assert (row["account_id"], row["user_agent"]) == (account.id, "Firefox")
    assert (row["address"], row["amr"], row["transport"]) == ("192.0.2.7", "pwd", "bearer")
    assert (row["auth_time"], row["expires_at"]) == (NOON, NOON + LIFE_S)
    assert row["last_used_at"] == grant.issued_at
    async with store.read_transaction() as tx:
        (kept,) = await tx.all("SELECT * FROM refresh_tokens")
    assert (kept["hash"], kept["family_id"]) == (hash_token(grant.refresh_token), grant.session_id)
    assert (kept["created_at"], kept["used_at"]) == (NOON, None)


async def test_a_session_that_begins_right_after_a_change_was_used_when_its_token_was_issued(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    (change,) = await Accounts(store).grant(account.id, "manager")
    grant = await began(tokens, account)
    assert grant.issued_at == change.not_before + 1 > NOON
    assert (await family(store, grant.session_id))["last_used_at"] == grant.issued_at


async def test_the_ways_of_a_sign_in_are_kept_in_order(
    tokens: RefreshTokens, account: Account
) -> None:
    grant = await began(tokens, account, amr=("pwd", "otp"))
    assert grant.amr == ("pwd", "otp")
    again = await tokens.rotate(grant.refresh_token, SOURCE)
    assert isinstance(again, SessionGrant)
    assert again.amr == ("pwd", "otp")


async def test_a_cookie_stands_for_its_session_without_a_refresh_token(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    grant = await began(tokens, account, cookie_hash=COOKIE_HASH)
    assert grant.refresh_token == ""
    assert (await family(store, grant.session_id))["transport"] == "cookie"
    async with store.read_transaction() as tx:
        (kept,) = await tx.all("SELECT hash, family_id, created_at FROM refresh_tokens")
    assert dict(kept) == {"hash": COOKIE_HASH, "family_id": grant.session_id, "created_at": NOON}


async def test_an_account_that_is_not_there_begins_no_session(tokens: RefreshTokens) -> None:
    assert await tokens.begin("nobody", SOURCE) is Reason.INVALID_CREDENTIALS


async def test_only_where_it_is_asked_for_must_an_address_be_verified(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    assert not account.email_verified
    assert isinstance(await tokens.begin(account.id, SOURCE, checked_hash="hash"), SessionGrant)
    refused = await tokens.begin(account.id, SOURCE, checked_hash="hash", verified_only=True)
    assert refused is Reason.EMAIL_UNVERIFIED
    async with store.transaction() as tx:
        await tx.run("UPDATE accounts SET email_verified = 1")
    good = await tokens.begin(account.id, SOURCE, checked_hash="hash", verified_only=True)
    assert isinstance(good, SessionGrant)


async def test_a_session_that_made_room_is_told(
    tokens: RefreshTokens, account: Account, hands: Hands
) -> None:
    first = await began(tokens, account)
    for _ in range(SESSIONS_MAX - 1):
        hands.move(1)
        assert (await began(tokens, account)).displaced == ()
    hands.move(1)
    (displaced,) = (await began(tokens, account)).displaced
    assert displaced.session_id == first.session_id


async def test_a_rotation_gives_what_is_left_of_the_same_session(
    tokens: RefreshTokens, account: Account, store: Database, hands: Hands
) -> None:
    first = await began(tokens, account)
    hands.move(100.7)
    second = await tokens.rotate(first.refresh_token, SOURCE)
    assert isinstance(second, SessionGrant)
    assert second == replace(
        first,
        issued_at=NOON + 100,
        expires_in_s=LIFE_S - 100,
        refresh_token=second.refresh_token,
    )
    assert (await family(store, first.session_id))["last_used_at"] == NOON + 100
    async with store.read_transaction() as tx:
        (used,) = await tx.all("SELECT * FROM refresh_tokens WHERE used_at IS NOT NULL")
        (fresh,) = await tx.all("SELECT * FROM refresh_tokens WHERE used_at IS NULL")
    assert (used["hash"], used["used_at"]) == (hash_token(first.refresh_token), NOON + 100)
    assert used["used_ms"] == (NOON + 100) * 1000 + 700
    assert (fresh["hash"], fresh["created_at"]) == (hash_token(second.refresh_token), NOON + 100)
    assert fresh["family_id"] == first.session_id


async def test_a_token_given_again_says_that_it_is(tokens: RefreshTokens, account: Account) -> None:
    first = await began(tokens, account)
    second = await tokens.rotate(first.refresh_token, SOURCE)
    again = await tokens.rotate(first.refresh_token, SOURCE)
    assert isinstance(second, SessionGrant)
    assert again == replace(second, repeated=True)


async def test_a_reuse_tells_whose_session_has_ended_and_why(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    grant = await began(tokens, account)
    await tokens.rotate(grant.refresh_token, SOURCE)
    reused = await tokens.rotate(grant.refresh_token, replace(SOURCE, user_agent="other"))
    assert isinstance(reused, ReuseDetected)
    assert (reused.account_id, reused.session_id) == (account.id, grant.session_id)
    assert [change.target for change in reused.changes] == [grant.session_id]
    row = await family(store, grant.session_id)
    assert (row["ended_at"], row["end_reason"]) == (NOON, "reused")


async def test_a_session_that_must_wait_keeps_its_token(
    tokens: RefreshTokens, account: Account
) -> None:
    grant = await began(tokens, account)
    asked: list[tuple[str, str | None]] = []
    waits = [7.5, 0.5, 0.0]

    async def wait_s(session_id: str, account_id: str | None = None) -> float:
        asked.append((session_id, account_id))
        return waits.pop(0)

    assert await tokens.rotate(grant.refresh_token, SOURCE, wait_s) == TooSoon(7.5)
    assert await tokens.rotate(grant.refresh_token, SOURCE, wait_s) == TooSoon(0.5)
    assert isinstance(await tokens.rotate(grant.refresh_token, SOURCE, wait_s), SessionGrant)
    assert asked == [(grant.session_id, account.id)] * 3


class Meddling:
    """A store in which somebody else deletes something after each reading; meets `Database`."""

    def __init__(self, database: Database, statement: str) -> None:
        self._database = database
        self._statement = statement
        self.dialect = database.dialect
        self.transaction = database.transaction
        self.migration_transaction = database.migration_transaction
        self.close = database.close

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        async with self._database.read_transaction() as tx:
            yield tx
        async with self._database.transaction() as tx:
            await tx.run(self._statement)


@pytest.mark.parametrize("table", ["refresh_tokens", "families", "accounts"])
async def test_what_is_deleted_after_it_was_found_is_neither_rotated_nor_renewed(
    tokens: RefreshTokens, account: Account, store: Database, table: str
) -> None:
    bearer = await began(tokens, account)
    meddled = RefreshTokens(Meddling(store, f"DELETE FROM {table}"), RefreshOptions())
    assert await meddled.rotate(bearer.refresh_token, SOURCE) is Reason.INVALID_REFRESH_TOKEN
    if table != "refresh_tokens":
        again = await Accounts(store).register("bob@x.example", "hash")
        assert isinstance(again, Account)
        cookie = await began(tokens, again, cookie_hash=COOKIE_HASH)
        assert await meddled.renew(cookie.session_id) is None


async def test_nobody_is_asked_how_long_what_is_no_token_has_to_wait(
    tokens: RefreshTokens, account: Account
) -> None:
    async def wait_s(session_id: str, account_id: str | None = None) -> float:
        raise AssertionError(session_id)

    for text in ("", "x", "A" * 43):
        assert await tokens.rotate(text, SOURCE, wait_s) is Reason.INVALID_REFRESH_TOKEN


async def test_a_session_is_renewed_and_its_cookie_stays(
    tokens: RefreshTokens, account: Account, store: Database, hands: Hands
) -> None:
    grant = await began(tokens, account, cookie_hash=COOKIE_HASH, amr=("pwd", "otp"))
    hands.move(100.7)
    renewed = await tokens.renew(grant.session_id)
    assert renewed == replace(grant, issued_at=NOON + 100, expires_in_s=LIFE_S - 100)
    assert (await family(store, grant.session_id))["last_used_at"] == NOON + 100


async def test_a_renewal_may_let_one_more_cookie_stand_for_the_session(
    tokens: RefreshTokens, account: Account, store: Database, hands: Hands
) -> None:
    grant = await began(tokens, account, cookie_hash=COOKIE_HASH)
    hands.move(100)
    assert await tokens.renew(grant.session_id, cookie_hash="d" * 43) is not None
    for cookie_hash in (COOKIE_HASH, "d" * 43):
        found = await tokens.session_of_cookie(cookie_hash)
        assert found is not None
        assert found.id == grant.session_id
    async with store.read_transaction() as tx:
        row = await tx.one("SELECT created_at FROM refresh_tokens WHERE hash = :h", h="d" * 43)
    assert row is not None
    assert row["created_at"] == NOON + 100


async def test_one_cookie_more_than_a_session_may_have_drops_the_oldest_and_tells_it(
    tokens: RefreshTokens, account: Account, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.identity.sessions.session_room.COOKIES_MAX", 2)
    grant = await began(tokens, account, cookie_hash=COOKIE_HASH)
    dropped = []
    for letter in "defg":
        hands.move(1)
        renewed = await tokens.renew(grant.session_id, cookie_hash=letter * 43)
        assert renewed is not None
        dropped.append(list(renewed.dropped_cookies))
    assert dropped == [[], [], ["d" * 43], ["e" * 43]]
    held = [h for h in "cdefg" if await tokens.session_of_cookie(h * 43) is not None]
    assert held == ["c", "f", "g"]


async def test_a_session_is_renewed_only_by_what_stands_for_it(
    tokens: RefreshTokens, account: Account
) -> None:
    bearer = await began(tokens, account)
    cookie = await began(tokens, account, cookie_hash=COOKIE_HASH)
    assert await tokens.renew(bearer.session_id) is None
    assert await tokens.renew(cookie.session_id, "bearer") is None
    assert await tokens.renew("unknown") is None
    assert await tokens.renew(bearer.session_id, "bearer") is not None


@pytest.mark.parametrize("how", ["ended", "expired", "idle", "disabled"])
async def test_a_session_that_is_over_is_neither_renewed_nor_rotated_nor_found(
    account: Account, store: Database, hands: Hands, how: str
) -> None:
    tokens = RefreshTokens(store, RefreshOptions(idle_s=3600))
    cookie = await began(tokens, account, cookie_hash=COOKIE_HASH)
    bearer = await began(tokens, account)
    if how == "ended":
        for grant in (cookie, bearer):
            await Sessions(store).end(grant.session_id, "x")
    elif how == "disabled":
        async with store.transaction() as tx:
            await tx.run("UPDATE accounts SET disabled = 1")
    else:
        last = bearer.issued_at + 3600 if how == "idle" else NOON + LIFE_S
        async with store.transaction() as tx:
            if how == "expired":
                await tx.run("UPDATE families SET last_used_at = :last", last=last)
        hands.at = last - 1
        assert await tokens.find_active(bearer.refresh_token) is not None
        hands.at = last
    assert await tokens.renew(cookie.session_id) is None
    assert await tokens.rotate(bearer.refresh_token, SOURCE) is Reason.INVALID_REFRESH_TOKEN
    assert await tokens.find_active(bearer.refresh_token) is None


async def test_without_an_idle_time_a_session_lasts_unused(
    tokens: RefreshTokens, account: Account, hands: Hands
) -> None:
    cookie = await began(tokens, account, cookie_hash=COOKIE_HASH)
    bearer = await began(tokens, account)
    hands.move(LIFE_S - 1)
    assert await tokens.find_active(bearer.refresh_token) is not None
    renewed = await tokens.renew(cookie.session_id)
    assert renewed is not None
    assert renewed.expires_in_s == 1
    assert isinstance(await tokens.rotate(bearer.refresh_token, SOURCE), SessionGrant)


async def test_the_session_of_a_token_or_a_cookie_is_found_used_or_ended(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    bearer = await began(tokens, account)
    cookie = await began(tokens, account, cookie_hash=COOKIE_HASH)
    await tokens.rotate(bearer.refresh_token, SOURCE)
    for grant in (bearer, cookie):
        await Sessions(store).end(grant.session_id, "x")
    by_token = await tokens.session_of(bearer.refresh_token)
    by_cookie = await tokens.session_of_cookie(COOKIE_HASH)
    assert by_token is not None
    assert by_cookie is not None
    assert (by_token.id, by_cookie.id) == (bearer.session_id, cookie.session_id)
    assert await tokens.session_of_cookie("unknown") is None
    for text in ("", "A" * 43, COOKIE_HASH):
        assert await tokens.session_of(text) is None


async def test_only_a_token_that_can_still_be_refreshed_is_active(
    tokens: RefreshTokens, account: Account
) -> None:
    first = await began(tokens, account)
    active = await tokens.find_active(first.refresh_token)
    assert active is not None
    assert active.id == first.session_id
    second = await tokens.rotate(first.refresh_token, SOURCE)
    assert isinstance(second, SessionGrant)
    assert await tokens.find_active(first.refresh_token) is None
    assert await tokens.find_active(second.refresh_token) is not None
    for text in ("", "A" * 43):
        assert await tokens.find_active(text) is None


async def test_the_time_of_use_is_never_set_back(
    tokens: RefreshTokens, account: Account, store: Database, hands: Hands
) -> None:
    grant = await began(tokens, account, cookie_hash=COOKIE_HASH)
    hands.move(1000)
    await tokens.renew(grant.session_id)
    hands.move(-500)
    await tokens.renew(grant.session_id)
    assert (await family(store, grant.session_id))["last_used_at"] == NOON + 1000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (SignInSource("ab", "192.0.2.7"), SignInSource("ab", "192.0.2.9"), True),
        (SignInSource("", "192.0.2.7"), SignInSource("", "192.0.2.7"), True),
        (SignInSource("a\udc80", "192.0.2.7"), SignInSource("a\udc80", "192.0.2.7"), True),
        (SignInSource("ab", "192.0.2.7"), SignInSource("AB", "192.0.2.7"), False),
        (SignInSource("x1", "92.0.2.7"), SignInSource("x", "192.0.2.7"), False),
    ],
)
async def test_a_client_is_its_browser_and_its_network_and_nothing_runs_together(
    tokens: RefreshTokens, account: Account, one: SignInSource, other: SignInSource, same: bool
) -> None:
    grant = await began(tokens, account)
    assert isinstance(await tokens.rotate(grant.refresh_token, one), SessionGrant)
    assert isinstance(await tokens.rotate(grant.refresh_token, other), SessionGrant) is same


async def test_no_store_that_was_damaged_gives_a_successor(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    for sealed in ("", "A", "!", "A" * 10, None):
        grant = await began(tokens, account)
        await tokens.rotate(grant.refresh_token, SOURCE)
        async with store.transaction() as tx:
            await tx.run("UPDATE refresh_tokens SET successor_sealed = :s", s=sealed)
        assert not isinstance(await tokens.rotate(grant.refresh_token, SOURCE), SessionGrant)


async def test_of_a_use_whose_moment_is_not_known_nothing_is_given_again(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    grant = await began(tokens, account)
    await tokens.rotate(grant.refresh_token, SOURCE)
    async with store.transaction() as tx:
        await tx.run("UPDATE refresh_tokens SET used_ms = NULL")
    assert isinstance(await tokens.rotate(grant.refresh_token, SOURCE), ReuseDetected)


async def test_what_the_version_before_has_sealed_is_given_again(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    """Nodes of two versions serve side by side while one replaces the other."""
    grant = await began(tokens, account)
    rotated = await tokens.rotate(grant.refresh_token, SOURCE)
    assert isinstance(rotated, SessionGrant)
    info = b"authgate refresh successor"
    key = HKDF(SHA256(), 32, salt=None, info=info).derive(grant.refresh_token.encode())
    nonce = bytes(12)
    sealed = AESGCM(key).encrypt(nonce, rotated.refresh_token.encode(), grant.session_id.encode())
    client = hashlib.sha256()
    for part in (b"Firefox", b"192.0.2.0/24"):
        client.update(len(part).to_bytes(8, "big") + part)
    async with store.transaction() as tx:
        changed = await tx.run(
            "UPDATE refresh_tokens SET successor_sealed = :sealed, used_by = :client"
            " WHERE hash = :hash AND used_by = :client",
            sealed=encoded(nonce + sealed),
            client=encoded(client.digest()),
            hash=hash_token(grant.refresh_token),
        )
    assert changed == 1
    again = await tokens.rotate(grant.refresh_token, SOURCE)
    assert isinstance(again, SessionGrant)
    assert again.refresh_token == rotated.refresh_token


async def test_a_session_without_a_password_opens_only_where_that_is_said(
    tokens: RefreshTokens, account: Account
) -> None:
    """Who forgot to say by what the account was proven gets nothing."""
    refused = await tokens.begin(account.id, SOURCE, amr=("hwk", "user", "mfa"))
    assert refused is Reason.INVALID_CREDENTIALS
    grant = await tokens.begin(
        account.id, SOURCE, without_password=True, amr=("hwk", "user", "mfa")
    )
    assert isinstance(grant, SessionGrant)
    assert grant.amr == ("hwk", "user", "mfa")


async def test_a_session_without_a_password_asks_what_the_account_is_now(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    unverified = await tokens.begin(
        account.id, SOURCE, without_password=True, verified_only=True, amr=("fed",)
    )
    assert unverified is Reason.EMAIL_UNVERIFIED
    await Accounts(store).disable(account.id)
    disabled = await tokens.begin(account.id, SOURCE, without_password=True, amr=("fed",))
    assert disabled is Reason.ACCOUNT_DISABLED
    gone = await tokens.begin("nobody", SOURCE, without_password=True, amr=("fed",))
    assert gone is Reason.INVALID_CREDENTIALS
