"""Cookie sessions while Redis is away, emptied, or asked to forget somebody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.edge.endpoints import cookie_sessions
from gateway.edge.replies.cookies import erase_sessions
from gateway.stores.redis import RedisStore, open_redis
from tests.edge.auth_house import CREDENTIALS, EMAIL, House, open_house, reason
from tests.edge.endpoints.cookie_calls import CORS, ask, empty, expires, signed_in
from tests.servers import ValkeyServer


@pytest.fixture
async def house(tmp_path: Path, redis: RedisStore) -> AsyncIterator[House]:
    async with open_house(tmp_path, redis=redis, auth_cors=CORS) as opened:
        await opened.register()
        yield opened


async def test_an_emptied_redis_ends_cookie_sessions_and_no_others(
    house: House, redis: RedisStore
) -> None:
    cookie, _ = await signed_in(house)
    tokens = await house.sign_in()
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200
    await empty(redis)
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    assert expires(answer)
    assert (await house.ask("GET", "/auth/me", token=tokens["access_token"])).status == 200


async def test_while_redis_is_away_a_known_session_goes_on_and_others_are_503(
    tmp_path: Path, own_valkey: Callable[..., ValkeyServer]
) -> None:
    server = own_valkey()
    redis = open_redis(f"redis://127.0.0.1:{server.port}")
    async with open_house(tmp_path, redis=redis) as house:
        await house.register()
        seen, _ = await signed_in(house)
        unseen, _ = await signed_in(house)
        assert (await ask(house, "GET", "/auth/me", seen)).status == 200
        server.kill()
        assert (await ask(house, "GET", "/auth/me", seen)).status == 200
        answer = await ask(house, "GET", "/auth/me", unseen)
        assert (answer.status, reason(answer)) == (503, "store_unavailable")
        assert not answer.values("set-cookie")
        answer = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"})
        assert (answer.status, reason(answer)) == (503, "store_unavailable")
        async with house.database.read_transaction() as tx:
            row = await tx.one("SELECT COUNT(*) AS n FROM families WHERE ended_at IS NULL")
        assert row is not None
        assert row["n"] == 2  # the sign-in that got no cookie left no session behind
        assert (await ask(house, "POST", "/auth/logout", seen)).status == 204
        assert (await ask(house, "GET", "/auth/me", seen)).status in (401, 503)
    await redis.close()


async def test_an_emptied_redis_that_then_goes_away_revives_nobody(
    tmp_path: Path, own_valkey: Callable[..., ValkeyServer]
) -> None:
    server = own_valkey()
    redis = open_redis(f"redis://127.0.0.1:{server.port}")
    async with open_house(tmp_path, redis=redis) as house:
        await house.register()
        cookie, _ = await signed_in(house)
        assert (await ask(house, "GET", "/auth/me", cookie)).status == 200
        await redis.call("FLUSHALL")
        assert (await ask(house, "GET", "/auth/me", cookie)).status == 401
        server.kill()
        assert (await ask(house, "GET", "/auth/me", cookie)).status == 503
    await redis.close()


async def test_what_is_remembered_for_an_outage_is_bounded(
    tmp_path: Path, own_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cookie_sessions, "REMEMBERED_MAX", 2)
    server = own_valkey()
    redis = open_redis(f"redis://127.0.0.1:{server.port}")
    async with open_house(tmp_path, redis=redis) as house:
        await house.register()
        cookies = [(await signed_in(house))[0] for _ in range(4)]
        for cookie in cookies:
            await ask(house, "GET", "/auth/me", cookie)
        server.kill()
        answers = [await ask(house, "GET", "/auth/me", cookie) for cookie in cookies]
        assert [answer.status for answer in answers] == [503, 503, 200, 200]
    await redis.close()


async def test_what_redis_holds_of_an_account_can_be_erased(
    house: House, redis: RedisStore
) -> None:
    await signed_in(house)
    await signed_in(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    cookies = await house.deps.accounts.cookie_hashes(account.id)
    assert len(cookies) == 2
    await erase_sessions(redis, cookies)
    assert await redis.call("KEYS", f"{redis.prefix}session:*") == []
