"""Second factors through real sockets: enrolment, sign-in in two steps, step-up, loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.factor_changes import FRESH_S
from gateway.edge.endpoints.sessions import token_reply
from gateway.identity.factors.totp import remove_totp
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.mfa_tokens import MFA_TTL_S
from gateway.identity.sign_in.refresh_tokens import SessionGrant
from tests.edge.auth_house import (
    CREDENTIALS,
    EMAIL,
    PASSWORD,
    House,
    open_house,
    reason,
    told,
)
from tests.edge.rig import Answer

STEP_S = 30


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


async def token_of(house: House) -> str:
    return str((await house.sign_in())["access_token"])


def code_at(house: House, secret: str, steps: int = 0) -> str:
    now = int(house.clock.now())
    return pyotp.TOTP(secret).generate_otp(now // STEP_S + steps)


async def enrol(house: House, token: str | None = None) -> tuple[str, dict[str, Any]]:
    """The secret, and what its confirmation answered; the next code is another."""
    token = token or await token_of(house)
    begun = await house.ask("POST", "/auth/factors/totp", token=token)
    assert begun.status == 200, begun.body
    secret = str(told(begun)["secret"])
    confirmed = await house.ask(
        "POST", "/auth/factors/totp/confirm", {"code": code_at(house, secret)}, token=token
    )
    assert confirmed.status == 200, confirmed.body
    house.clock.move(2 * STEP_S)
    return secret, told(confirmed)


async def first_step(house: House, **fields: Any) -> dict[str, Any]:
    asked = await house.ask("POST", "/auth/login", {**CREDENTIALS, **fields})
    assert (asked.status, reason(asked)) == (401, "insufficient_user_authentication")
    return told(asked)


async def second_step(house: House, mfa_token: str, code: str) -> Answer:
    return await house.ask("POST", "/auth/login/factor", {"mfa_token": mfa_token, "code": code})


async def later(house: House, seconds: float) -> None:
    house.clock.move(seconds)
    await house.ring.refresh()


def kinds_of(house: House) -> list[str]:
    return [event.kind for event in house.recorded.events]


async def amr_of(house: House, token: str) -> Any:
    verified = house.deps.verifier.verify(token)
    return getattr(verified, "amr", verified)


async def test_a_factor_is_enrolled_and_from_then_on_asked_for(house: House) -> None:
    secret, confirmed = await enrol(house)
    assert await amr_of(house, confirmed["access_token"]) == ("pwd", "otp", "mfa")
    assert len(set(confirmed["recovery_codes"])) == 10
    asked = await first_step(house)
    assert asked["factors"] == ["totp", "recovery_code"]
    assert "enrol" not in asked
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
    assert answer.status == 200, answer.body
    assert await amr_of(house, told(answer)["access_token"]) == ("pwd", "otp", "mfa")
    assert {AuditKind.FACTOR_ADDED, AuditKind.FACTOR_REQUESTED} <= set(kinds_of(house))
    listed = await house.ask("GET", "/auth/factors", token=told(answer)["access_token"])
    assert told(listed)["recovery_codes_left"] == 10
    assert secret not in str(listed.body)


async def test_the_right_password_alone_opens_no_session_and_sets_no_cookie(house: House) -> None:
    await enrol(house)
    asked = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"})
    assert asked.status == 401
    assert not asked.values("Set-Cookie")


async def test_a_cookie_that_was_asked_for_is_given_with_the_second_step(house: House) -> None:
    secret, _ = await enrol(house)
    asked = await first_step(house, transport="cookie")
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
    assert answer.status == 200
    assert "csrf_token" in told(answer)
    assert "access_token" not in told(answer)


async def test_a_code_counts_once(house: House) -> None:
    secret, _ = await enrol(house)
    code = code_at(house, secret)
    first, second = await first_step(house), await first_step(house)
    answers = await asyncio.gather(
        second_step(house, first["mfa_token"], code), second_step(house, second["mfa_token"], code)
    )
    assert sorted(answer.status for answer in answers) == [200, 401]


async def test_the_code_that_confirmed_a_secret_signs_nobody_in(house: House) -> None:
    token = await token_of(house)
    secret = told(await house.ask("POST", "/auth/factors/totp", token=token))["secret"]
    code = code_at(house, secret)
    await house.ask("POST", "/auth/factors/totp/confirm", {"code": code}, token=token)
    asked = await first_step(house)
    assert (await second_step(house, asked["mfa_token"], code)).status == 401


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 200), (1, 200), (2, 401)])
async def test_a_phone_may_be_one_step_off(house: House, steps: int, status: int) -> None:
    secret, _ = await enrol(house)
    house.clock.move(10 * STEP_S)
    asked = await first_step(house)
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret, steps))
    assert answer.status == status


async def test_codes_are_read_as_people_type_them(house: House) -> None:
    secret, _ = await enrol(house)
    for shape in (
        lambda code: f" {code[:3]} {code[3:]} ",
        lambda code: f"{code[:3]}-{code[3:]}",
        lambda code: code.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
    ):
        asked = await first_step(house)
        answer = await second_step(house, asked["mfa_token"], shape(code_at(house, secret)))
        assert answer.status == 200
        house.clock.move(2 * STEP_S)


@pytest.mark.parametrize("code", ["12345", "1234567", "12345a", "²²²²²²", "½½½½½½", "-------"])
async def test_what_is_no_code_is_a_wrong_one(house: House, code: str) -> None:
    await enrol(house)
    asked = await first_step(house)
    answer = await second_step(house, asked["mfa_token"], code)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")


async def test_five_wrong_codes_use_up_the_account_whoever_gave_them(house: House) -> None:
    secret, _ = await enrol(house)
    good = code_at(house, secret, 1)
    wrong = "000000" if good != "000000" else "111111"
    statuses = []
    for _ in range(3):
        asked = await first_step(house)
        for _ in range(2):
            statuses.append((await second_step(house, asked["mfa_token"], wrong)).status)
    assert statuses == [401] * 5 + [429]
    asked = await first_step(house)
    answer = await second_step(house, asked["mfa_token"], good)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")


async def test_whoever_has_a_session_keeps_its_owner_from_no_sign_in(house: House) -> None:
    """They need no password for their guesses, as whoever gives those of a sign-in does."""
    secret, _ = await enrol(house)
    statuses = []
    for guesses in (6, 6, 6, 0):
        asked = await first_step(house)
        answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
        assert answer.status == 200, answer.body
        token = told(answer)["access_token"]
        for _ in range(guesses):
            wrong = await house.ask("POST", "/auth/step-up", {"code": "no code"}, token=token)
            statuses.append(wrong.status)
        await later(house, 901)
    assert statuses == ([401] * 5 + [429]) * 2 + [429] * 6


async def test_an_mfa_token_is_over_after_five_minutes_and_after_its_use(house: House) -> None:
    secret, _ = await enrol(house)
    asked = await first_step(house)
    assert (await second_step(house, asked["mfa_token"], code_at(house, secret))).status == 200
    house.clock.move(2 * STEP_S)
    again = await second_step(house, asked["mfa_token"], code_at(house, secret))
    assert (again.status, reason(again)) == (400, "invalid_token")
    late = await first_step(house)
    house.clock.move(MFA_TTL_S)
    answer = await second_step(house, late["mfa_token"], code_at(house, secret))
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_an_mfa_token_is_no_access_token_and_made_up_ones_are_none(house: House) -> None:
    secret, _ = await enrol(house)
    asked = await first_step(house)
    assert (await house.ask("GET", "/auth/me", token=asked["mfa_token"])).status == 401
    for made_up in ("x", asked["mfa_token"][:-2], asked["mfa_token"] + "A", "."):
        answer = await second_step(house, made_up, code_at(house, secret))
        assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_an_account_that_is_disabled_between_the_steps_stays_out(house: House) -> None:
    secret, _ = await enrol(house)
    asked = await first_step(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.disable(account.id)
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
    assert answer.status in (401, 403)
    assert "access_token" not in told(answer)


async def test_a_password_that_is_replaced_between_the_steps_ends_the_sign_in(
    house: House,
) -> None:
    secret, confirmed = await enrol(house)
    asked = await first_step(house)
    changed = await house.ask(
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": PASSWORD + " and more"},
        token=confirmed["access_token"],
    )
    assert changed.status == 204, changed.body
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")


async def test_a_factor_that_is_removed_between_the_steps_leaves_no_way_without_it(
    house: House,
) -> None:
    secret, confirmed = await enrol(house)
    asked = await first_step(house)
    removed = await house.ask("DELETE", "/auth/factors/totp", token=confirmed["access_token"])
    assert removed.status == 204, removed.body
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    code = confirmed["recovery_codes"][0]
    assert (await second_step(house, asked["mfa_token"], code)).status == 401
    assert (await house.ask("POST", "/auth/login", CREDENTIALS)).status == 200


async def test_a_factor_that_is_removed_while_it_is_used_opens_nothing(house: House) -> None:
    """Whoever has stolen it uses every code: its removal ends the sessions that there are, and none
    may come after it."""
    secret, _ = await enrol(house)
    asked = await first_step(house)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    removing: list[asyncio.Task[None]] = []

    async def remove() -> None:
        async with house.database.transaction() as tx:
            await remove_totp(tx, account.id)

    async def used() -> None:
        house.database.before_commit = None
        # It waits for the writer, before the session does.
        removing.append(asyncio.create_task(remove()))
        await asyncio.sleep(0)

    house.database.before_commit = used
    answer = await second_step(house, asked["mfa_token"], code_at(house, secret))
    await asyncio.gather(*removing)
    assert len(removing) == 1
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")


async def test_a_recovery_code_counts_once_and_the_mail_tells_what_is_left(house: House) -> None:
    _, confirmed = await enrol(house)
    code = confirmed["recovery_codes"][3]
    asked = await first_step(house)
    written_down = code.replace("-", " ").upper()
    answer = await second_step(house, asked["mfa_token"], written_down)
    assert answer.status == 200, answer.body
    asked = await first_step(house)
    assert (await second_step(house, asked["mfa_token"], code)).status == 401
    async with house.database.read_transaction() as tx:
        rows = await tx.all("SELECT template FROM outbox WHERE template LIKE 'recovery%'")
    assert [row["template"] for row in rows] == ["recovery_code_used"]
    (used,) = [e for e in house.recorded.events if e.kind is AuditKind.RECOVERY_CODE_USED]
    assert used.detail == {"left": 9}


async def test_a_session_that_is_no_longer_fresh_changes_no_factor(house: House) -> None:
    """What a thief has of a session enrols nothing, so that the owner is not locked out."""
    token = await token_of(house)
    house.clock.move(FRESH_S + 1)
    for method, path, body in (
        ("POST", "/auth/factors/totp", None),
        ("POST", "/auth/factors/totp/confirm", {"code": "123456"}),
        ("DELETE", "/auth/factors/totp", None),
        ("POST", "/auth/factors/recovery-codes", None),
    ):
        answer = await house.ask(method, path, body, token=token)
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        assert f'max_age="{FRESH_S}"' in str(answer.values("WWW-Authenticate"))


async def test_a_secret_is_confirmed_by_its_own_code_in_its_own_session_alone(
    house: House,
) -> None:
    one, other = await token_of(house), await token_of(house)
    secret = told(await house.ask("POST", "/auth/factors/totp", token=one))["secret"]
    path = "/auth/factors/totp/confirm"
    right = code_at(house, secret)
    wrong = "000000" if right != "000000" else "111111"
    answer = await house.ask("POST", path, {"code": wrong}, token=one)
    assert (reason(answer), told(answer)["detail"]) == ("invalid_credentials", "The code is wrong.")
    assert (await house.ask("POST", path, {"code": right}, token=other)).status == 401
    assert (await house.ask("POST", "/auth/login", CREDENTIALS)).status == 200
    assert (await house.ask("POST", path, {"code": right}, token=one)).status == 200


async def test_of_two_enrolments_at_once_one_counts(house: House) -> None:
    one, other = await token_of(house), await token_of(house)
    first = told(await house.ask("POST", "/auth/factors/totp", token=one))["secret"]
    second = told(await house.ask("POST", "/auth/factors/totp", token=other))["secret"]
    path = "/auth/factors/totp/confirm"
    answers = await asyncio.gather(
        house.ask("POST", path, {"code": code_at(house, first)}, token=one),
        house.ask("POST", path, {"code": code_at(house, second)}, token=other),
    )
    assert [answer.status for answer in answers] == [401, 200]
    assert (await house.ask("GET", "/auth/factors", token=one)).status == 401


async def test_a_new_factor_ends_the_other_sessions(house: House) -> None:
    thief = await token_of(house)
    await enrol(house)
    assert (await house.ask("GET", "/auth/me", token=thief)).status == 401


async def test_a_step_up_gives_a_new_token_and_no_refresh_token(house: House) -> None:
    secret, confirmed = await enrol(house)
    await later(house, 600)
    token = confirmed["access_token"]
    answer = await house.ask("POST", "/auth/step-up", {"code": code_at(house, secret)}, token=token)
    assert answer.status == 200, answer.body
    body = told(answer)
    assert "refresh_token" not in body
    verified = house.deps.verifier.verify(body["access_token"])
    assert getattr(verified, "auth_time", None) == int(house.clock.now())
    assert AuditKind.STEPPED_UP in kinds_of(house)


async def test_a_password_alone_steps_up_no_account_that_has_a_factor(house: House) -> None:
    _, confirmed = await enrol(house)
    answer = await house.ask(
        "POST", "/auth/step-up", {"password": PASSWORD}, token=confirmed["access_token"]
    )
    assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
    assert told(answer)["factors"] == ["totp", "recovery_code"]


async def begun_by(house: House, *amr: str) -> str:
    """The token of a session that began so, a while ago."""
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    grant = await house.deps.refresh_tokens.begin(
        account.id, SignInSource("browser", "192.0.2.1"), without_password=True, amr=amr
    )
    assert isinstance(grant, SessionGrant)
    token = str((token_reply(house.deps.issuer, grant).body or {})["access_token"])
    await later(house, 600)
    return token


async def test_a_password_does_not_make_the_factor_of_a_provider_look_new(house: House) -> None:
    token = await begun_by(house, "otp", "mfa", "fed")
    answer = await house.ask("POST", "/auth/step-up", {"password": PASSWORD}, token=token)
    assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
    assert told(answer)["factors"] == []
    # Whoever had none at the provider has none now.
    weak = await begun_by(house, "fed")
    answer = await house.ask("POST", "/auth/step-up", {"password": PASSWORD}, token=weak)
    assert answer.status == 200, answer.body
    assert await amr_of(house, told(answer)["access_token"]) == ("fed", "pwd")


async def test_a_code_does_not_make_a_passkey_look_new(house: House) -> None:
    secret, confirmed = await enrol(house)
    token = await begun_by(house, "pwd", "hwk", "mfa")
    for code in (code_at(house, secret), confirmed["recovery_codes"][0]):
        answer = await house.ask("POST", "/auth/step-up", {"code": code}, token=token)
        assert answer.status == 200, answer.body
        assert await amr_of(house, told(answer)["access_token"]) == ("pwd", "otp", "mfa")


async def test_a_password_steps_up_an_account_without_a_factor(house: House) -> None:
    token = await token_of(house)
    await later(house, 600)
    wrong = await house.ask("POST", "/auth/step-up", {"password": "x"}, token=token)
    assert (wrong.status, reason(wrong)) == (401, "invalid_credentials")
    assert told(wrong)["detail"] == "The password is wrong."
    house.clock.move(5)
    answer = await house.ask("POST", "/auth/step-up", {"password": PASSWORD}, token=token)
    assert answer.status == 200, answer.body
    fresh = told(answer)["access_token"]
    assert (await house.ask("POST", "/auth/factors/totp", token=fresh)).status == 200


async def test_a_step_up_takes_one_answer(house: House) -> None:
    secret, confirmed = await enrol(house)
    token = confirmed["access_token"]
    both = {"password": PASSWORD, "code": code_at(house, secret)}
    assert (await house.ask("POST", "/auth/step-up", both, token=token)).status == 422
    asked = await house.ask("POST", "/auth/step-up", {}, token=token)
    assert (asked.status, told(asked)["factors"]) == (401, ["totp", "recovery_code"])


async def test_new_recovery_codes_take_the_place_of_the_old(house: House) -> None:
    _, confirmed = await enrol(house)
    token = confirmed["access_token"]
    answer = await house.ask("POST", "/auth/factors/recovery-codes", token=token)
    codes = told(answer)["recovery_codes"]
    assert len(codes) == 10
    asked = await first_step(house)
    old = confirmed["recovery_codes"][0]
    assert (await second_step(house, asked["mfa_token"], old)).status == 401
    assert (await second_step(house, asked["mfa_token"], codes[0])).status == 200


async def test_what_leaves_rows_for_ever_is_bounded_by_the_day(house: House) -> None:
    """Each change of codes leaves an event, and all of them one tombstone."""
    _, confirmed = await enrol(house)
    token = confirmed["access_token"]
    for path, bound in (("/auth/factors/recovery-codes", 10), ("/auth/factors/totp", 49)):
        for _ in range(bound):
            assert (await house.ask("POST", path, token=token)).status == 200
        answer = await house.ask("POST", path, token=token)
        assert (answer.status, reason(answer)) == (429, "rate_limited")
    async with house.database.read_transaction() as tx:
        row = await tx.one("SELECT COUNT(*) AS ended FROM tombstones")
    assert row is not None
    assert row["ended"] == 1


async def test_a_stranger_who_comes_and_goes_leaves_one_row_for_each_account(
    house: House,
) -> None:
    """With an app and new recovery codes in between, for as long as they like."""
    for turn in range(3):
        if turn:
            await house.register()
        _, confirmed = await enrol(house)
        token = confirmed["access_token"]
        for _ in range(4):
            answer = await house.ask("POST", "/auth/factors/recovery-codes", token=token)
            assert answer.status == 200
        assert (await house.ask("DELETE", "/auth/me", token=token)).status == 204
    async with house.database.read_transaction() as tx:
        rows = await tx.all("SELECT kind FROM tombstones")
    assert [row["kind"] for row in rows] == ["account"] * 3


async def test_an_account_without_a_factor_has_no_recovery_codes(house: House) -> None:
    token = await token_of(house)
    answer = await house.ask("POST", "/auth/factors/recovery-codes", token=token)
    assert answer.status == 404


async def test_a_token_says_by_its_acr_whether_a_factor_was_given(house: House) -> None:
    alone = house.deps.verifier.verify(await token_of(house))
    _, confirmed = await enrol(house)
    both = house.deps.verifier.verify(confirmed["access_token"])
    assert [getattr(one, "claims", {}).get("acr") for one in (alone, both)] == ["pwd", "mfa"]
