"""What aiohttp-session leaves open, and is mended here; each against a real Valkey."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp_session import Session

from gateway.edge.replies.cookies import (
    ENDS_AT,
    SessionStorage,
    cookie_of,
    expired_cookie,
    new_session,
)
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sign_in.session_cookies import EXPIRED, CookieMint, hash_cookie
from gateway.model import Call, Credential, CredentialKind, Reason
from gateway.stores.redis import RedisStore, open_redis
from tests.databases import NOON, Hands

SEALER = SessionSealer(b"s" * 32)
MINT = CookieMint(b"m" * 32)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def storage(redis: RedisStore, clock: Hands) -> SessionStorage:
    return SessionStorage(redis, clock, SEALER, MINT)


async def begun(storage: SessionStorage, life_s: int = 600) -> tuple[Session, str]:
    session = new_session()
    session[ENDS_AT] = NOON + life_s
    session["sub"] = "alice"
    return session, await storage.seal(session)


async def test_a_sealed_session_is_found_by_its_cookie(storage: SessionStorage) -> None:
    _, cookie = await begun(storage)
    found = await storage.load(cookie)
    assert not found.new
    assert found["sub"] == "alice"


async def test_a_dump_of_redis_holds_no_cookie(storage: SessionStorage, redis: RedisStore) -> None:
    _, cookie = await begun(storage)
    keys = await redis.call("KEYS", f"{redis.prefix}*")
    assert keys == [f"{redis.prefix}session:{hash_cookie(cookie)}"]
    values = [await redis.call("GET", key) for key in keys]
    assert cookie not in json.dumps([keys, values])


class Unasked:
    """A Redis that nobody may ask; meets `edge.cookies.RedisCalls`."""

    prefix = "unasked:"

    async def call(self, *words: str | int | float) -> Any:
        raise AssertionError(words)


@pytest.mark.parametrize(
    "cookie",
    ["", "A" * 43, "A" * 54, CookieMint(b"n" * 32).new()],
    ids=["none", "short", "unmarked", "marked elsewhere"],
)
async def test_a_cookie_that_we_cannot_have_given_asks_nobody(clock: Hands, cookie: str) -> None:
    storage = SessionStorage(Unasked(), clock, SEALER, MINT)
    assert (await storage.load(cookie)).new
    await storage.end(cookie)


async def test_an_id_that_an_attacker_chose_becomes_no_session(storage: SessionStorage) -> None:
    """CVE-2018-1000519."""
    chosen = MINT.new()
    session = await storage.load(chosen)
    assert session.new
    session[ENDS_AT] = NOON + 600
    assert await storage.seal(session) != chosen
    assert (await storage.load(chosen)).new


async def test_the_end_of_a_session_takes_its_key_away(
    storage: SessionStorage, redis: RedisStore
) -> None:
    _, cookie = await begun(storage)
    await storage.end(cookie)
    assert (await storage.load(cookie)).new
    assert await redis.call("KEYS", f"{redis.prefix}*") == []


async def test_no_change_makes_a_session_young_again(
    storage: SessionStorage, redis: RedisStore, clock: Hands
) -> None:
    session, cookie = await begun(storage, life_s=600)
    clock.move(500)
    session["sub"] = "still alice"
    await storage.seal(session)
    assert 0 < int(await redis.call("TTL", f"{redis.prefix}session:{hash_cookie(cookie)}")) <= 600
    clock.move(100)
    assert (await storage.load(cookie)).new


async def test_a_cookie_sent_after_its_end_is_no_session_although_redis_has_it(
    storage: SessionStorage, redis: RedisStore, clock: Hands
) -> None:
    """CVE-2018-1000814: a server that forgot to expire the key, or was restored."""
    _, cookie = await begun(storage, life_s=600)
    await redis.call("PERSIST", f"{redis.prefix}session:{hash_cookie(cookie)}")
    clock.move(600)
    assert (await storage.load(cookie)).new


async def test_a_session_that_ended_meanwhile_is_not_sealed_back_to_life(
    storage: SessionStorage,
) -> None:
    _, cookie = await begun(storage)
    under_way = await storage.load(cookie)
    await storage.end(cookie)
    under_way["sub"] = "mallory"
    await storage.seal(under_way)
    assert (await storage.load(cookie)).new


@pytest.mark.parametrize(
    "garbled",
    ["", "null", "[]", "{", '{"session": 1}', '{"session": {}}', '{"session": {"ends_at": "9"}}'],
)
async def test_what_is_garbled_in_redis_is_no_session(
    storage: SessionStorage, redis: RedisStore, garbled: str
) -> None:
    _, cookie = await begun(storage)
    await redis.call("SET", f"{redis.prefix}session:{hash_cookie(cookie)}", garbled)
    assert (await storage.load(cookie)).new


@pytest.mark.parametrize("cookie", ["", "x", "*", "A" * 5000])
async def test_what_is_no_cookie_of_ours_is_not_looked_up(
    clock: Hands, redis: RedisStore, cookie: str
) -> None:
    await redis.close()
    away = open_redis("redis://127.0.0.1:1")
    assert (await SessionStorage(away, clock, SEALER, MINT).load(cookie)).new
    await away.close()


def test_a_refusal_takes_only_a_dead_sessions_cookie_away() -> None:
    def call(credential: Credential | Reason | None) -> Call:
        return Call(
            "GET",
            "a",
            "/",
            ("",),
            "",
            headers=(),
            client_ip="127.0.0.1",
            scheme="http",
            credential=credential,
        )

    cookie = call(Credential(CredentialKind.COOKIE, MINT.new()))
    assert cookie_of(cookie) is not None
    assert expired_cookie(cookie, Reason.SESSION_UNKNOWN) == (EXPIRED,)
    assert expired_cookie(cookie, Reason.TOKEN_REVOKED) == (EXPIRED,)
    nonsense = call(Credential(CredentialKind.COOKIE, "nonsense"))
    assert expired_cookie(nonsense, Reason.SESSION_UNKNOWN) == (EXPIRED,)
    assert expired_cookie(cookie, Reason.STORE_UNAVAILABLE) == ()
    assert expired_cookie(cookie, Reason.REPLICA_STALE) == ()
    assert expired_cookie(cookie, Reason.NO_RULE) == ()
    bearer = call(Credential(CredentialKind.BEARER, "t"))
    assert expired_cookie(bearer, Reason.TOKEN_REVOKED) == ()


async def test_who_can_write_redis_cannot_be_anybody(
    storage: SessionStorage, redis: RedisStore, clock: Hands
) -> None:
    _, cookie = await begun(storage)
    key = f"{redis.prefix}session:{hash_cookie(cookie)}"
    made_up = json.dumps({"created": NOON, "session": {ENDS_AT: NOON + 600, "sub": "root"}})
    stranger = SessionSealer(b"x" * 32)
    for text in (made_up, stranger.seal(cookie, made_up), "", "AAAA", "\u2603", "A" * 100_000):
        await redis.call("SET", key, text)
        assert (await storage.load(cookie)).new


async def test_a_session_moved_to_another_cookie_does_not_open(
    storage: SessionStorage, redis: RedisStore
) -> None:
    """Somebody signs in, and puts what the administrator has under their own cookie."""
    _, own = await begun(storage)
    _, others = await begun(storage)
    written = await redis.call("GET", f"{redis.prefix}session:{hash_cookie(others)}")
    await redis.call("SET", f"{redis.prefix}session:{hash_cookie(own)}", written)
    assert (await storage.load(own)).new


async def test_a_dump_of_redis_names_nobody(storage: SessionStorage, redis: RedisStore) -> None:
    _, cookie = await begun(storage)
    assert "alice" not in await redis.call("GET", f"{redis.prefix}session:{hash_cookie(cookie)}")
