"""`/auth/me`, `/auth/sessions` and `/auth/password/change` through real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.audit.log import AuditKind
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import WeakPassword
from gateway.identity.revocations import CONFIRMED, mark_published
from gateway.identity.tokens.access_tokens import TokenSubject
from gateway.model import Reason
from tests.databases import reset_password
from tests.edge.auth_house import (
    CREDENTIALS,
    EMAIL,
    PASSWORD,
    House,
    open_house,
    reason,
    told,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def test_me_says_what_the_token_says_with_sql_away(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    house.database.away = True
    answer = await house.ask("GET", "/auth/me", token=session["access_token"])
    assert answer.status == 200
    body = told(answer)
    assert len(body.pop("session_id")) == 32
    assert body.pop("expires_at") == house.clock.at + 900
    assert body == {
        "user_id": account.id,
        "email": EMAIL,
        "email_verified": True,
        "roles": [],
    }


async def test_me_without_a_token_is_401_without_an_error_code(house: House) -> None:
    answer = await house.ask("GET", "/auth/me")
    assert (answer.status, reason(answer)) == (401, "no_credential")
    assert answer.values("www-authenticate") == [b'Bearer realm="authgate"']


async def test_all_that_is_held_of_its_owner_can_be_taken_away(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    answer = await house.ask("GET", "/auth/me/export", token=session["access_token"])
    assert answer.status == 200
    exported = told(answer)
    assert exported["account"]["user_id"] == account.id
    assert exported["account"]["email"] == EMAIL
    assert exported["account"]["email_verified"] is True
    assert [row["transport"] for row in exported["sessions"]] == ["bearer"]
    for secret in (session["refresh_token"], PASSWORD, "hash"):
        assert secret.encode() not in answer.body


async def test_what_is_taken_away_tells_no_moment_of_a_refresh(house: House) -> None:
    """As the list of sessions: whoever has a token of theirs may have stolen another."""
    await house.register()
    session = await house.sign_in()
    house.clock.move(3)
    fields = {"refresh_token": session["refresh_token"]}
    assert (await house.ask("POST", "/auth/refresh", fields)).status == 200
    times = [
        told(await house.ask("GET", path, token=session["access_token"]))["sessions"][0]
        for path in ("/auth/me/export", "/auth/sessions")
    ]
    assert times[0]["last_used_at"] == times[1]["last_used_at"]


async def test_what_is_taken_away_holds_no_list_without_an_end(house: House) -> None:
    """Sessions that were signed out are kept for a day, however many they are."""
    account = await house.register()
    token = (await house.sign_in())["access_token"]
    now = int(house.clock.at)
    async with house.database.transaction() as tx:
        await tx.many(
            "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
            " created_at, last_used_at, expires_at, ended_at) VALUES (:id, :account, 'bearer', '',"
            " '', 'pwd', :at, :at, :at, :at, :at)",
            [
                {"id": f"ended-{number}", "account": account.id, "at": now - number}
                for number in range(1, 1_200)
            ],
        )
    answer = await house.ask("GET", "/auth/me/export", token=token)
    sessions = told(answer)["sessions"]
    assert len(sessions) == 1_000
    assert sessions[-1]["created_at"] == now
    assert sessions[0]["session_id"] == "ended-999"


async def test_no_answer_but_login_and_refresh_holds_a_token(house: House) -> None:
    # CVE-2024-39315: a page about the user returned their tokens.
    await house.register()
    session = await house.sign_in()
    for path in ("/auth/me", "/auth/me/export", "/auth/sessions"):
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


async def test_a_session_that_is_ended_again_and_again_is_recorded_once(house: House) -> None:
    await house.register()
    session, other = await house.sign_in(), await house.sign_in()
    sid = told(await house.ask("GET", "/auth/me", token=other["access_token"]))["session_id"]
    path = f"/auth/sessions/{sid}"

    async def ended() -> int:
        answer = await house.ask("DELETE", path, token=session["access_token"])
        return answer.status

    house.workers.confirm = False
    assert await ended() == 503
    house.workers.confirm = True
    assert await ended() == 204
    # As the publisher marks what every worker has.
    await mark_published(house.database, {c.id: CONFIRMED for c in house.workers.told})
    assert [await ended() for _ in range(3)] == [204] * 3
    kinds = [event.kind for event in house.recorded.events]
    assert kinds.count(AuditKind.SESSION_ENDED) == 2
    async with house.database.read_transaction() as tx:
        rows = await tx.all("SELECT id FROM changes WHERE target = :sid", sid=sid)
    assert len(rows) == 1


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


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/me"),
        ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions/x"),
        ("POST", "/auth/password/change"),
    ],
)
async def test_nothing_of_ones_own_is_told_without_a_token(
    house: House, method: str, path: str
) -> None:
    answer = await house.ask(method, path)
    assert (answer.status, reason(answer)) == (401, "no_credential")
    answer = await house.ask(method, path, token="a.b.c")
    assert (answer.status, reason(answer)) == (401, "token_malformed")


async def test_a_password_change_that_could_not_be_judged_is_no_failure(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"password": PASSWORD, "new_password": "seven quiet rivers carry boats"}
    house.database.away = True
    for _ in range(7):
        answer = await house.ask(
            "POST", "/auth/password/change", body, token=session["access_token"]
        )
        assert (answer.status, reason(answer)) == (503, "store_unavailable")
    house.database.away = False
    answer = await house.ask("POST", "/auth/password/change", body, token=session["access_token"])
    assert answer.status == 204


async def test_a_stolen_token_guesses_no_password(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"password": "wrong one 17", "new_password": "seven quiet rivers carry boats"}
    answers = []
    for _ in range(7):
        answers.append(
            await house.ask("POST", "/auth/password/change", body, token=session["access_token"])
        )
        house.clock.move(8)
    assert [a.status for a in answers] == [401] * 5 + [429] * 2
    assert reason(answers[0]) == "invalid_credentials"


async def test_a_wrong_password_of_a_session_is_written_down(house: House) -> None:
    """With a stolen one it is a guess, as at a sign-in or a step-up."""
    user = (await house.register()).id
    token = (await house.sign_in())["access_token"]
    house.recorded.events.clear()
    for path, more in (
        ("/auth/password/change", {"new_password": "seven quiet rivers carry boats"}),
        ("/auth/email/change", {"email": "thief@x.example"}),
    ):
        answer = await house.ask("POST", path, {"password": "wrong one 17", **more}, token=token)
        assert (answer.status, reason(answer)) == (401, "invalid_credentials")
        house.clock.move(8)
    assert [
        (event.kind, event.subject, event.result, event.detail["wants"])
        for event in house.recorded.events
    ] == [
        ("step_up_failed", user, "invalid_credentials", "password_changed"),
        ("step_up_failed", user, "invalid_credentials", "email_changed"),
    ]


async def test_a_weak_new_password_is_named(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"password": PASSWORD, "new_password": "password1"}
    answer = await house.ask("POST", "/auth/password/change", body, token=session["access_token"])
    assert (answer.status, reason(answer)) == (422, "weak_password")
    assert told(answer)["errors"][0]["field"] == "new_password"


async def test_a_change_while_hashing_is_busy_leaves_the_password(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HASHING_BUSY is text as well: stored in the hash's place, it locks the owner out."""
    await house.register()
    session = await house.sign_in()

    async def busy(
        password: str,
        words: Sequence[str] = (),
        lane: Lane = Lane.NEW,
        *,
        holder: str = "",
        client_ip: str = "",
    ) -> Reason:
        return Reason.HASHING_BUSY

    with monkeypatch.context() as patched:
        patched.setattr(house.deps.passwords, "hash", busy)
        body = {"password": PASSWORD, "new_password": "seven quiet rivers carry boats"}
        token = session["access_token"]
        answer = await house.ask("POST", "/auth/password/change", body, token=token)
    assert (answer.status, reason(answer)) == (503, "hashing_busy")
    await house.sign_in()


