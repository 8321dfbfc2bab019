"""What aiohttp-session leaves open, and is mended here; each against a real Valkey."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiohttp_session import Session

from gateway.edge.replies.cookies import ENDS_AT, SessionStorage, cookie_of, parting
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sign_in.session_cookies import COOKIE, EXPIRED, CookieMint, hash_of
from gateway.model import Call, Credential, CredentialKind, Reason
from gateway.stores.redis import RedisStore, open_redis
from tests.databases import NOON, Hands

SEALER = SessionSealer(b"s" * 32)
MINT = CookieMint(b"m" * 32)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def redis(redis_url: str, key_prefix: str) -> AsyncIterator[RedisStore]:
    store = open_redis(redis_url, prefix=key_prefix)
    yield store
    await store.close()


@pytest.fixture
def storage(redis: RedisStore, clock: Hands) -> SessionStorage:
    return SessionStorage(redis, clock, SEALER, MINT)


async def begun(storage: SessionStorage, life_s: int = 600) -> tuple[Session, str]:
    session = await storage.new_session()
    session[ENDS_AT] = NOON + life_s
    session["sub"] = "alice"
    return session, await storage.seal(session)


def asked(cookie: str | None = None) -> web.Request:
    headers = {} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"}
    return make_mocked_request("GET", "/", headers=headers)


async def test_a_sealed_session_is_found_by_its_cookie(storage: SessionStorage) -> None:
    _, cookie = await begun(storage)
    found = await storage.load_session(asked(cookie))
    assert not found.new
    assert found["sub"] == "alice"


async def test_a_dump_of_redis_holds_no_cookie(storage: SessionStorage, redis: RedisStore) -> None:
    _, cookie = await begun(storage)
    keys = await redis.call("KEYS", f"{redis.prefix}*")
    assert keys == [f"{redis.prefix}session:{hash_of(cookie)}"]
    values = [await redis.call("GET", key) for key in keys]
    assert cookie not in json.dumps([keys, values])


class Unasked:
    """A Redis that nobody may ask; meets `edge.cookies.RedisCalls`."""

    prefix = "unasked:"
    client = open_redis("redis://127.0.0.1:1").client

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
    session = await storage.load_session(asked(chosen))
    assert session.new
    session[ENDS_AT] = NOON + 600
    answer = web.Response()
    await storage.save_session(asked(chosen), answer, session)
    assert chosen not in answer.headers["Set-Cookie"]
    assert (await storage.load(chosen)).new


async def test_the_id_of_before_ends_when_a_new_session_replaces_it(
    storage: SessionStorage,
) -> None:
    _, before = await begun(storage)
    replacing = await storage.new_session()
    replacing[ENDS_AT] = NOON + 600
    answer = web.Response()
    await storage.save_session(asked(before), answer, replacing)
    assert (await storage.load(before)).new
    given = answer.headers["Set-Cookie"].split(";")[0].removeprefix(f"{COOKIE}=")
    assert not (await storage.load(given)).new


async def test_the_end_of_a_session_takes_cookie_and_key_away(
    storage: SessionStorage, redis: RedisStore
) -> None:
    session, cookie = await begun(storage)
    session.invalidate()
    answer = web.Response()
    await storage.save_session(asked(cookie), answer, session)
    assert answer.headers.getall("Set-Cookie") == [EXPIRED]
    assert await redis.call("KEYS", f"{redis.prefix}*") == []


async def test_no_change_makes_a_session_young_again(
    storage: SessionStorage, redis: RedisStore, clock: Hands
) -> None:
    session, cookie = await begun(storage, life_s=600)
    clock.move(500)
    session["sub"] = "still alice"
    await storage.seal(session)
    assert 0 < int(await redis.call("TTL", f"{redis.prefix}session:{hash_of(cookie)}")) <= 600
    clock.move(100)
    assert (await storage.load(cookie)).new


async def test_a_cookie_sent_after_its_end_is_no_session_although_redis_has_it(
    storage: SessionStorage, redis: RedisStore, clock: Hands
) -> None:
    """CVE-2018-1000814: a server that forgot to expire the key, or was restored."""
    _, cookie = await begun(storage, life_s=600)
    await redis.call("PERSIST", f"{redis.prefix}session:{hash_of(cookie)}")
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


async def test_a_streamed_answer_carries_the_cookie(storage: SessionStorage) -> None:
    session = await storage.new_session()
    session[ENDS_AT] = NOON + 600
    answer = web.StreamResponse()
    await storage.save_session(asked(), answer, session)
    assert answer.headers["Set-Cookie"].startswith(f"{COOKIE}=")


async def test_a_session_cannot_be_sealed_once_its_answer_is_on_its_way(
    storage: SessionStorage,
) -> None:
    session, cookie = await begun(storage)
    answer = web.StreamResponse()
    await answer.prepare(asked(cookie))
    with pytest.raises(RuntimeError):
        await storage.save_session(asked(cookie), answer, session)


@pytest.mark.parametrize(
    "garbled",
    ["", "null", "[]", "{", '{"session": 1}', '{"session": {}}', '{"session": {"ends_at": "9"}}'],
)
async def test_what_is_garbled_in_redis_is_no_session(
    storage: SessionStorage, redis: RedisStore, garbled: str
) -> None:
    _, cookie = await begun(storage)
    await redis.call("SET", f"{redis.prefix}session:{hash_of(cookie)}", garbled)
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
        return Call("GET", "a", "/", ("",), "", (), "127.0.0.1", "http", credential)

    cookie = call(Credential(CredentialKind.COOKIE, MINT.new()))
    assert cookie_of(cookie) is not None
    assert parting(cookie, Reason.SESSION_UNKNOWN) == (EXPIRED,)
    assert parting(cookie, Reason.TOKEN_REVOKED) == (EXPIRED,)
    nonsense = call(Credential(CredentialKind.COOKIE, "nonsense"))
    assert parting(nonsense, Reason.SESSION_UNKNOWN) == (EXPIRED,)
    assert parting(cookie, Reason.STORE_UNAVAILABLE) == ()
    assert parting(cookie, Reason.REPLICA_STALE) == ()
    assert parting(cookie, Reason.NO_RULE) == ()
    bearer = call(Credential(CredentialKind.BEARER, "t"))
    assert parting(bearer, Reason.TOKEN_REVOKED) == ()


async def test_who_can_write_redis_cannot_be_anybody(
    storage: SessionStorage, redis: RedisStore, clock: Hands
) -> None:
    _, cookie = await begun(storage)
    key = f"{redis.prefix}session:{hash_of(cookie)}"
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
    written = await redis.call("GET", f"{redis.prefix}session:{hash_of(others)}")
    await redis.call("SET", f"{redis.prefix}session:{hash_of(own)}", written)
    assert (await storage.load(own)).new


async def test_a_dump_of_redis_names_nobody(storage: SessionStorage, redis: RedisStore) -> None:
    _, cookie = await begun(storage)
    assert "alice" not in await redis.call("GET", f"{redis.prefix}session:{hash_of(cookie)}")
