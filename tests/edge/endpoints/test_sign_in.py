"""Register, login, refresh and logout through real sockets, to the letter of docs/accounts.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.passwords import import_hash
from gateway.identity.keys.key_ring import SIGNING_LEASE_S
from gateway.identity.sign_in.throttle import Reservation
from gateway.model import ChangeKind, Reason
from tests.databases import reset_password
from tests.edge.auth_house import (
    CREDENTIALS,
    EMAIL,
    PASSWORD,
    House,
    open_house,
    reason,
    request,
    told,
)


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
    body = told(answer)
    assert body.pop("user_id")
    assert body == {"email": "Alice@Example.com", "email_verified": False, "roles": []}


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
    body = await house.sign_in()
    assert body.pop("access_token").count(".") == 2
    assert len(body.pop("refresh_token")) == 43
    assert body == {
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
    await house.deps.accounts.disable(account.id)
    right = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (right.status, reason(right)) == (403, "account_disabled")
    wrong = await house.ask("POST", "/auth/login", {**CREDENTIALS, "password": "wrong one 17"})
    assert (wrong.status, reason(wrong)) == (401, "invalid_credentials")


async def test_an_unknown_transport_is_refused_by_name(house: House) -> None:
    answer = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "pigeon"})
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
    assert len(refused) == 25  # at once: none had failed yet, so none needed a challenge
    assert {reason(a) for a in refused} == {"too_many_attempts"}
    # Each waits for the five that are under way.
    assert {int(a.values("retry-after")[0]) for a in refused} == {1}


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


async def test_a_password_changed_while_it_was_checked_decides_by_the_new_one(
    house: House,
) -> None:
    account = await house.register()
    checked = asyncio.Event()
    give_back = house.deps.throttle.give_back

    async def change_before_the_session_begins(reservation: Reservation) -> None:
        if not checked.is_set():
            checked.set()
            password_hash = await house.deps.passwords.hash("seven quiet rivers carry boats")
            assert isinstance(password_hash, str)
            await reset_password(house.database, account.id, password_hash)
        await give_back(reservation)

    house.deps.throttle.give_back = change_before_the_session_begins  # type: ignore[method-assign]
    answer = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert checked.is_set()
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")


async def test_a_password_that_was_reset_while_its_hash_was_renewed_signs_nobody_in(
    house: House,
) -> None:
    """As that of an imported account: who has its old password signs in while the owner resets
    it."""
    account = await house.register()
    house.deps.passwords.rounds = 5
    rehash = house.deps.passwords.rehash

    async def reset_meanwhile(*args: Any, **options: Any) -> str | Reason:
        renewed = await rehash(*args, **options)
        password_hash = await house.deps.passwords.hash("seven quiet rivers carry boats")
        assert isinstance(password_hash, str)
        await reset_password(house.database, account.id, password_hash)
        return renewed

    house.deps.passwords.rehash = reset_meanwhile  # type: ignore[method-assign]
    answer = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert await house.deps.sessions.find_active(account.id) == []


async def test_two_sign_ins_that_renew_a_hash_at_once_both_succeed(house: House) -> None:
    await house.register()
    house.deps.passwords.rounds = 5
    await asyncio.gather(*(house.sign_in() for _ in range(4)))


async def test_a_hash_of_another_cost_is_renewed_at_sign_in(house: House) -> None:
    account = await house.register()
    house.deps.passwords.rounds = 5
    await house.sign_in()
    after = await house.deps.accounts.by_id(account.id)
    assert after is not None
    assert str(after.password_hash).startswith("v1$2b$05$")
    await house.sign_in()


# --- refresh ---


async def test_a_refresh_answers_as_a_login(house: House) -> None:
    await house.register()
    first = await house.sign_in()
    house.clock.move(100)
    answer = await house.ask("POST", "/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert answer.status == 200
    body = told(answer)
    assert body.keys() == first.keys()
    assert body["refresh_expires_in"] == 604_700
    assert body["refresh_token"] != first["refresh_token"]


async def test_a_refresh_for_which_no_key_can_sign_uses_no_token_up(house: House) -> None:
    """As in the seconds after SQL was away for ten minutes: every client asks, and asks again."""
    await house.register()
    body = {"refresh_token": (await house.sign_in())["refresh_token"]}
    house.clock.move(SIGNING_LEASE_S + 1)
    for _ in range(2):
        answer = await house.ask("POST", "/auth/refresh", body)
        assert (answer.status, reason(answer)) == (503, "store_unavailable")
        house.clock.move(11)
    await house.ring.refresh()
    assert (await house.ask("POST", "/auth/refresh", body)).status == 200


async def test_a_sign_in_for_which_no_key_can_sign_begins_no_session(house: House) -> None:
    account = await house.register()
    house.clock.move(SIGNING_LEASE_S + 1)
    answer = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (answer.status, reason(answer)) == (503, "store_unavailable")
    assert await house.deps.sessions.find_active(account.id) == []
    await house.ring.refresh()
    await house.sign_in()


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
    await house.ring.refresh()
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


async def test_a_made_up_bearer_hides_no_refresh_token_that_is_signed_out_again_and_again(
    house: House,
) -> None:
    await house.register()
    body = {"refresh_token": (await house.sign_in())["refresh_token"]}
    statuses = [
        (await house.ask("POST", "/auth/logout", body, token=f"made.up.{number}")).status
        for number in range(15)
    ]
    assert statuses == [204] * 10 + [429] * 5


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


async def test_who_signs_in_and_out_of_all_again_and_again_waits_and_gets_no_bad_token(
    house: House,
) -> None:
    await house.register()
    statuses: list[int] = []
    for _ in range(12):
        answer = await house.ask("POST", "/auth/login", CREDENTIALS)
        statuses.append(answer.status)
        if answer.status == 200:
            token = str(told(answer)["access_token"])
            assert (await house.ask("GET", "/auth/me", token=token)).status == 200
            await house.ask("POST", "/auth/logout", {"all": True}, token=token)
        else:
            assert (answer.status, reason(answer)) == (429, "rate_limited")
            assert answer.values("retry-after") == [b"1"]
    assert statuses[:3] == [200] * 3
    assert 429 in statuses


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


async def test_what_an_imported_hash_has_not_vouched_for_renews_none(house: House) -> None:
    """bcrypt reads 72 bytes: a slip behind them would be the password from then on."""
    real = ("seven quiet rivers carry boats " * 3)[:72]
    stored = import_hash(bcrypt.hashpw(real.encode(), bcrypt.gensalt(4)).decode())
    assert stored is not None
    account = await house.deps.accounts.register("old@example.com", stored, verified=True)
    assert isinstance(account, Account)
    for typed in (f"{real} and a slip", real):
        asked = {"email": "old@example.com", "password": typed}
        assert (await house.ask("POST", "/auth/login", asked)).status == 200
    after = await house.deps.accounts.by_id(account.id)
    assert after is not None
    assert after.password_hash != stored
