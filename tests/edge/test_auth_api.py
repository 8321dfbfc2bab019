"""`/auth/*` through real sockets: statuses, shapes and reasons of contract 4."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.passwords import PasswordOptions
from gateway.identity.tokens import TokenSubject
from gateway.model import ChangeKind
from tests.edge.auth_house import PASSWORD, House, open_house, reason, request, told

EMAIL = "alice@example.com"
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


# --- register ---


async def test_registering_answers_201_with_the_account(house: House) -> None:
    answer = await house.ask(
        "POST", "/auth/register", {"email": " Alice@Example.com ", "password": PASSWORD}
    )
    assert answer.status == 201
    said = told(answer)
    assert said.pop("user_id")
    assert said == {"email": "Alice@Example.com", "email_verified": False, "roles": []}


async def test_a_taken_address_is_409_in_any_spelling(house: House) -> None:
    await house.register()
    answer = await house.ask(
        "POST", "/auth/register", {"email": "ALICE＠example.com", "password": PASSWORD}
    )
    assert answer.status == 422  # the wide sign is no part of an address that mail can reach
    answer = await house.ask(
        "POST", "/auth/register", {"email": "ALICE@Example.com", "password": PASSWORD}
    )
    assert (answer.status, reason(answer)) == (409, "email_taken")


@pytest.mark.parametrize("email", ["alice", "a@evil@company.com", "a@localhost", "a@b.com\nBcc: x"])
async def test_what_is_no_address_is_422_and_names_the_field(house: House, email: str) -> None:
    answer = await house.ask("POST", "/auth/register", {"email": email, "password": PASSWORD})
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert [error["field"] for error in told(answer)["errors"]] == ["email"]
    assert b"evil" not in answer.body


async def test_a_weak_password_is_422_with_a_hint(house: House) -> None:
    answer = await house.ask("POST", "/auth/register", {"email": EMAIL, "password": "alice1234"})
    assert (answer.status, reason(answer)) == (422, "weak_password")
    assert told(answer)["errors"][0]["field"] == "password"
    assert "address" in told(answer)["detail"]
    assert b"alice1234" not in answer.body


# --- login ---


async def test_signing_in_answers_tokens_and_the_user(house: House) -> None:
    account = await house.register("Alice@Example.com")
    said = await house.sign_in()
    assert said.pop("access_token").count(".") == 2
    assert len(said.pop("refresh_token")) == 43
    assert said == {
        "token_type": "Bearer",
        "expires_in": 900,
        "refresh_expires_in": 604_800,
        "user": {"user_id": account.id, "email": "Alice@Example.com", "roles": []},
    }


async def test_known_and_unknown_addresses_are_answered_alike(house: House) -> None:
    await house.register()
    known = await house.ask("POST", "/auth/login", {**CREDENTIALS, "password": "wrong one 17"})
    unknown = await house.ask(
        "POST", "/auth/login", {"email": "nobody@example.com", "password": "wrong one 17"}
    )
    assert (known.status, reason(known)) == (401, "invalid_credentials")
    assert known.values("www-authenticate")
    assert unknown.status == 401
    varying = {"request_id"}
    assert {k: v for k, v in told(known).items() if k not in varying} == {
        k: v for k, v in told(unknown).items() if k not in varying
    }


async def test_a_disabled_account_is_told_only_after_the_right_password(house: House) -> None:
    account = await house.register()
    await house.parts.accounts.disable(account.id)
    right = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (right.status, reason(right)) == (403, "account_disabled")
    wrong = await house.ask("POST", "/auth/login", {**CREDENTIALS, "password": "wrong one 17"})
    assert (wrong.status, reason(wrong)) == (401, "invalid_credentials")


async def test_the_cookie_transport_is_refused_by_name_until_it_is_there(house: House) -> None:
    answer = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"})
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert [error["field"] for error in told(answer)["errors"]] == ["transport"]
    await house.register()
    assert (
        await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "bearer"})
    ).status == 200


async def test_of_thirty_guesses_at_once_five_are_evaluated(house: House) -> None:
    await house.register()
    spellings = [EMAIL, "ALICE@example.com", " alice@example.com", "ａlice@example.com"]
    answers = await asyncio.gather(
        *(
            house.ask("POST", "/auth/login", {"email": spellings[n % 4], "password": f"guess {n}"})
            for n in range(30)
        )
    )
    assert [a.status for a in answers].count(401) == 5
    refused = [a for a in answers if a.status == 429]
    assert len(refused) == 25
    assert {reason(a) for a in refused} == {"too_many_attempts"}
    waits = sorted(int(a.values("retry-after")[0]) for a in refused)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 900


async def test_a_right_password_is_no_failure(house: House) -> None:
    await house.register()
    for _ in range(8):
        await house.sign_in()


async def test_a_login_that_could_not_be_judged_is_no_failure(house: House) -> None:
    await house.register()
    house.database.away = True
    for _ in range(8):
        answer = await house.ask("POST", "/auth/login", CREDENTIALS)
        assert (answer.status, reason(answer)) == (503, "store_unavailable")
        assert answer.values("retry-after")
    house.database.away = False
    await house.sign_in()


async def test_a_page_of_another_origin_cannot_sign_its_visitor_in(house: House) -> None:
    await house.register()
    for headers in (
        ["Origin: https://evil.example"],
        ["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"],
        ["Origin: null"],
    ):
        for path in ("/auth/login", "/auth/register"):
            answer = await house.ask("POST", path, CREDENTIALS, headers=headers)
            assert (answer.status, reason(answer)) == (403, "cross_origin")
    await house.sign_in(headers=["Sec-Fetch-Site: same-origin", "Origin: https://gate.example"])


async def test_a_hash_of_another_cost_is_renewed_at_sign_in(house: House) -> None:
    account = await house.register()
    house.parts.passwords.rounds = 11
    await house.sign_in()
    after = await house.parts.accounts.by_id(account.id)
    assert after is not None
    assert str(after.password_hash).startswith("v1$2b$11$")
    await house.sign_in()


# --- refresh ---


async def test_a_refresh_answers_as_a_login(house: House) -> None:
    await house.register()
    first = await house.sign_in()
    house.clock.move(100)
    answer = await house.ask("POST", "/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert answer.status == 200
    said = told(answer)
    assert said.keys() == first.keys()
    assert said["refresh_expires_in"] == 604_700
    assert said["refresh_token"] != first["refresh_token"]


async def test_a_stolen_refresh_token_ends_the_session_of_both(house: House) -> None:
    await house.register()
    owner = await house.sign_in(headers=["User-Agent: browser"])
    body = {"refresh_token": owner["refresh_token"]}
    stolen = told(await house.ask("POST", "/auth/refresh", body, headers=["User-Agent: thief"]))
    noticed = await house.ask("POST", "/auth/refresh", body, headers=["User-Agent: browser"])
    assert (noticed.status, reason(noticed)) == (401, "refresh_token_reused")
    assert noticed.values("www-authenticate")
    me = await house.ask("GET", "/auth/me", token=stolen["access_token"])
    assert (me.status, reason(me)) == (401, "token_revoked")
    dead = await house.ask("POST", "/auth/refresh", {"refresh_token": stolen["refresh_token"]})
    assert (dead.status, reason(dead)) == (401, "invalid_refresh_token")


async def test_fifty_refreshes_at_once_get_one_successor(house: House) -> None:
    await house.register()
    body = {"refresh_token": (await house.sign_in())["refresh_token"]}
    answers = await asyncio.gather(*(house.ask("POST", "/auth/refresh", body) for _ in range(50)))
    assert {a.status for a in answers} == {200}
    assert len({told(a)["refresh_token"] for a in answers}) == 1


# --- logout ---


async def test_a_logout_is_204_and_holds_at_once(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    answer = await house.ask("POST", "/auth/logout", token=session["access_token"])
    assert (answer.status, answer.body) == (204, b"")
    assert not answer.values("content-type")
    me = await house.ask("GET", "/auth/me", token=session["access_token"])
    assert (me.status, reason(me)) == (401, "token_revoked")
    late = await house.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
    assert late.status == 401


async def test_a_logout_that_no_worker_confirms_is_503_until_one_does(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    house.workers.confirm = False
    pending = await house.ask("POST", "/auth/logout", token=session["access_token"])
    assert (pending.status, reason(pending)) == (503, "revocation_pending")
    assert pending.values("retry-after")
    house.workers.confirm = True
    assert (await house.ask("POST", "/auth/logout", token=session["access_token"])).status == 204
    assert len({change.id for change in house.workers.told}) == 1


async def test_a_logout_while_sql_is_away_is_503_and_promises_nothing(house: House) -> None:
    # CVE-2020-15223: a store error during revocation was reported as success.
    await house.register()
    session = await house.sign_in()
    house.database.away = True
    answer = await house.ask("POST", "/auth/logout", token=session["access_token"])
    assert (answer.status, reason(answer)) == (503, "store_unavailable")
    assert answer.values("retry-after")
    house.database.away = False
    assert (await house.ask("GET", "/auth/me", token=session["access_token"])).status == 200


async def test_an_expired_token_still_signs_out(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    house.clock.move(5000)
    assert (await house.ask("GET", "/auth/me", token=session["access_token"])).status == 401
    assert (await house.ask("POST", "/auth/logout", token=session["access_token"])).status == 204
    late = await house.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
    assert late.status == 401


async def test_a_refresh_token_signs_out_even_when_it_was_used(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"refresh_token": session["refresh_token"]}
    second = told(await house.ask("POST", "/auth/refresh", body))
    for _ in range(2):
        assert (await house.ask("POST", "/auth/logout", body)).status == 204
    assert (await house.ask("GET", "/auth/me", token=second["access_token"])).status == 401


async def test_all_signs_out_of_every_session(house: House) -> None:
    await house.register()
    one, two = await house.sign_in(), await house.sign_in()
    answer = await house.ask("POST", "/auth/logout", {"all": True}, token=one["access_token"])
    assert answer.status == 204
    for session in (one, two):
        me = await house.ask("GET", "/auth/me", token=session["access_token"])
        assert (me.status, reason(me)) == (401, "token_revoked")
    assert (
        await house.ask("POST", "/auth/logout", {"all": True}, token=one["access_token"])
    ).status == 204


async def test_a_sign_in_right_after_all_is_not_refused_by_it(house: House) -> None:
    await house.register()
    one = await house.sign_in()
    await house.ask("POST", "/auth/logout", {"all": True}, token=one["access_token"])
    again = await house.sign_in()
    assert (await house.ask("GET", "/auth/me", token=again["access_token"])).status == 200


async def test_a_logout_without_anything_is_401(house: House) -> None:
    answer = await house.ask("POST", "/auth/logout")
    assert (answer.status, reason(answer)) == (401, "no_credential")
    assert b"error=" not in answer.values("www-authenticate")[0]
    forged = await house.ask("POST", "/auth/logout", token="a.b.c")
    assert (forged.status, reason(forged)) == (401, "token_malformed")
    unknown = await house.ask("POST", "/auth/logout", {"refresh_token": "x" * 43})
    assert (unknown.status, reason(unknown)) == (401, "invalid_refresh_token")


async def test_a_client_that_leaves_breaks_no_logout(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    house.database.before_commit = hold
    client = await house.client()
    await client.send(request("POST", "/auth/logout", b"", token=session["access_token"]))
    await reached.wait()
    client.close()
    house.database.before_commit = None
    go_on.set()
    await house.api.close()
    assert [change.kind for change in house.workers.told] == [ChangeKind.SESSION]


# --- one's own account ---


async def test_me_says_what_the_token_says_with_sql_away(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    house.database.away = True
    answer = await house.ask("GET", "/auth/me", token=session["access_token"])
    assert answer.status == 200
    said = told(answer)
    assert len(said.pop("session_id")) == 32
    assert said.pop("expires_at") == house.clock.at + 900
    assert said == {
        "user_id": account.id,
        "email": EMAIL,
        "email_verified": True,
        "roles": [],
    }


async def test_me_without_a_token_is_401_without_an_error_code(house: House) -> None:
    answer = await house.ask("GET", "/auth/me")
    assert (answer.status, reason(answer)) == (401, "no_credential")
    assert answer.values("www-authenticate") == [b'Bearer realm="authgate"']


async def test_no_answer_but_login_and_refresh_holds_a_token(house: House) -> None:
    # CVE-2024-39315: a page about the user returned their tokens.
    await house.register()
    session = await house.sign_in()
    for path in ("/auth/me", "/auth/sessions"):
        answer = await house.ask("GET", path, token=session["access_token"])
        assert answer.status == 200
        for secret in (session["access_token"], session["refresh_token"]):
            assert secret.encode() not in answer.body


async def test_own_sessions_are_listed_newest_first_with_this_one_marked(house: House) -> None:
    await house.register()
    old = await house.sign_in(headers=["User-Agent: old \x9b phone"])
    house.clock.move(60)
    new = await house.sign_in(headers=["User-Agent: new"])
    answer = await house.ask("GET", "/auth/sessions", token=old["access_token"])
    listed = told(answer)["sessions"]
    assert [s["user_agent"] for s in listed] == ["new", "old   phone"]
    assert [s["current"] for s in listed] == [False, True]
    assert listed[0].keys() == {
        "session_id",
        "created_at",
        "last_used_at",
        "expires_at",
        "address",
        "user_agent",
        "current",
    }
    assert listed[0]["address"] == "127.0.0.1"
    ended = await house.ask(
        "DELETE", f"/auth/sessions/{listed[0]['session_id']}", token=old["access_token"]
    )
    assert ended.status == 204
    assert (await house.ask("GET", "/auth/me", token=new["access_token"])).status == 401


@pytest.mark.parametrize("session_id", ["", "nothing", "a%20b", "*", "x" * 200])
async def test_a_session_that_is_not_there_is_404(house: House, session_id: str) -> None:
    await house.register()
    session = await house.sign_in()
    answer = await house.ask(
        "DELETE", f"/auth/sessions/{session_id}", token=session["access_token"]
    )
    assert (answer.status, reason(answer)) == (404, "route_unknown")


async def test_somebody_elses_session_is_404_and_lives_on(house: House) -> None:
    await house.register()
    await house.register("bob@example.com")
    alice, bob = await house.sign_in(), await house.sign_in("bob@example.com")
    sid = told(await house.ask("GET", "/auth/me", token=bob["access_token"]))["session_id"]
    answer = await house.ask("DELETE", f"/auth/sessions/{sid}", token=alice["access_token"])
    assert (answer.status, reason(answer)) == (404, "route_unknown")
    assert (await house.ask("GET", "/auth/me", token=bob["access_token"])).status == 200


async def test_a_changed_password_ends_the_other_sessions_and_not_this_one(house: House) -> None:
    await house.register()
    this, other = await house.sign_in(), await house.sign_in()
    answer = await house.ask(
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": "seven quiet rivers carry boats"},
        token=this["access_token"],
    )
    assert (answer.status, answer.body) == (204, b"")
    assert (await house.ask("GET", "/auth/me", token=this["access_token"])).status == 200
    assert (await house.ask("GET", "/auth/me", token=other["access_token"])).status == 401
    old = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert old.status == 401


async def test_a_stolen_token_guesses_no_password(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"password": "wrong one 17", "new_password": "seven quiet rivers carry boats"}
    answers = [
        await house.ask("POST", "/auth/password/change", body, token=session["access_token"])
        for _ in range(7)
    ]
    assert [a.status for a in answers] == [401] * 5 + [429] * 2
    assert reason(answers[0]) == "invalid_credentials"


async def test_a_weak_new_password_is_named(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"password": PASSWORD, "new_password": "password1"}
    answer = await house.ask("POST", "/auth/password/change", body, token=session["access_token"])
    assert (answer.status, reason(answer)) == (422, "weak_password")
    assert told(answer)["errors"][0]["field"] == "new_password"


async def test_a_token_of_an_imported_key_has_no_password_here(house: House) -> None:
    stranger = TokenSubject("u-elsewhere", None, False, (), "s-elsewhere", None, ("pwd",), None)
    token = house.issuer.issue(stranger, int(house.clock.at)).text
    me = told(await house.ask("GET", "/auth/me", token=token))
    assert (me["user_id"], me["email"], me["email_verified"]) == ("u-elsewhere", None, False)
    body = {"password": PASSWORD, "new_password": "seven quiet rivers carry boats"}
    change = await house.ask("POST", "/auth/password/change", body, token=token)
    assert (change.status, reason(change)) == (401, "invalid_credentials")
    assert (await house.ask("POST", "/auth/logout", token=token)).status == 204
    assert house.workers.told[-1].target == "s-elsewhere"


async def test_a_role_change_outdates_the_token_and_a_refresh_brings_the_role(
    house: House,
) -> None:
    account = await house.register()
    session = await house.sign_in()
    await house.workers.announce(await house.parts.accounts.grant(account.id, "manager"))
    old = await house.ask("GET", "/auth/me", token=session["access_token"])
    assert (old.status, reason(old)) == (401, "token_outdated")
    fresh = told(
        await house.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
    )
    assert fresh["user"]["roles"] == ["manager"]
    me = await house.ask("GET", "/auth/me", token=fresh["access_token"])
    assert told(me)["roles"] == ["manager"]


# --- the form of every answer ---


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/auth/login", b"POST"),
        ("DELETE", "/auth/register", b"POST"),
        ("POST", "/auth/me", b"GET, HEAD"),
        ("GET", "/auth/sessions/x", b"DELETE"),
        ("POST", "/.well-known/jwks.json", b"GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_there_is_405_with_allow(
    house: House, method: str, path: str, allow: bytes
) -> None:
    answer = await house.ask(method, path)
    assert (answer.status, reason(answer)) == (405, "method_not_allowed")
    assert answer.values("allow") == [allow]


@pytest.mark.parametrize(
    "path",
    [
        "/auth",
        "/auth/",
        "/auth/nothing",
        "/auth/login/",
        "/auth/login/x",
        "/auth/csrf",
        "/auth/captcha",
        "/auth/token",
        "/auth/introspect",
        "/auth/revoke",
    ],
)
async def test_what_is_not_there_yet_is_404(house: House, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await house.ask(method, path)
        assert (answer.status, reason(answer)) == (404, "route_unknown")


async def test_head_answers_as_get_without_the_body(house: House) -> None:
    await house.register()
    token = (await house.sign_in())["access_token"]
    answer = await house.ask("HEAD", "/auth/me", token=token)
    assert (answer.status, answer.body) == (200, b"")
    assert (await house.ask("HEAD", "/auth/me")).status == 401


async def test_every_answer_is_kept_by_nobody_and_says_what_a_browser_must_not_do(
    house: House,
) -> None:
    await house.register()
    answers = [
        await house.ask("POST", "/auth/login", CREDENTIALS),
        await house.ask("POST", "/auth/login", {}),
        await house.ask("GET", "/auth/me"),
        await house.ask("GET", "/auth/nothing"),
    ]
    for answer in answers:
        assert answer.values("cache-control") == [b"no-store"]
        assert answer.values("x-content-type-options") == [b"nosniff"]
        assert answer.values("referrer-policy") == [b"no-referrer"]
        assert answer.values("content-security-policy") == [
            b"default-src 'none'; frame-ancestors 'none'"
        ]
        assert answer.values("strict-transport-security")
        assert answer.values("server") == [b"authgate"]
        assert answer.values("proxy-status")[0].startswith(b"authgate")
        assert answer.values("x-request-id")


async def test_a_problem_holds_the_request_id_of_its_answer(house: House) -> None:
    answer = await house.ask("GET", "/auth/me", headers=["X-Request-Id: abc-1"])
    assert told(answer)["request_id"] == "abc-1"
    assert answer.values("x-request-id") == [b"abc-1"]
    assert answer.values("content-type") == [b"application/problem+json"]
    assert told(answer).keys() == {"type", "title", "status", "detail", "reason", "request_id"}


async def test_the_documents_are_answered_beside_auth(house: House) -> None:
    for path in (
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
    ):
        assert (await house.ask("GET", path)).status == 200


async def test_hashing_that_is_busy_is_503_and_no_failure(tmp_path: Path) -> None:
    async with open_house(tmp_path, passwords=PasswordOptions(threads=1, queue=1)) as house:
        answers = await asyncio.gather(
            *(
                house.ask("POST", "/auth/login", {"email": f"u{n}@b.com", "password": "x y z 1"})
                for n in range(12)
            )
        )
        busy = [a for a in answers if a.status == 503]
        assert busy
        assert {reason(a) for a in busy} == {"hashing_busy"}
        assert all(a.values("retry-after") for a in busy)
        assert {a.status for a in answers} == {401, 503}