async def test_a_token_of_an_imported_key_has_no_password_here(house: House) -> None:
    stranger = TokenSubject("u-elsewhere", None, False, (), "s-elsewhere", None, ("pwd",), None)
    token = house.deps.issuer.issue(stranger, int(house.clock.at)).text
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
    await house.workers.publish(await house.deps.accounts.grant(account.id, "manager"))
    old = await house.ask("GET", "/auth/me", token=session["access_token"])
    assert (old.status, reason(old)) == (401, "token_outdated")
    fresh = told(
        await house.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
    )
    assert fresh["user"]["roles"] == ["manager"]
    me = await house.ask("GET", "/auth/me", token=fresh["access_token"])
    assert told(me)["roles"] == ["manager"]


async def test_a_change_begun_before_the_owners_reset_is_undone_by_no_moment(house: House) -> None:
    """A thief of the session and the password sends a change, and the owner resets it while
    the thief's new password is being hashed."""
    account = await house.register()
    thief = await house.sign_in()
    hashing, go_on = asyncio.Event(), asyncio.Event()
    hash_as_before = house.deps.passwords.hash

    async def held(
        password: str,
        words: Sequence[str] = (),
        lane: Lane = Lane.NEW,
        *,
        holder: str = "",
        client_ip: str = "",
    ) -> str | WeakPassword | Reason:
        hashing.set()
        await go_on.wait()
        return await hash_as_before(password, words, lane, holder=holder, client_ip=client_ip)

    house.deps.passwords.hash = held  # type: ignore[method-assign]
    body = {"password": PASSWORD, "new_password": "the thief's 9 quiet words"}
    change = asyncio.create_task(
        house.ask("POST", "/auth/password/change", body, token=thief["access_token"])
    )
    await hashing.wait()
    password_hash = await hash_as_before("seven quiet rivers carry boats")
    assert isinstance(password_hash, str)
    changes = await reset_password(house.database, account.id, password_hash)
    await house.workers.publish(changes)
    go_on.set()
    answer = await change
    assert (answer.status, reason(answer)) == (401, "token_revoked")
    owner = {"email": EMAIL, "password": "seven quiet rivers carry boats"}
    assert (await house.ask("POST", "/auth/login", owner)).status == 200


