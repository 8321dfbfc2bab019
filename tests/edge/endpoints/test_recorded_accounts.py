"""What is recorded of sign-ins and of what owners do to their accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.rate_limits import TOLD
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, House, open_house, told
from tests.edge.endpoints.sign_in_calls import (
    OTHER,
    WRONG,
    asked_to_move,
    link_to,
    login,
    patiently,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


def events(house: House) -> list[tuple[str, str, str | None]]:
    return [(e.kind.value, e.result, e.subject) for e in house.recorded.events]


async def test_sign_ins_good_and_bad_are_recorded_and_throttled_ones_counted(
    house: House,
) -> None:
    account = await house.register()
    await login(house, CREDENTIALS)
    await login(house, WRONG)
    await login(house, {"email": "nobody@example.com", "password": PASSWORD})
    house.clock.move(1)
    await patiently(house, WRONG, 5)
    assert events(house) == [
        ("signed_in", "ok", account.id),
        ("sign_in_failed", "invalid_credentials", account.id),
        ("sign_in_failed", "invalid_credentials", None),
        ("sign_in_failed", "invalid_credentials", account.id),
        ("sign_in_failed", "invalid_credentials", account.id),
    ]
    assert house.recorded.denials == [
        ("captcha_required", "/auth/login", None),
        ("captcha_required", "/auth/login", None),
        ("too_many_attempts", "/auth/login", None),
    ]


async def test_an_event_has_the_address_the_request_and_no_secret(house: House) -> None:
    await house.register()
    session = await house.sign_in(headers=["X-Request-Id: r-1"])
    await login(house, {"email": "nobody@example.com", "password": PASSWORD})
    signed_in, failed = house.recorded.events
    assert (signed_in.address, signed_in.request_id) == ("127.0.0.1", "r-1")
    assert signed_in.detail["amr"] == ["pwd"]
    assert "nobody@" not in str(failed)
    everything = str(house.recorded.events)
    for secret in (PASSWORD, session["access_token"], session["refresh_token"]):
        assert secret not in everything


async def test_who_asks_to_move_is_recorded(mail: House) -> None:
    account = await mail.register()
    session = await mail.sign_in()
    await asked_to_move(mail, session["access_token"], "anna@y.example")
    (event,) = (e for e in mail.recorded.events if e.kind is AuditKind.EMAIL_CHANGE_REQUESTED)
    assert event.subject == account.id
    me = told(await mail.ask("GET", "/auth/me", token=session["access_token"]))
    assert event.detail == {"sid": me["session_id"]}


async def test_a_reused_refresh_token_is_recorded(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    for _ in range(2):
        await house.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
        house.clock.move(11)
    assert ("refresh_reused", "refresh_token_reused", account.id) in events(house)
    # It may step up, choose a tenant and go elsewhere all the same.
    assert await house.deps.limits.account_event_wait_s(account.id) == 0.0


async def test_a_refresh_token_that_is_used_twice_by_one_client_is_recorded(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    for _ in range(2):
        answer = await house.ask(
            "POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}
        )
        assert answer.status == 200
    assert ("refresh_repeated", "ok", account.id) in events(house)


async def test_a_token_that_is_used_twice_all_day_is_recorded_so_often_and_then_counted(
    house: House,
) -> None:
    """What becomes of its session is the same: it goes on within the grace, and ends after it."""
    account = await house.register()
    session = await house.sign_in()
    for _ in range(TOLD[0].burst):
        assert await house.deps.limits.told_event_wait_s(account.id) == 0.0
    house.recorded.events.clear()
    body = {"refresh_token": session["refresh_token"]}
    successors = []
    for _ in range(3):
        answer = await house.ask("POST", "/auth/refresh", body)
        assert answer.status == 200
        successors.append(told(answer)["refresh_token"])
    assert len(set(successors)) == 1
    assert house.recorded.events == []
    assert house.recorded.denials == [("refresh_repeated", None, account.id)] * 2
    house.clock.move(11)
    assert (await house.ask("POST", "/auth/refresh", body)).status == 401
    assert ("refresh_reused", "refresh_token_reused", account.id) in events(house)
    ended = await house.ask("POST", "/auth/refresh", {"refresh_token": successors[0]})
    assert ended.status == 401


async def test_what_mail_does_to_an_account_is_recorded(mail: House) -> None:
    account = await mail.register()
    await mail.ask("POST", "/auth/password/forgot", {"email": EMAIL})
    link = await link_to(mail, EMAIL)
    body = {"token": link, "password": OTHER}
    assert (await mail.ask("POST", "/auth/password/reset", body)).status == 204
    assert [event[0:3:2] for event in events(mail)] == [
        ("password_reset_requested", None),
        ("password_reset", account.id),
    ]
    assert link not in str(mail.recorded.events)


async def test_a_confirmed_and_a_changed_email_address_are_recorded(mail: House) -> None:
    await mail.ask("POST", "/auth/register", CREDENTIALS)
    confirmed = {"token": await link_to(mail, EMAIL), "password": PASSWORD}
    assert (await mail.ask("POST", "/auth/email/verify", confirmed)).status == 204
    session = await mail.sign_in()
    await asked_to_move(mail, session["access_token"], "anna@y.example")
    moved = {"token": await link_to(mail, "anna@y.example")}
    assert (await mail.ask("POST", "/auth/email/verify", moved)).status == 204
    user_id = session["user"]["user_id"]
    assert [event[0] for event in events(mail)] == [
        "registered",
        "email_verified",
        "signed_in",
        "email_change_requested",
        "email_changed",
    ]
    assert {event[2] for event in events(mail)[1:]} == {user_id}


async def test_what_an_owner_does_is_recorded(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    other = await house.sign_in()
    sid: Any = told(await house.ask("GET", "/auth/me", token=other["access_token"]))["session_id"]
    token = session["access_token"]
    assert (await house.ask("DELETE", f"/auth/sessions/{sid}", token=token)).status == 204
    body = {"password": PASSWORD, "new_password": OTHER}
    assert (await house.ask("POST", "/auth/password/change", body, token=token)).status == 204
    assert events(house)[2:] == [
        ("session_ended", "ok", account.id),
        ("password_changed", "ok", account.id),
    ]


async def test_registering_and_signing_out_are_recorded(house: House) -> None:
    body = told(await house.ask("POST", "/auth/register", CREDENTIALS))
    session = await house.sign_in()
    assert (await house.ask("POST", "/auth/logout", token=session["access_token"])).status == 204
    assert [event[0] for event in events(house)] == ["registered", "signed_in", "signed_out"]
    registered, signed_in, signed_out = house.recorded.events
    assert registered.subject == signed_in.subject == body["user_id"]
    assert signed_out.detail["sid"] == signed_in.detail["sid"]


async def test_a_registration_by_mail_is_recorded_alike_for_every_address(mail: House) -> None:
    await mail.register()
    await mail.ask("POST", "/auth/register", CREDENTIALS)
    await mail.ask("POST", "/auth/register", {"email": "alicf@example.com", "password": PASSWORD})
    known, unknown = mail.recorded.events
    assert (known.kind, known.subject, set(known.detail)) == (
        unknown.kind,
        unknown.subject,
        set(unknown.detail),
    )
