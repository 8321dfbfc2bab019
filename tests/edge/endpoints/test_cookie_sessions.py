"""`transport: cookie` through real sockets, a real SQL store and a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.endpoints import cookie_sessions
from gateway.identity.sessions.session_room import SESSIONS_MAX
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import SessionGrant
from gateway.identity.sign_in.session_cookies import hash_cookie
from gateway.model import ChangeKind
from gateway.stores.redis import RedisStore
from tests.edge.auth_house import CREDENTIALS, EMAIL, House, open_house, reason, told
from tests.edge.endpoints.cookie_calls import CORS, MINT, SAME, ask, empty, expires, signed_in


@pytest.fixture
async def house(tmp_path: Path, redis: RedisStore) -> AsyncIterator[House]:
    async with open_house(tmp_path, redis=redis, auth_cors=CORS) as opened:
        await opened.register()
        yield opened


# --- login ---


async def test_a_sign_in_by_cookie_says_no_token(house: House) -> None:
    _, answer = await signed_in(house)
    body = told(answer)
    assert body.keys() == {"expires_in", "csrf_token", "user"}
    assert body["expires_in"] == 900
    assert body["user"].keys() == {"user_id", "email", "roles"}


async def test_the_cookie_has_every_attribute_of_its_prefix(house: House) -> None:
    _, answer = await signed_in(house)
    (line,) = [v for v in answer.values("set-cookie") if v.startswith(b"__Host-session=")]
    assert line.split(b"; ")[1:] == [
        b"Max-Age=604800",
        b"Path=/",
        b"Secure",
        b"HttpOnly",
        b"SameSite=Lax",
    ]


async def test_the_family_behind_it_is_like_any_other(house: House) -> None:
    cookie, _ = await signed_in(house, "User-Agent: Browser/1")
    answer = await ask(house, "GET", "/auth/sessions", cookie)
    (session,) = told(answer)["sessions"]
    assert session["user_agent"] == "Browser/1"
    assert session["current"] is True
    async with house.database.read_transaction() as tx:
        row = await tx.one("SELECT transport FROM families")
    assert row is not None
    assert row["transport"] == "cookie"


async def test_neither_store_holds_the_cookie(house: House, redis: RedisStore) -> None:
    cookie, _ = await signed_in(house)
    keys = await redis.call("KEYS", f"{redis.prefix}session:*")
    assert keys == [f"{redis.prefix}session:{hash_cookie(cookie)}"]
    sealed = await redis.call("GET", keys[0])
    async with house.database.read_transaction() as tx:
        tokens = await tx.all("SELECT * FROM refresh_tokens")
        families = await tx.all("SELECT * FROM families")
    assert cookie not in f"{sealed}{[dict(r) for r in (*tokens, *families)]}"


async def test_what_rests_in_the_stores_signs_nobody_in(house: House, redis: RedisStore) -> None:
    cookie, _ = await signed_in(house)
    answer = await ask(house, "GET", "/auth/me", hash_cookie(cookie))
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    for stolen in (cookie, hash_cookie(cookie)):
        answer = await house.ask("POST", "/auth/refresh", {"refresh_token": stolen})
        assert (answer.status, reason(answer)) == (401, "invalid_refresh_token")


async def test_a_sign_in_replaces_a_chosen_cookie(house: House) -> None:
    """CVE-2018-1000519: what an attacker planted before the sign-in is worth nothing after."""
    chosen = MINT.new()
    cookie, _ = await signed_in(house, f"Cookie: __Host-session={chosen}", SAME)
    assert cookie != chosen
    assert (await ask(house, "GET", "/auth/me", chosen)).status == 401
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200


async def test_a_second_sign_in_ends_the_first_of_this_browser(house: House) -> None:
    first, _ = await signed_in(house)
    second, _ = await signed_in(house, f"Cookie: __Host-session={first}", SAME)
    assert (await ask(house, "GET", "/auth/me", first)).status == 401
    answer = await ask(house, "GET", "/auth/sessions", second)
    assert len(told(answer)["sessions"]) == 1


async def test_a_session_that_makes_room_leaves_nothing_in_redis(
    house: House, redis: RedisStore
) -> None:
    oldest, _ = await signed_in(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    for number in range(SESSIONS_MAX - 1):
        house.clock.move(1)
        begun = await house.deps.refresh_tokens.begin(
            account.id,
            SignInSource("agent", f"192.0.2.{number}"),
            checked_hash=account.password_hash,
        )
        assert isinstance(begun, SessionGrant)
    assert (await ask(house, "GET", "/auth/me", oldest)).status == 200
    await house.sign_in()
    assert (await ask(house, "GET", "/auth/me", oldest)).status == 401
    assert await redis.call("KEYS", f"{redis.prefix}session:*") == []
    assert "session_ended" in {event.kind.value for event in house.recorded.events}


async def test_a_sign_in_of_another_browser_ends_nothing(house: House) -> None:
    first, _ = await signed_in(house)
    await signed_in(house)
    assert (await ask(house, "GET", "/auth/me", first)).status == 200


# --- calls ---


async def test_the_cookie_signs_a_call_in(house: House) -> None:
    cookie, _ = await signed_in(house)
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert answer.status == 200
    assert told(answer)["email"] == EMAIL
    assert told(answer)["expires_at"] == int(house.clock.now()) + 900


async def test_authorization_is_judged_and_the_cookie_beside_it_is_not(house: House) -> None:
    cookie, _ = await signed_in(house)
    header = f"Cookie: __Host-session={cookie}"
    answer = await house.ask("GET", "/auth/me", token="nonsense", headers=[header, SAME])
    assert (answer.status, reason(answer)) == (401, "token_malformed")
    assert not expires(answer)
    bearer = await house.sign_in()
    answer = await house.ask("POST", "/auth/logout", token=bearer["access_token"], headers=[header])
    assert answer.status == 204
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200


async def test_two_session_cookies_are_refused(house: House) -> None:
    cookie, _ = await signed_in(house)
    twice = f"Cookie: __Host-session={cookie}; __Host-session={cookie}"
    assert (await house.ask("GET", "/auth/me", headers=[twice, SAME])).status == 400


async def test_the_account_is_read_again_when_its_15_minutes_are_over(house: House) -> None:
    cookie, _ = await signed_in(house)
    async with house.database.transaction() as tx:
        await tx.run("UPDATE accounts SET email = 'Alice@example.com'")
    assert told(await ask(house, "GET", "/auth/me", cookie))["email"] == EMAIL
    house.clock.move(900)
    body = told(await ask(house, "GET", "/auth/me", cookie))
    assert body["email"] == "Alice@example.com"
    assert body["expires_at"] == int(house.clock.now()) + 900


async def test_within_the_15_minutes_sql_is_not_asked(house: House) -> None:
    cookie, _ = await signed_in(house)
    house.database.away = True
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200
    house.clock.move(900)
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (503, "store_unavailable")
    house.database.away = False
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200


async def test_a_session_in_use_is_read_again_before_its_15_minutes_are_over(house: House) -> None:
    """So it goes on when SQL is away just then."""
    cookie, _ = await signed_in(house)
    house.clock.move(720)
    async with asyncio.timeout(5):
        while told(await ask(house, "GET", "/auth/me", cookie))["expires_at"] < (
            house.clock.now() + 899
        ):
            await asyncio.sleep(0.01)
    house.database.away = True
    house.clock.move(700)
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200


async def test_a_session_waits_for_nobody_before_its_15_minutes_are_over(house: House) -> None:
    cookie, _ = await signed_in(house)
    house.database.away = True
    house.clock.move(899)
    for _ in range(3):
        assert (await ask(house, "GET", "/auth/me", cookie)).status == 200


async def test_many_calls_at_once_read_the_account_once(house: House) -> None:
    cookie, _ = await signed_in(house)
    house.clock.move(900)
    commits = 0

    async def count() -> None:
        nonlocal commits
        commits += 1

    house.database.before_commit = count
    answers = await asyncio.gather(*(ask(house, "GET", "/auth/me", cookie) for _ in range(12)))
    assert {answer.status for answer in answers} == {200}
    assert commits <= 2


async def test_a_change_of_roles_takes_effect_on_the_next_call(house: House) -> None:
    cookie, _ = await signed_in(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.workers.publish(await house.deps.accounts.grant(account.id, "manager"))
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, told(answer)["roles"]) == (200, ["manager"])
    await house.workers.publish(await house.deps.accounts.revoke(account.id, "manager"))
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, told(answer)["roles"]) == (200, [])


async def test_a_revoked_session_is_refused_and_its_cookie_taken(house: House) -> None:
    cookie, _ = await signed_in(house)
    async with house.database.read_transaction() as tx:
        row = await tx.one("SELECT id FROM families")
    assert row is not None
    changes = await house.deps.sessions.end(str(row["id"]), "operator")
    await house.workers.publish(changes or [])
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (401, "token_revoked")
    assert expires(answer)


async def test_a_session_that_is_over_is_remembered_for_a_minute_at_most(house: House) -> None:
    """However few others there are: whoever signed out asks no more."""
    cookie, _ = await signed_in(house)
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200
    async with house.database.read_transaction() as tx:
        row = await tx.one("SELECT id FROM families")
    assert row is not None
    house.deps.cookies.sweep()
    assert len(house.deps.cookies) == 1
    await house.workers.publish(await house.deps.sessions.end(str(row["id"]), "operator") or [])
    house.deps.cookies.sweep()
    assert len(house.deps.cookies) == 0


async def test_a_disabled_account_has_no_session(house: House) -> None:
    cookie, _ = await signed_in(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.workers.publish(await house.deps.accounts.disable(account.id))
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 401
    house.clock.move(900)
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (401, "session_unknown")


async def test_a_session_that_ended_in_sql_alone_is_over_with_its_15_minutes(house: House) -> None:
    """The announcement was lost, or the revocation has long been forgotten."""
    cookie, _ = await signed_in(house)
    async with house.database.transaction() as tx:
        await tx.run("UPDATE families SET ended_at = created_at")
    house.clock.move(900)
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    assert expires(answer)


async def test_no_session_outlives_7_days_however_it_is_used(house: House) -> None:
    cookie, _ = await signed_in(house)
    for _ in range(7):
        house.clock.move(86_000)
        assert (await ask(house, "GET", "/auth/me", cookie)).status == 200
    house.clock.move(604_800 - 7 * 86_000)
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (401, "session_unknown")


@pytest.mark.parametrize(
    ("access_ttl_s", "idle_s", "ttl_s"),
    [(900, 0, 900), (900, 1800, 180), (900, 86_400, 900), (900, 5, 1)],
)
def test_a_session_in_use_is_written_down_well_before_it_would_count_as_unused(
    access_ttl_s: int, idle_s: int, ttl_s: int
) -> None:
    assert cookie_sessions.reread_interval_s(access_ttl_s, idle_s) == ttl_s


async def test_a_change_of_password_ends_every_session_but_this_one(house: House) -> None:
    mine, _ = await signed_in(house)
    other, _ = await signed_in(house)
    body = {"password": CREDENTIALS["password"], "new_password": "another horse 8 stapler"}
    answer = await ask(house, "POST", "/auth/password/change", mine, body=body)
    assert answer.status == 204
    assert (await ask(house, "GET", "/auth/me", mine)).status == 200
    assert (await ask(house, "GET", "/auth/me", other)).status == 401


# --- refresh ---


async def test_a_refresh_with_the_cookie_reads_the_account_and_keeps_the_cookie(
    house: House,
) -> None:
    cookie, signed = await signed_in(house)
    house.clock.move(600)
    answer = await ask(house, "POST", "/auth/refresh", cookie)
    assert answer.status == 200
    assert told(answer) == told(signed)
    assert not answer.values("set-cookie")
    body = told(await ask(house, "GET", "/auth/me", cookie))
    assert body["expires_at"] == int(house.clock.now()) + 900


async def test_three_tabs_that_refresh_at_once_all_go_on(house: House) -> None:
    cookie, _ = await signed_in(house)
    answers = await asyncio.gather(
        *(ask(house, "POST", "/auth/refresh", cookie, body={}) for _ in range(3))
    )
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 200


@pytest.mark.parametrize("cookie", ["A" * 43, "nonsense"])
async def test_a_refresh_with_a_cookie_of_nobody_is_401(house: House, cookie: str) -> None:
    answer = await ask(house, "POST", "/auth/refresh", cookie)
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    assert expires(answer)


async def test_a_refresh_token_in_the_body_is_what_is_meant(house: House) -> None:
    cookie, _ = await signed_in(house)
    tokens = await house.sign_in()
    answer = await ask(
        house, "POST", "/auth/refresh", cookie, body={"refresh_token": tokens["refresh_token"]}
    )
    assert told(answer).keys() >= {"access_token", "refresh_token"}


# --- logout ---


async def test_a_sign_out_ends_the_session_and_clears_the_browser(
    house: House, redis: RedisStore
) -> None:
    cookie, _ = await signed_in(house)
    answer = await ask(house, "POST", "/auth/logout", cookie)
    assert answer.status == 204
    assert expires(answer)
    assert answer.values("clear-site-data") == [b'"cache", "storage"']
    assert [c.kind for c in house.workers.told] == [ChangeKind.SESSION]
    assert await redis.call("KEYS", f"{redis.prefix}session:*") == []
    answer = await ask(house, "GET", "/auth/me", cookie)
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    assert expires(answer)


async def test_a_sign_out_that_is_not_confirmed_is_503_until_it_is(house: House) -> None:
    cookie, _ = await signed_in(house)
    house.workers.confirm = False
    answer = await ask(house, "POST", "/auth/logout", cookie)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")
    assert not answer.values("set-cookie")  # the browser must be able to ask again
    assert (await ask(house, "GET", "/auth/me", cookie)).status == 401
    house.workers.confirm = True
    answer = await ask(house, "POST", "/auth/logout", cookie)
    assert answer.status == 204
    assert expires(answer)


async def test_a_dead_session_is_signed_out_and_its_cookie_expires(
    house: House, redis: RedisStore
) -> None:
    """CVE-2026-34454: the sign-in page was shown while the cookie stayed."""
    cookie, _ = await signed_in(house)
    await empty(redis)
    answer = await ask(house, "POST", "/auth/logout", cookie)
    assert answer.status == 204
    assert expires(answer)
    assert [c.kind for c in house.workers.told] == [ChangeKind.SESSION]
    answer = await ask(house, "POST", "/auth/logout", MINT.new())
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    assert expires(answer)


async def test_a_sign_out_everywhere_ends_the_other_sessions_too(house: House) -> None:
    cookie, _ = await signed_in(house)
    other, _ = await signed_in(house)
    tokens = await house.sign_in()
    answer = await ask(house, "POST", "/auth/logout", cookie, body={"all": True})
    assert answer.status == 204
    assert (await ask(house, "GET", "/auth/me", other)).status == 401
    assert (await house.ask("GET", "/auth/me", token=tokens["access_token"])).status == 401


async def test_while_sql_is_away_a_sign_out_is_no_204(house: House) -> None:
    cookie, _ = await signed_in(house)
    house.database.away = True
    answer = await ask(house, "POST", "/auth/logout", cookie)
    assert (answer.status, reason(answer)) == (503, "store_unavailable")
    assert not answer.values("set-cookie")


async def test_the_cookie_that_changed_the_password_goes_on_and_every_other_ends(
    house: House,
) -> None:
    this, _ = await signed_in(house)
    other, _ = await signed_in(house)
    body = {"password": CREDENTIALS["password"], "new_password": "seven quiet rivers carry boats"}
    changed = await ask(house, "POST", "/auth/password/change", this, body=body)
    assert changed.status == 204
    assert (await ask(house, "GET", "/auth/me", this)).status == 200
    assert (await ask(house, "POST", "/auth/refresh", this)).status == 200
    dead = await ask(house, "GET", "/auth/me", other)
    assert dead.status == 401