async def test_of_parallel_changes_one_wins_and_its_password_signs_in(house: House) -> None:
    await house.register()
    token = (await house.sign_in())["access_token"]
    wanted = [f"number {n} of ten quiet rivers" for n in range(10)]
    answers = await asyncio.gather(
        *(
            house.ask(
                "POST",
                "/auth/password/change",
                {"password": PASSWORD, "new_password": password},
                token=token,
            )
            for password in wanted
        )
    )
    # 503: one account may have so many hashed at once, and no more.
    assert {answer.status for answer in answers} <= {204, 401, 429, 503}
    (won,) = [n for n, answer in enumerate(answers) if answer.status == 204]
    assert (await house.ask("GET", "/auth/me", token=token)).status == 200
    # Who came after the change gave a wrong password, which makes the next attempt wait.
    await house.deps.throttle.reset(EMAIL, 0)
    login = await house.ask("POST", "/auth/login", {"email": EMAIL, "password": wanted[won]})
    assert login.status == 200


async def test_ten_new_passwords_an_hour_are_enough(house: House) -> None:
    await house.register()
    token = (await house.sign_in())["access_token"]
    now = PASSWORD
    statuses = []
    for number in range(11):
        body = {"password": now, "new_password": f"number {number} of ten quiet rivers"}
        answer = await house.ask("POST", "/auth/password/change", body, token=token)
        statuses.append(answer.status)
        now = body["new_password"] if answer.status == 204 else now
    assert statuses == [204] * 10 + [429]


async def test_the_session_that_changed_the_password_goes_on_and_is_renewed(
    house: House,
) -> None:
    await house.register()
    session = await house.sign_in()
    body = {"password": PASSWORD, "new_password": "seven quiet rivers carry boats"}
    answer = await house.ask("POST", "/auth/password/change", body, token=session["access_token"])
    assert answer.status == 204
    refresh = {"refresh_token": session["refresh_token"]}
    again = told(await house.ask("POST", "/auth/refresh", refresh))
    me = await house.ask("GET", "/auth/me", token=again["access_token"])
    assert me.status == 200
